"""What do installed packages offer under an entry-point group, and what of it cannot be used, and why?

Reading the group imports the modules that are offered, so those must be as light as a `config.py` of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from components.platform.errors import BadInputError


class Named(Protocol):
    """Whatever has a name."""

    @property
    def name(self) -> str:
        """The name that a pipeline would write."""
        ...


T = TypeVar("T", bound=Named)


@dataclass(frozen=True)
class Offers(Generic[T]):
    """What installed packages offer."""

    usable: Mapping[str, T]
    """By name what can be used."""
    refused: Mapping[str, str]
    """By name one sentence why it cannot be used: its package is broken, or two claim the name; a name of ours is here
    only when a package claims it as well."""


def read_offers(
    entries: Iterable[EntryPoint],
    read: Callable[[object], T],
    noun: str,
    ours: Iterable[str],
    adopt: Callable[[T, str, str], T],
) -> Offers[T]:
    """Load what entry points offer; one that is broken takes nothing else with it.

    Args:
        entries: of one group.
        read: gets what an entry names; returns it as what it must be, or raises a `BadInputError` as `adopt` does.
        noun: what it is called in sentences.
        ours: names of this repository.
        adopt: gets the thing, its package's name and version, and its package's top module; returns it as it is to be
            used, or raises a `BadInputError` with a sentence that follows the origin.
    """
    found: dict[str, T] = {}
    refused: dict[str, str] = {}
    broken: list[tuple[str, str, str]] = []
    ours = {*ours}
    origins = dict.fromkeys(ours, "Rankmill itself")
    for entry in sorted(entries, key=lambda entry: (entry.name, entry.value)):
        package = _package(entry)
        origin = f"package {package or 'of unknown name'} ({entry.value})"
        try:
            thing = _named(read(entry.load()))
            if thing.name in origins:
                refused[thing.name] = (
                    f"{noun} {thing.name!r} is offered by {origins[thing.name]} and by {origin}: "
                    "uninstall one package, or give one of them another name"
                )
                continue
            found[thing.name] = adopt(thing, package, entry.value.partition(":")[0].partition(".")[0])
            origins[thing.name] = origin
        except Exception as error:  # whatever a stranger's module raises, other packages go on working
            expected = isinstance(error, BadInputError)
            said = str(error) if expected else f"fails to load ({type(error).__name__}: {error})"
            sentence = f"{noun} {entry.name!r} of {origin} {said}: repair or uninstall that package"
            broken.append((entry.name, package, sentence))
    for name, package, sentence in broken:
        # What could not be loaded is called like its entry, unless that name means something that works.
        refused[f"{name} of {package}" if name in origins else name] = sentence
    usable = {name: thing for name, thing in found.items() if name not in refused}
    return Offers(MappingProxyType(usable), MappingProxyType(refused))


def _named(thing: T) -> T:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", thing.name):
        raise BadInputError(f"has the name {thing.name!r}, which is no lower-case word such as `count_rows`")
    return thing


def _package(entry: EntryPoint) -> str:
    """Return name and version of the package of an entry point; empty when it belongs to none."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
