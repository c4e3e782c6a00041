"""Which rankers do installed packages offer? Read without torch, and what is broken takes nothing else with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from components.platform.errors import BadInputError
from components.platform.offers import Offers, read_offers
from components.platform.sources import own_digest

ENTRY_POINTS = "rankmill.rankers"
"""Entry-point group of rankers of other packages: name = ``package.module:RANKER``, a `RankerSpec`."""


@dataclass(frozen=True)
class RankerSpec:
    """A ranker of another package, as light as a config.

    Attributes:
        name: what `ranker: {name: …}` says.
        module: ``package.module:Class`` of its `RankerModule`, imported only when a ranker is built.
        options: keys of the `ranker:` block that it understands, besides `name`; others are refused.
        defaults: value of each of those keys that a pipeline leaves out.
        package: name and version of the installed package, filled in when it is found.
    """

    name: str
    module: str
    options: frozenset[str] = frozenset()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""

    @property
    def code(self) -> str:
        """What stands for its code in a cache key and beside its weights: package, version and source digest."""
        return f"{self.package or 'no package'} {own_digest(self.module.partition('.')[0])[:16]}"


@cache
def offered_rankers(ours: frozenset[str], keys: frozenset[str]) -> Offers[RankerSpec]:
    """Return the rankers of installed packages.

    Args:
        ours: names of the rankers of this repository.
        keys: keys that a `ranker:` block may have.
    """

    def adopted(spec: RankerSpec, package: str, _: str) -> RankerSpec:
        module, _, name = spec.module.partition(":")
        if "." not in module or not name:
            raise BadInputError(f"has the module {spec.module!r}, which is no package.module:Class")
        if find_spec(module.partition(".")[0]) is None:
            raise BadInputError(f"has the module {spec.module!r}, which is not installed")
        if unknown := sorted(spec.options - keys):
            raise BadInputError(f"has the option {unknown[0]!r}, which is no key of a ranker: block")
        if unread := sorted(spec.defaults.keys() - spec.options):
            raise BadInputError(f"has a default for {unread[0]!r}, which is not among its options")
        return replace(spec, package=package)

    return read_offers(entry_points(group=ENTRY_POINTS), RankerSpec, "ranker", ours, adopted)
