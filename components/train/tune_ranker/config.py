"""What does `tune_ranker` take and give? A training set and a search space in, the best values and every trial out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from components.platform.artifacts import TrainingSet, Tuned
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.errors import did_you_mean
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Learning
from components.train.tune_ranker.space import Space, dimensions, faults, named_knobs, size
from components.train.tuned import block_of, training_config, value_at
from features.declaration import JudgeBy
from features.ground.durations import Duration

_METRIC = re.compile(r"validation/(?P<first>[a-z][a-z0-9_]*)/(?P<second>[a-z][a-z0-9_]*)")
MEAN = "mean"
"""Last word of a metric that is the mean over the feedback."""


class StopEarly(ComponentConfig):
    """When a trial that falls behind is stopped: successive halving."""

    after_epochs: int = Field(1, ge=1)
    """Epochs that every trial gets; the next look is `1 / keep` times as late, and so on."""
    keep: float = Field(0.34, gt=0, lt=1)
    """Share of the trials of earlier batches that a trial must be among to go on."""


class Config(Learning):
    """What to search, how, and the knobs that every trial shares."""

    ranker: RankerConfig
    """Which ranker."""
    space: Space = Field(min_length=1, json_schema_extra=named_knobs())
    """Path of a knob, such as `learning_rate`, `tables.optimiser` or `ranker.dropout` → a list of values, a range
    `{from: 0, to: 0.5}`, or `{log: [0.0001, 0.01]}` where orders of magnitude count."""
    trials: int = Field(16, ge=2, le=10_000)
    """Most trials. The first has the knobs as they stand here, so that the page can say what tuning was worth."""
    at_once: int = Field(1, ge=1, le=512)
    """Trials that run beside each other, each on one processor. Changes the time, not the result."""
    batch: int = Field(4, ge=1, le=512)
    """Trials that are chosen before a result of any of them counts; with `at_once` above it trials wait for each
    other."""
    metric: str | None = None
    """What trials are judged by on validation: `validation/TASK/METRIC`, or `validation/METRIC/mean` over the feedback.
    Left out, the mean of what the training set says to `judge_by`."""
    stop_early: StopEarly | None = None
    """When a trial that falls behind is stopped; left out, every trial goes to its end."""
    search: Literal["random", "grid", "optuna"] = "random"
    """`random` draws, `grid` tries every combination of lists, `optuna` learns from earlier batches (TPE; the extra
    `tune` installs it)."""
    budget: Duration | None = None
    """Time after which no trial starts, such as `2h`; those that run, and the repeats, go on to their end."""
    repeat_best: int = Field(0, ge=0, le=20)
    """Other seeds with which the best two trials are trained again; the better mean wins."""

    @field_validator("metric")
    @classmethod
    def _is_a_metric(cls, metric: str | None) -> str | None:
        if metric is None:
            return None
        found, known = _METRIC.fullmatch(metric), get_args(JudgeBy)
        if found is None:
            raise ValueError("metric is validation/TASK/METRIC or validation/METRIC/mean, such as validation/auc/mean")
        name = found["first"] if found["second"] == MEAN else found["second"]
        if name not in known:
            raise ValueError(f"no metric {name!r}{did_you_mean(name, known)}")
        return metric

    @model_validator(mode="after")
    def _space_is_right(self) -> Self:
        block = block_of(self, self.ranker)
        if wrong := list(faults(self.space, self.search, block)):
            raise ValidationError.from_exception_data("Config", wrong)
        points = size(dimensions(self.space, block))
        if self.search == "grid" and points is not None and points > self.most_points:
            raise ValueError(
                f"the grid has {points} points, and {self.trials} trials are too few for them and the knobs as they "
                f"stand here: raise trials to {points + self.trials - self.most_points}, or leave values out"
            )
        return self

    @property
    def most_points(self) -> int:
        """Trials that the search may choose: all, but the first where that is no point of the space."""
        return self.trials if self.holds_own else self.trials - 1

    @property
    def own(self) -> dict[str, object]:
        """Values of the searched knobs as they stand here."""
        config = training_config(block_of(self, self.ranker))
        return {path: value_at(config, path) for path in sorted(self.space)}

    @property
    def holds_own(self) -> bool:
        """Whether the knobs as they stand here are a choice of the space; a range counts as if they were not."""
        return all(
            isinstance(self.space[path], tuple) and value in self.space[path] for path, value in self.own.items()
        )

    def metric_of(self, judge_by: JudgeBy, feedback: tuple[str, ...]) -> tuple[JudgeBy, tuple[str, ...]]:
        """Return what trials are judged by, and over which tasks it is averaged.

        Args:
            judge_by: what the training set says.
            feedback: its feedback.
        """
        found = _METRIC.fullmatch(self.metric or f"validation/{judge_by}/{MEAN}")
        names: tuple[JudgeBy, ...] = get_args(JudgeBy)
        first, second = (found["first"], found["second"]) if found else ("", "")
        metric = next(name for name in names if name == (first if second == MEAN else second))
        return metric, (feedback if second == MEAN else (first,))


class Inputs(Ports):
    """Encoded splits; the test split is not read."""

    dataset: TrainingSet


class Outputs(Ports):
    """The best values, and what they were chosen from."""

    tuned: Tuned


def _asks(config: Config, inputs: Mapping[str, Columns]) -> list[Fault]:
    """Return that the metric is of a task that the training set has not."""
    dataset = inputs.get("dataset")
    found = _METRIC.fullmatch(config.metric or "")
    if dataset is None or not dataset.tasks or found is None or found["second"] == MEAN:
        return []
    task = found["first"]
    return [] if task in dataset.tasks else [Fault(("metric",), f"no task {task!r}{did_you_mean(task, dataset.tasks)}")]


COMPONENT = ComponentSpec(
    name="tune_ranker",
    version="1",
    summary="Search values of a ranker's knobs with Ray Tune and say which are best on validation.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.tune_ranker.component:run",
    sources=("components.rankers",),
    unkeyed=("at_once", "budget"),
    recheck="components.train.tune_ranker.again:goes_on",
    flow=Flow(asks=_asks),
)
