"""What do the stage, the tuning process and its trials tell each other? Small JSON files in one directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from components.train.train_ranker.config import Config as TrainConfig
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.job import Failure, RayJob, TrainingJob, read_progress
from components.train.tune_ranker.config import Config
from components.train.tune_ranker.rungs import stopped
from components.train.tuned import Value, changed, training_config
from features.declaration import Frozen, JudgeBy
from features.ground.files import write_durably

TRIALS = "trials.jsonl"
TRIAL = "trial.json"
Kind = Literal["own", "search", "repeat"]
State = Literal["done", "stopped", "failed"]


class TuningJob(RayJob):
    """Everything the tuning process needs."""

    module: ClassVar[str] = "components.train.tune_ranker.tuner"
    config: Config
    """The `with:` block."""
    judge_by: JudgeBy
    """What the training set says to judge rankers by."""
    feedback: tuple[str, ...]
    """Its feedback."""

    def folder(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.directory / "trials" / f"{number:05d}"


class Planned(Frozen):
    """A trial that is to be made."""

    number: int
    """From 0, in the order in which they were chosen."""
    kind: Kind
    """With the knobs as the stage has them, with values of the space, or one of the best with another seed."""
    values: dict[str, Value]
    """By path of the knob."""
    seed: int
    """Of initial weights and of the row order."""
    of: int | None = None
    """Number of the trial that it repeats."""
    cutoffs: dict[int, float] = Field(default_factory=dict)
    """Value that must be reached after an epoch for the trial to go on; more is better."""


class Judge(Frozen):
    """What a trial is worth, as its epochs say."""

    metric: JudgeBy
    tasks: tuple[str, ...]
    """Over which it is averaged."""

    def value(self, report: EpochReport) -> float | None:
        """Return the value of an epoch, None where it is not defined for one of the tasks."""
        values = [report.metrics.get(f"validation/{task}/{self.metric}") for task in self.tasks]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def better(self, value: float) -> float:
        """Return a value with the sign that makes more of it better."""
        from registry.evaluation import goodness

        return goodness(self.metric, value)

    def best(self, history: Sequence[EpochReport]) -> tuple[float, ...]:
        """Return after each epoch the value of the epoch that training would keep, with the sign of `better`.

        Empty where it is not defined.
        """
        found: list[float] = []
        for report in history:
            value = self.value(report)
            if value is None:
                return ()
            found.append(self.better(value) if report.best or not found else found[-1])
        return tuple(found)


class TrialJob(Frozen):
    """Everything a trial needs; `trial.json` of its folder."""

    trial: Planned
    training: TrainingJob
    judge: Judge
    on_gpu: bool = False

    def write(self) -> Path:
        """Write the trial into its folder and return the file."""
        path = self.training.directory / TRIAL
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, self.model_dump_json(indent=2))
        return path


class Record(Planned):
    """A trial that is over; one line of `trials.jsonl`."""

    state: State
    epochs: tuple[EpochReport, ...]
    value: float | None = None
    """Validation value of the epoch that it kept."""
    kept: int | None = None
    """That epoch."""
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether it has a value."""
        return self.value is not None


def training_of(job: TuningJob, trial: Planned, block: dict[str, object]) -> TrainingJob:
    """Return the training that a trial is: that of `train_ranker` with one worker, in a folder of its own.

    Args:
        job: the search.
        trial: what is tried.
        block: `with:` block of `train_ranker` that holds what is not.

    Raises:
        ValidationError: the values do not go together.
    """
    config: TrainConfig = training_config(changed(block, trial.values | {"seed": trial.seed}))
    return TrainingJob(
        name=f"trial-{trial.number}", dataset=job.dataset, directory=job.folder(trial.number), config=config
    )


def record_of(trial: Planned, judge: Judge, directory: Path, lost: str = "") -> Record:
    """Return how a trial came out, from the files that it left.

    Args:
        trial: what was tried.
        judge: how it is judged.
        directory: its folder.
        lost: why its process is gone, if it did not end by itself.
    """
    lines = read_progress(directory)
    history = tuple(line.report for line in lines)
    seconds = sum(line.seconds for line in lines)
    failure = Failure.read(directory)
    best = judge.best(history)
    reason = lost or (str(failure) if failure else "") or ("" if history else "it made no epoch")
    if not reason and not best:
        reason = f"{judge.metric} is not defined on validation"
    made = trial.model_dump()
    if reason:
        return Record(**made, state="failed", epochs=history, reason=reason, seconds=seconds)
    kept = next(report for report in reversed(history) if report.best)
    state: State = "stopped" if stopped(best, trial.cutoffs) else "done"
    return Record(**made, state=state, epochs=history, value=judge.value(kept), kept=kept.epoch, seconds=seconds)


def append_record(directory: Path, record: Record) -> None:
    """Add one line to the file of trials, so that it is there after a crash."""
    import os

    with (directory / TRIALS).open("a", encoding="utf-8") as stream:
        stream.write(record.model_dump_json() + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read_records(directory: Path, skip: int = 0) -> list[Record]:
    """Return the trials that are over, as they ended, after the first `skip`; half a line is none."""
    path = directory / TRIALS
    if not path.exists():
        return []
    complete = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [Record.model_validate_json(line) for line in complete[skip:]]


def mend(directory: Path) -> None:
    """Take away half a line that a killed process left at the end of the file of trials."""
    path = directory / TRIALS
    if path.exists() and not (text := path.read_text(encoding="utf-8")).endswith("\n") and text:
        write_durably(path, text[: text.rfind("\n") + 1])
