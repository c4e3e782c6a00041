"""What does `watch_drift` take and give? Labelled rows of a window in, a report of its days and an alarm out."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import DriftAlarm, DriftReport, LabelledRows
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Frozen, Name
from features.ground.durations import Duration

DAY = timedelta(days=1)


class Limits(Frozen):
    """The largest change of each kind that nobody minds; null leaves a check out."""

    moved: float | None = Field(0.02, ge=0)
    """Fields and scores: PSI less what chance gives. A value that goes from 5 to 10 % of the rows is .037, a mean that
    moves by .3 standard deviations .09."""
    missing: float | None = Field(0.02, ge=0, lt=1)
    """Fields: by how much the share of rows without a value, or with one that training never held, may grow."""
    level: float | None = Field(0.1, gt=0)
    """Scores: relative change of the mean prediction."""
    calibration: float | None = Field(0.1, gt=0)
    """Relative change of predicted over observed, against the version's own evaluation."""
    ranking: float | None = Field(0.01, ge=0, lt=1)
    """Loss of AUC (GAUC where rankers are judged by it) against the version's own evaluation."""
    memory: float | None = Field(0.01, ge=0)
    """Relative loss of log-loss of the answers through the error memory against those before it; of a log."""
    skew: float | None = Field(0.01, ge=0, lt=1)
    """Share of rows that may differ from training: a log's to which the version's files answer otherwise than the
    service did, and those in which a feature is not what `joined` says."""
    traffic: float | None = Field(0.3, gt=0)
    """Relative change of rows and users against the same weekday of earlier weeks of the window."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("every limit is null, so that nothing would be watched: give one of them a number")
        return self


class Config(ComponentConfig):
    """Whose baseline days are compared with, and how much change is an alarm."""

    model: Name
    """Registered model."""
    version: Name | int = "champion"
    """Alias or number of the version whose baseline it is."""
    every: Duration = DAY
    """How much time is judged at once, in whole days; the last such span of the window is the one that may alarm."""
    false_alarms: float = Field(0.01, gt=0, le=0.2)
    """How likely a day without any drift may give an alarm, over all its cells together."""
    limits: Limits = Limits()
    """The largest changes that nobody minds."""
    min_rows: int = Field(1000, ge=1)
    """Rows that a day, and a domain within it, needs to be judged."""
    min_users: int = Field(30, ge=2)
    """Equally active users that they must be worth."""
    most_rows: int = Field(200_000, ge=1000)
    """Rows of a day that are looked at; of a larger one a share of the users, all rows of each."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores rows without answers, and asks a log's rows again."""

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        if self.every % DAY:
            raise ValueError("every must be whole days, such as 1d or 7d: a window is whole days of UTC")
        return self


class Inputs(Ports):
    """Labelled rows: of a service's log, as `ingest_served` gives them, or a training set."""

    rows: LabelledRows
    joined: LabelledRows | None = None
    """The same rows with features joined as of their time, as `build_training_set` makes them of the log's events."""


class Outputs(Ports):
    """What was found, and the alarm that pipelines may wait for."""

    report: DriftReport
    alarm: DriftAlarm


COMPONENT = ComponentSpec(
    name="watch_drift",
    version="1",
    summary="Compare each day of a served log or of labelled rows with the baseline of a version, and raise an alarm.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.judge.watch_drift.component:run",
    cacheable=False,
    windowed=True,
)
