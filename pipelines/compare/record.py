"""What was measured, and on which machine? One JSON file per comparison with every figure of every seed."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from components.platform.errors import BadInputError, MissingError
from features.declaration import Frozen, JudgeBy, Name
from features.ground.files import write_durably


class Measured(Frozen):
    """One run: one entry, one seed."""

    seed: int
    """Seed of the weights and, where the split is random, of the split."""
    key: str
    """Cache key of the stage that trained."""
    test: dict[Name, dict[str, float | None]]
    """By task and metric, over all test rows; None where it is undefined."""
    validation: dict[Name, float]
    """What rankers are judged by, by task."""
    epoch: int | None = None
    """Epoch that was kept; None for a baseline."""
    epochs: int | None = None
    """Epochs that were trained."""
    epoch_seconds: float | None = None
    """Mean seconds of a pass over the training split."""
    fit_seconds: float | None = None
    """Seconds of a baseline's whole fit."""
    embedding: int | None = None
    """Learned numbers in embedding tables."""
    dense: int | None = None
    """Other learned numbers."""
    leaves: int | None = None
    """Leaves of a baseline's trees."""


class Tried(Frozen):
    """A candidate of a grid, on the first seed."""

    change: dict[str, Any]
    score: float | None
    """Mean over the feedback of what rankers are judged by, on validation."""


class Row(Frozen):
    """One entry."""

    config: dict[str, Any]
    """The config that was chosen, without its seed."""
    tried: tuple[Tried, ...] = ()
    """The grid, in its order; empty without one."""
    runs: tuple[Measured, ...]
    """One per seed, in the order of the seeds."""
    machine: str
    """Where it ran."""


class Data(Frozen):
    """The training set of the first seed."""

    feedback: tuple[Name, ...]
    """Labels, shallow to deep."""
    tasks: tuple[Name, ...]
    """What is predicted."""
    split: str
    """How rows were divided, in words."""
    rows: dict[str, int]
    """By split."""
    rates: dict[str, dict[str, float]]
    """Share of positives by split and feedback."""
    unseen_users: float
    """Share of test rows whose user training never saw."""
    fields: int
    """Inputs of the rankers."""
    judge_by: JudgeBy = Field("auc", exclude_if=lambda metric: metric == "auc")
    """Metric that chose epochs and configs on validation, and that the tables are ordered by."""
    weighted: bool = Field(False, exclude_if=lambda weighted: not weighted)
    """Whether test figures count rows by their weights."""
    at: AwareDatetime | None = Field(None, exclude_if=lambda moment: moment is None)
    """Time that the data is for; None where it was the time of the comparison."""


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


def describe_machine() -> str:
    """Return one line, e.g. ``Intel Xeon, 2 cores, 23 GiB, 2 threads; torch 2.13.0``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = f", {os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    s = "" if cores == 1 else "s"
    return f"{_processor()}, {cores} core{s}{memory}, {cores} thread{s} per training worker; torch {version('torch')}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
