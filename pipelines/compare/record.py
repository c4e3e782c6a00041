"""What was measured? One JSON file per comparison with every figure of every seed, from which pages are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from components.platform.errors import BadInputError, MissingError
from features.declaration import Frozen, Name
from features.ground.files import write_durably


class Measured(Frozen):
    """One run: one entry, one seed.

    Attributes:
        seed: seed of the weights and, where the split is random, of the split.
        key: cache key of the stage that trained.
        test: by task and metric, over all test rows; None where it is undefined.
        validation: AUC by task.
        epoch: epoch that was kept; None for a baseline.
        epochs: epochs that were trained.
        epoch_seconds: mean seconds of a pass over the training split.
        fit_seconds: seconds of a baseline's whole fit.
        embedding: learned numbers in embedding tables.
        dense: other learned numbers.
        leaves: leaves of a baseline's trees.
    """

    seed: int
    key: str
    test: dict[Name, dict[str, float | None]]
    validation: dict[Name, float]
    epoch: int | None = None
    epochs: int | None = None
    epoch_seconds: float | None = None
    fit_seconds: float | None = None
    embedding: int | None = None
    dense: int | None = None
    leaves: int | None = None


class Tried(Frozen):
    """A candidate of a grid and its mean validation AUC over the feedback, on the first seed."""

    change: dict[str, Any]
    score: float


class Row(Frozen):
    """One entry.

    Attributes:
        config: the config that was chosen, without its seed.
        tried: the grid, in its order; empty without one.
        runs: one per seed, in the order of the seeds.
        machine: where it ran.
    """

    config: dict[str, Any]
    tried: tuple[Tried, ...] = ()
    runs: tuple[Measured, ...]
    machine: str


class Data(Frozen):
    """The training set of the first seed.

    Attributes:
        feedback: labels, shallow to deep.
        tasks: what is predicted.
        split: how rows were divided, in words.
        rows: by split.
        rates: share of positives by split and feedback.
        unseen_users: share of test rows whose user training never saw.
        fields: inputs of the rankers.
    """

    feedback: tuple[Name, ...]
    tasks: tuple[Name, ...]
    split: str
    rows: dict[str, int]
    rates: dict[str, dict[str, float]]
    unseen_users: float
    fields: int


class Record(Frozen):
    """A comparison as it was measured."""

    name: Name
    data: Data
    rows: dict[Name, Row]


def read_record(path: Path) -> Record:
    """Return the record in a file.

    Raises:
        MissingError: there is no such file.
        BadInputError: it is not a record.
    """
    try:
        return Record.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"nothing is recorded in {path}: run `rankmill compare {path.stem}` first") from None
    except (ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInputError(f"{path} is not a record of a comparison ({reason}): delete it and run again") from None


def write_record(path: Path, record: Record) -> None:
    """Replace a record; equal records make equal bytes."""
    write_durably(path, record.model_dump_json(indent=1, exclude_none=False) + "\n")


def merged(old: Record | None, new: Record) -> Record:
    """Return the new record, with the rows of an old one of the same data that were not measured again."""
    if old is None or old.data != new.data:
        return new
    return new.model_copy(update={"rows": old.rows | new.rows})
