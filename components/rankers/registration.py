"""Which rankers and parts are there? Each is one config class; ours stand beside their modules, others are installed.

A class is registered by the words behind its bases: ``class Din(SequenceConfig, name="din", builds="module:Class")``.
Ours are found in the `config.py` of every folder of this room, those of other packages under the entry points. Nothing
here imports torch, and what is broken in a package takes nothing else with it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import ConfigDict

from components.platform.contract import ComponentConfig
from components.platform.errors import BadInputError, did_you_mean
from components.platform.offers import Offers, read_offers
from components.platform.sources import own_digest

RANKER = "ranker"
ENTRY_POINTS = {True: "rankmill.rankers", False: "rankmill.parts"}
"""Entry-point groups of other packages, of rankers and of parts: name = ``package.config:Class``."""


class Registered(ComponentConfig):
    """Base of the configs that a `ranker:` block names: what can be chosen, and by which class it is built.

    A subclass with a `name` is registered: `name` is what YAML says, `builds` the ``package.module:Class`` that is
    imported when a ranker is built.
    """

    model_config = ConfigDict(defer_build=True)

    kind: ClassVar[str] = ""
    """What it is: a ranker, or the key of a part (``sequence``)."""
    called: ClassVar[str] = ""
    """Its name in YAML."""
    builds: ClassVar[str] = ""

    def __init_subclass__(cls, name: str = "", builds: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name:
            cls.called = name
        if builds:
            cls.builds = builds


@dataclass(frozen=True)
class Offer:
    """A ranker or a part of another package."""

    name: str
    config: type[Registered]
    package: str = ""
    """Name and version of the package."""

    @property
    def code(self) -> str:
        """What stands for its code in a cache key and beside its weights: package, version and source digest."""
        return f"{self.package or 'no package'} {own_digest(self.config.builds.partition('.')[0])[:16]}"


@cache
def ours() -> Mapping[str, Mapping[str, type[Registered]]]:
    """Return the classes of this room: kind → name → class, in the order of their files."""
    found: dict[str, dict[str, type[Registered]]] = {}
    for file in sorted(Path(__file__).parent.glob("*/config.py")):
        module = importlib.import_module(f"{__package__}.{file.parent.name}.config")
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, Registered) and "called" in vars(thing):
                found.setdefault(thing.kind, {})[thing.called] = thing
    return MappingProxyType(found)


@cache
def installed() -> Any:
    """Return every entry point there is: looking through the installed packages costs more than all else here."""
    return entry_points()


@cache
def offered(rankers: bool) -> Offers[Offer]:
    """Return the rankers, or the parts of every kind, of installed packages."""
    taken = [name for kind, names in ours().items() if (kind == RANKER) == rankers for name in names]

    def read(thing: object) -> Offer:
        if not (isinstance(thing, type) and issubclass(thing, Registered) and thing.called):
            raise BadInputError("is no config class with a name")
        if (thing.kind == RANKER) != rankers:
            raise BadInputError(f"is a {thing.kind}, and belongs under the entry points {ENTRY_POINTS[not rankers]!r}")
        return Offer(thing.called, thing)

    def adopted(offer: Offer, package: str, _: str) -> Offer:
        module, _, made = offer.config.builds.partition(":")
        if "." not in module or not made:
            raise BadInputError(f"builds {offer.config.builds!r}, which is no package.module:Class")
        if find_spec(module.partition(".")[0]) is None:
            raise BadInputError(f"builds {offer.config.builds!r}, which is not installed")
        return Offer(offer.name, offer.config, package)

    noun = RANKER if rankers else "part"
    return read_offers(installed().select(group=ENTRY_POINTS[rankers]), read, noun, taken, adopted)


def registered(kind: str) -> dict[str, type[Registered]]:
    """Return the classes of a kind by name, ours first."""
    others = {name: offer.config for name, offer in offered(kind == RANKER).usable.items() if offer.config.kind == kind}
    return {**ours().get(kind, {}), **others}


def fault_of(kind: str, name: str) -> str | None:
    """Return in one sentence why nothing of a kind can be chosen by `name`, or None when it can."""
    known, refused = registered(kind), offered(kind == RANKER).refused
    if name in refused and (kind == RANKER or name not in known):
        return refused[name]
    return None if name in known else f"no {kind} {name!r}{did_you_mean(name, known)}"


def code_of(kind: str, name: str) -> str:
    """Return what stands for the code of a choice of another package; empty for one of ours."""
    offer = offered(kind == RANKER).usable.get(name)
    return offer.code if offer is not None and name not in ours().get(kind, {}) else ""


def load(config: type[Registered]) -> Any:
    """Return the class that a config builds.

    Raises:
        BadInputError: it cannot be imported.
    """
    module, _, name = config.builds.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadInputError(
            f"{config.kind} {config.called!r} is {config.builds}, which cannot be imported ({error}): "
            "repair that package"
        ) from error
