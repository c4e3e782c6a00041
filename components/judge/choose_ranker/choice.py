"""Which of several rankers is best on the same rows, by how much, and is that more than chance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.judge.choose_ranker.config import Config
from components.platform.errors import BadInputError
from features.declaration import Frozen, JudgeBy
from registry.evaluation import LOWER_IS_BETTER, Interval, goodness, metric_name
from registry.gate.decide import SMALLEST_MARGIN, STABLE
from registry.metrics import Requests, mean_paired_bootstrap, value_of

FILE = "choice.json"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What one candidate says to the rows."""

    ranker: str
    """Registered name of its ranker."""
    digest: str
    """Of its `OnnxModel`."""
    scores: Mapping[str, Floats]
    """By feedback: float64 ``[rows]`` probabilities."""


@dataclass(frozen=True)
class Rows:
    """The rows that all candidates are judged on."""

    labels: Mapping[str, Floats]
    """By feedback: float64 ``[rows]``, 0 or 1."""
    user: NDArray[np.int64]
    """``[rows]``, equal for rows of the same user."""
    request: NDArray[np.int64] | None
    """``[rows]``, equal for rows that were shown together; None where rows do not tell."""


class Candidate(Frozen):
    """How one candidate did."""

    stage: str
    """Name of the stage that exported it."""
    ranker: str
    """Registered name of its ranker."""
    digest: str
    """Of its `OnnxModel`."""
    values: dict[str, float | None]
    """The metric by feedback; None where the rows do not define it."""
    value: float | None
    """Their mean; None where one is undefined."""
    behind: Interval | None = None
    """How much better the chosen one is, on the same resamples of users; None of the chosen one itself."""
    resamples: int = 0
    """Resamples behind that interval."""

    @property
    def beaten(self) -> bool:
        """Whether the whole interval says that the chosen one is better."""
        return self.behind is not None and self.behind.low is not None and self.behind.low > 0


class Choice(Frozen):
    """Every candidate, the best first."""

    metric: JudgeBy
    """What the training set says to judge by."""
    top: int
    """Places that a metric of requests looks at."""
    feedback: tuple[str, ...]
    """Whose metrics are averaged."""
    rows: int
    """Validation rows."""
    users: int
    """Users of these rows."""
    confidence: float
    """Coverage of the intervals."""
    dataset: str
    """Digest of the training set."""
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    """The chosen one first, then by their values."""

    @property
    def chosen(self) -> Candidate:
        """The best one."""
        return self.candidates[0]

    @property
    def metric_name(self) -> str:
        """The metric with the places that it looks at."""
        return metric_name(self.metric, self.top)

    @property
    def open(self) -> tuple[Candidate, ...]:
        """Candidates that may be as good as the chosen one: their difference may be chance."""
        return tuple(one for one in self.candidates[1:] if not one.beaten)


def choose(answers: Mapping[str, Answers], rows: Rows, metric: JudgeBy, config: Config, dataset: str) -> Choice:
    """Return the candidates by the mean of a metric over the feedback; of equal ones the first by stage name wins.

    The order of the candidates changes nothing.

    Args:
        answers: by stage.
        rows: what they answered to.
        metric: what is averaged.
        config: of the stage.
        dataset: digest of the training set.

    Raises:
        BadInputError: the metric is undefined for every candidate.
    """
    requests = Requests(rows.request, config.top) if rows.request is not None else None
    feedback = tuple(rows.labels)
    found = []
    for stage, one in sorted(answers.items()):
        values = {name: value_of(metric, rows.labels[name], one.scores[name], rows.user, requests) for name in feedback}
        known = [value for value in values.values() if value is not None]
        value = float(np.mean(known)) if len(known) == len(feedback) else None
        found.append(Candidate(stage=stage, ranker=one.ranker, digest=one.digest, values=values, value=value))
    if all(one.value is None for one in found):
        undefined = [name for name in feedback if all(one.values[name] is None for one in found)]
        raise BadInputError(
            f"the validation rows do not define the {metric} of {' and '.join(undefined) or 'every feedback'}, so that "
            "no candidate can be judged: widen the window or the validation share"
        )
    ordered = sorted(found, key=lambda one: float("inf") if one.value is None else -goodness(metric, one.value))
    best = answers[ordered[0].stage]
    candidates = [ordered[0]]
    for other in ordered[1:]:
        difference, drawn = mean_paired_bootstrap(
            [rows.labels[name] for name in feedback],
            [best.scores[name] for name in feedback],
            [answers[other.stage].scores[name] for name in feedback],
            rows.user,
            metric,
            tolerance=STABLE * SMALLEST_MARGIN,
            least=config.resamples,
            most=config.most_resamples,
            seed=config.seed,
            confidence=config.confidence,
            requests=requests,
        )
        behind = _turned(difference) if metric in LOWER_IS_BETTER else difference
        candidates.append(other.model_copy(update={"behind": behind, "resamples": drawn}))
    return Choice(
        metric=metric,
        top=config.top,
        feedback=feedback,
        rows=int(rows.user.size),
        users=int(np.unique(rows.user).size),
        confidence=config.confidence,
        dataset=dataset,
        candidates=tuple(candidates),
    )


def _turned(difference: Interval) -> Interval:
    """Return the difference of a metric of which less is better so that more is better."""
    value, low, high = (None if one is None else -one for one in (difference.value, difference.high, difference.low))
    return Interval(value=value, low=low, high=high)


def told(found: Choice) -> list[str]:
    """Return the lines of a run's table: which won, by what, and what that is worth."""
    chosen = found.chosen
    of = f"mean {found.metric_name} of {', '.join(found.feedback)}"
    lines = [f"{chosen.stage} of {len(found.candidates)}: {of} {chosen.value:.4f} on {found.rows:,} validation rows"]
    for one in found.candidates[1:2]:
        lines.append(f"{_by(one)} than {one.stage}, {'more than chance' if one.beaten else 'which may be chance'}")
    if more := len(found.open) - (len(found.candidates) > 1 and not found.candidates[1].beaten):
        lines.append(f"{more} more may be as good: {', '.join(one.stage for one in found.open[-more:])}")
    return lines


def _by(one: Candidate) -> str:
    if one.behind is None or one.behind.value is None:
        return "better by an unknown amount"
    bounds = "" if one.behind.low is None else f" [{one.behind.low:+.4f}, {one.behind.high:+.4f}]"
    return f"{one.behind.value:+.4f}{bounds} better"
