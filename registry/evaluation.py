"""What does an evaluation hold? One cell per task × domain × metric, with an interval."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field

from features.declaration import Frozen, JudgeBy, Name

ALL = "all"
"""Domain value of the cells over every row."""

RowMetric = Literal["auc", "gauc", "log_loss", "normalised_entropy", "ece", "pcoc"]
"""Metrics of rows."""
RequestMetric = Literal["request_auc", "mrr", "ndcg", "hit_rate", "recall"]
"""Metrics of what was shown together; they need the request of each row."""
Metric = RowMetric | RequestMetric


CUT: tuple[RequestMetric, ...] = ("ndcg", "hit_rate", "recall")
"""Metrics of the first places of a request."""


LOWER_IS_BETTER: tuple[Metric, ...] = ("log_loss", "normalised_entropy", "ece")
"""Metrics of which less is better; of PCOC 1 is best, of all others more."""
OF_PROBABILITY: tuple[Metric, ...] = (*LOWER_IS_BETTER, "pcoc")
"""Metrics of probabilities, not of an order: they are measured for the places that rows were shown in."""


def goodness(metric: Metric, value: float) -> float:
    """Return a value, or a difference of two, with the sign that makes more of it better; not of PCOC."""
    return -value if metric in LOWER_IS_BETTER else value


def metric_name(metric: Metric, top: int | None) -> str:
    """Return a metric's name with the places that it looks at, e.g. ``ndcg_at_10``."""
    return f"{metric}_at_{top}" if metric in CUT else metric


class Interval(Frozen):
    """A value with its bootstrap interval; bounds are None when the bootstrap is off or impossible."""

    value: float | None
    low: float | None = None
    high: float | None = None
    """`value` None means undefined, for example the AUC of rows of one class."""


class Cell(Frozen):
    """The metrics of one task in one domain."""

    task: Name
    """Output name of the model."""
    domain: str
    """Domain value, or ``all``."""
    space: str
    """Rows counted: every impression, or for conditional tasks those with the shallower feedback."""
    rows: int
    """Rows counted."""
    positives: int
    """Rows with the label."""
    metrics: dict[Metric, Interval]
    """Value and interval per metric."""
    requests: int | None = Field(None, exclude_if=lambda count: count is None)
    """Requests with a positive row, on which metrics of requests rest; None where rows have no requests."""


class GroupCell(Frozen):
    """How one task treats one group of a fairness audit."""

    task: Name
    """Output name of the model."""
    group: str
    """Value of the group's column."""
    rows: int
    """Rows counted."""
    positives: int
    """Rows with the label."""
    share: float
    """Share of the task's rows that are of the group."""
    top: float | None
    """Share of the requests in which a row of the group is put first; None where rows have no requests, and of
    conditional tasks."""
    auc: float | None
    """AUC within the group."""
    log_loss: float | None
    """Log-loss within it."""
    pcoc: float | None
    """Predicted over observed positives within it."""


class CalibrationBin(Frozen):
    """One equal-mass bin of a calibration curve."""

    task: Name
    domain: str
    predicted: float
    observed: float
    rows: int


class Evaluation(Frozen):
    """The whole report."""

    model_digest: str
    dataset_digest: str
    split: str
    rows: int
    window_start: AwareDatetime | None
    window_end: AwareDatetime | None
    confidence: float
    resamples: int
    top: int | None = Field(None, exclude_if=lambda places: places is None)
    """Places of a request that its metrics look at; None where rows have no requests."""
    weighted: tuple[Name, ...] = Field((), exclude_if=lambda feedback: not feedback)
    """Feedback whose tasks count rows by their weights; all others count every row once."""
    provider: str
    tasks: tuple[Name, ...]
    domains: tuple[str, ...]
    cells: tuple[Cell, ...]
    calibration: tuple[CalibrationBin, ...]
    judge_by: JudgeBy = Field("auc", exclude_if=lambda metric: metric == "auc")
    """Metric that chose the epoch, and that comparisons and the gate go by."""
    freshness: str = Field("", exclude_if=lambda words: not words)
    """How old the features of the rows were, in words; empty where the training set does not say."""
    group: Name | None = Field(None, exclude_if=lambda column: column is None)
    """Column that a fairness audit asks about; None without one."""
    groups: tuple[GroupCell, ...] = Field((), exclude_if=lambda cells: not cells)
    """Every task × group."""

    def cell(self, task: str, domain: str = ALL) -> Cell:
        """Return one cell.

        Raises:
            KeyError: there is no such task or domain.
        """
        for cell in self.cells:
            if cell.task == task and cell.domain == domain:
                return cell
        raise KeyError(f"no cell for task {task!r} and domain {domain!r}")
