"""Which registered versions stay when `rankmill gc` cleans up? As many, and for as long, as a profile says.

A version that goes keeps nothing in the artifact store any more; with its records it leaves MLflow too. What answers,
what one may roll back to and what was made lately always stays.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING

from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from components.platform.store.collect import Stored
from pipelines.language.profile_spec import VARIABLES

if TYPE_CHECKING:
    from registry.versions.client import ListedVersion

DAYS = 30
"""Days that artifacts and records stay where nobody says otherwise."""


@dataclass(frozen=True)
class Retention:
    """What stays whatever refers to it."""

    days: int = DAYS
    """What was made or used within so many days stays."""
    versions: int | None = None
    """So many versions of each model stay, the newest; None keeps all."""
    champions: int | None = None
    """Of the champions that one may roll back to, so many stay, the nearest; None keeps all."""

    @classmethod
    def of(cls, environ: Mapping[str, str] | None = None, **given: int | None) -> Retention:
        """Return what the variables of a profile's `keep` say, but for what is given here.

        Raises:
            BadInputError: a variable holds no number that fits.
        """
        env = os.environ if environ is None else environ
        variables = {field.name: VARIABLES["keep", field.name] for field in fields(cls)}
        said = {
            name: _count(variable, env[variable], name) for name, variable in variables.items() if env.get(variable)
        }
        return cls(**{**said, **{name: value for name, value in given.items() if value is not None}})

    def __str__(self) -> str:
        parts = [f"{self.days} days"]
        parts += [f"the newest {self.versions} versions of each model"] if self.versions is not None else []
        parts += [f"{self.champions} former champions"] if self.champions is not None else []
        return ", ".join(parts)


def _count(variable: str, text: str, name: str) -> int:
    least = 0 if name == "champions" else 1
    if not text.isdecimal() or int(text) < least:
        raise BadInputError(f"{variable} is {text!r}: set it to a whole number of at least {least}, or leave it out")
    return int(text)


@dataclass(frozen=True)
class Versions:
    """The registered versions of all models, by whether they stay."""

    stay: tuple[ListedVersion, ...]
    go: tuple[ListedVersion, ...]


def recent(stages: Iterable[Stored], since: datetime) -> frozenset[str]:
    """Return the contents that a run has made or taken from the store since a moment."""
    used = (stage for stage in stages if stage.record and stage.used is not None and stage.used >= since)
    return frozenset(ref.digest for stage in used if stage.record for ref in stage.record.outputs.values())


def judged(settings: Settings, retention: Retention, since: datetime, used: Collection[str]) -> Versions:
    """Return which versions stay and which go.

    Args:
        settings: where the registry and the ledger are.
        retention: how many stay.
        since: versions that are younger stay, UTC.
        used: contents whose versions stay too: a run may take from the store that it registered them.

    Raises:
        RankmillError: the registry or the ledger cannot be read; then nothing may be deleted.
    """
    from registry.versions.client import Registry

    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    stay: list[ListedVersion] = []
    go: list[ListedVersion] = []
    try:
        models = registry.models()
    except MissingError:  # nothing was ever registered
        return Versions((), ())
    for model in models:
        listed = registry.versions(model)
        numbers = _kept(settings, model, listed, retention, since, used)
        for one in listed:
            (stay if one.version.version in numbers else go).append(one)
    return Versions(tuple(stay), tuple(go))


def _kept(
    settings: Settings,
    model: str,
    listed: Collection[ListedVersion],
    retention: Retention,
    since: datetime,
    used: Collection[str],
) -> set[int]:
    own = [one for one in listed if one.version.digest]
    kept = {one.version.version for one in listed if not one.version.digest}  # those of others are not ours to judge
    if retention.versions is None:
        return kept | {one.version.version for one in own}
    kept |= {one.version.version for one in own[-retention.versions :]}
    kept |= {one.version.version for one in own if one.aliases or one.version.digest in used}
    kept |= {one.version.version for one in own if one.version.created_at >= since}
    return kept | {*_former(settings, model, own, retention.champions)}


def _former(settings: Settings, model: str, own: Collection[ListedVersion], most: int | None) -> Iterator[int]:
    """Yield the versions that one may roll back to, the nearest `most` of them."""
    from registry.champion.ledger import Ledger, predecessors

    contents = {one.version.digest: one.version.version for one in own}
    line = [
        contents[one.digest] for one in predecessors(Ledger(settings.ledger).entries(model)) if one.digest in contents
    ]
    yield from [*dict.fromkeys(line)][:most]
