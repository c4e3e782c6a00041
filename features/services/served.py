"""Where does a server get each column of a model's rows, and how old may it be? What `features.json` of a model says.

A training set joins its features in a certain way: from certain views, by certain keys, none older than a TTL, and as
fresh as the pipeline keeps them. A model that travels without saying so can be given rows by hand, but nobody can fetch
them for it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from features.declaration import Frozen, Name
from features.ground.durations import Duration, written
from features.ground.errors import BadInputError

FEATURES = "features.json"
"""Name of the file in a training set and in a model."""


class Freshness(Frozen):
    """How old features are when they are served: those of the last materialisation, and not of the last event."""

    every: Duration
    """How often features are materialised, counted from 1970-01-01 00:00 UTC: `1d` ends at midnight."""
    lag: Duration | None = None
    """How long after that moment they are there to be read; none when left out."""

    @model_validator(mode="after")
    def _at_least_a_second(self) -> Freshness:
        if self.every < timedelta(seconds=1):
            raise ValueError("every must be at least 1s")
        return self

    def __str__(self) -> str:
        return f"every {written(self.every)}" + (f", {written(self.lag)} later" if self.lag else "")


def freshness_of(dataset: Path) -> str:
    """Return how old the features of a training set are, in words for reports; empty where it does not say."""
    served = read_served(dataset)
    if served is None:
        return ""
    if served.freshness is None:
        return "streaming, every event before the impression"
    return f"as materialised {served.freshness}"


class ServedColumn(Frozen):
    """One raw column that a model's rows have."""

    name: Name
    """Column of the raw rows, and of a request that gives it."""
    dtype: str
    """Feast dtype, such as ``int64`` or ``array<string>``; ``unix_timestamp`` of times."""
    view: str | None = None
    """Feature view that holds it; None where only the caller knows it."""
    keys: tuple[Name, ...] = ()
    """Columns that its view is looked up by."""
    ttl_days: int = Field(0, ge=0)
    """Age in days after which a value counts as missing; 0 never."""


class ServedFeatures(Frozen):
    """What `features.json` holds: the columns of the raw rows that a model was trained on, and where they come from."""

    service: Name
    """Feast feature service that they were joined from."""
    definitions: str
    """sha256 over the service's features, views and keys: a server whose definitions differ reads something else."""
    freshness: Freshness | None = None
    """How old features were in training; None means as new as can be, every event before the impression."""
    columns: tuple[ServedColumn, ...]
    """Sorted by name; no labels."""

    @property
    def by_name(self) -> dict[str, ServedColumn]:
        """The columns by name."""
        return {column.name: column for column in self.columns}

    @property
    def views(self) -> dict[str, tuple[ServedColumn, ...]]:
        """The columns of each view."""
        found: dict[str, tuple[ServedColumn, ...]] = {}
        for column in self.columns:
            if column.view is not None:
                found[column.view] = (*found.get(column.view, ()), column)
        return found


def read_served(directory: Path, called: str = "") -> ServedFeatures | None:
    """Return `features.json` of a folder, or None where its rows can only be given by hand.

    Raises:
        BadInputError: the file cannot be read.
    """
    try:
        return ServedFeatures.model_validate_json((directory / FEATURES).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        where = f"{FEATURES} of {called}" if called else str(directory / FEATURES)
        raise BadInputError(
            f"{where} cannot be read ({error.errors()[0]['msg']}): build the training set and export the model again"
        ) from error
