"""Which columns does a stage publish and ask for, as far as its config alone tells? What `validate` judges names by.

A component may say so with a `Flow`: two light functions beside its config. What it cannot tell, because a value is
only known when the stage runs, it leaves out, and nobody judges it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from components.platform.errors import did_you_mean

Role = Literal["user", "item", "timestamp", "feedback", "domain", "request", "key", "other"]
"""What a column is for; `feedback` is known only after the impression, `key` belongs to the entity of a feature."""


@dataclass(frozen=True)
class Column:
    """One column."""

    dtype: str = ""
    """Its type as Feast names it, such as ``int64`` or ``array<string>``; ``timestamp`` for a time, empty where it is
    not known."""
    role: Role = "other"
    kind: str = ""
    """How a training set encodes it where that was said, such as ``elapsed``."""
    auxiliary: bool = False
    """Whether a ranker does not read it unless it is asked for by name."""


@dataclass(frozen=True)
class Columns:
    """The columns of an artifact."""

    known: Mapping[str, Column] = field(default_factory=dict)
    whole: bool = True
    """Whether there are no others."""
    tasks: tuple[str, ...] = ()
    """Probabilities that a ranker of these rows predicts; empty where that is not known."""
    timed: bool = True
    """Whether its rows have a time of their own."""
    logs: Mapping[str, Columns] | None = None
    """Columns of the further logs of an events table, by name; None where they are not known."""
    weighted: bool | None = None
    """Whether rows of a training set have weights; None where that is not known."""
    vectors: bool | None = None
    """Whether values of a training set have vectors; None where that is not known."""

    def absent(self, name: str) -> str | None:
        """Return ``no column 'x' (did you mean 'y'?)`` when there is certainly no such column, else None."""
        if name in self.known or not self.whole:
            return None
        return f"no column {name!r}{did_you_mean(name, self.known)}"


def published(dtypes: Mapping[str, str], roles: Mapping[str, Role]) -> Columns:
    """Return columns that are the same whatever the config says."""
    known = {name: Column(family(word), roles.get(name, "other")) for name, word in dtypes.items()}
    return Columns(known)


def family(dtype: str) -> str:
    """Return the type that ids of a type are compared as: whole numbers of any width are ``int64``."""
    return "int64" if dtype.removeprefix("u").startswith("int") else dtype


@dataclass(frozen=True)
class Fault:
    """A name in a config that means nothing."""

    where: tuple[str | int, ...]
    """Path of keys below `with:`."""
    message: str
    at: Literal["value", "key"] = "value"
    """Whether the value is wrong or its key."""


def absent_weights(dataset: Columns | None, *where: str) -> Iterator[Fault]:
    """Yield that figures are asked for by weights which the rows of a training set certainly have not."""
    if dataset is not None and dataset.weighted is False:
        message = "weighted: the training set has no weights; declare some in build_training_set, or leave weighted out"
        yield Fault(where, message)


def _nothing(config: Any, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {}


def _no_fault(config: Any, inputs: Mapping[str, Columns]) -> Iterable[Fault]:
    return ()


@dataclass(frozen=True)
class Flow:
    """What a component knows about columns from its config alone. Imports nothing heavy."""

    gives: Callable[[Any, Mapping[str, Columns]], Mapping[str, Columns]] = _nothing
    """Called as ``(config, inputs)`` with what is known of its inputs by port; returns what is known of its outputs by
    port."""
    asks: Callable[[Any, Mapping[str, Columns]], Iterable[Fault]] = _no_fault
    """Called alike; returns what in the config names something that the inputs do not have."""


UNKNOWN = Flow()
"""Of a component that tells nothing."""
