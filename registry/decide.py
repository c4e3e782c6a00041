"""Is the challenger good enough? Paired predictions of both models and a policy in, one verdict out.

A pure function: it opens nothing and moves nothing. Both models answered the same rows, and every
difference is judged with a paired bootstrap over users, per task, over all rows and in each domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.declaration import conditional_name
from features.errors import BadInputError
from registry.metrics import auc, log_loss, paired_bootstrap, pcoc
from registry.policy import GatePolicy
from registry.report import ALL, Interval
from registry.verdict import Judgement, Verdict

Array = NDArray[Any]
Outcome = Literal["passed", "refused", "not judged"]
UNKNOWN_DOMAIN = "unknown"
"""Domain shown for rows whose domain value is missing."""


@dataclass(frozen=True)
class PairedPredictions:
    """What both models answered to the same rows.

    Attributes:
        feedback: ordered labels, shallow to deep.
        labels: by feedback: ``[rows]``, 0 or 1.
        challenger: by task: float64 ``[rows]`` probabilities.
        champion: the same of the champion, None without one.
        user: ``[rows]``, equal for rows of the same user.
        domain: ``[rows]`` domain values as strings.
    """

    feedback: tuple[str, ...]
    labels: Mapping[str, Array]
    challenger: Mapping[str, Array]
    champion: Mapping[str, Array] | None
    user: Array
    domain: Array

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.user.shape[0])

    def truth(self, task: str) -> tuple[Array, Array]:
        """Return a task's labels and the rows that it speaks about, both ``[rows]``.

        A feedback is defined on every impression; ``deep_given_shallow`` on rows with the shallower one.

        Raises:
            BadInputError: the task is neither a feedback nor a conditional of two.
        """
        if task in self.feedback:
            return np.asarray(self.labels[task], dtype=np.float64), np.ones(self.rows, dtype=bool)
        for deeper, deep in enumerate(self.feedback):
            for shallow in self.feedback[:deeper]:
                if task == conditional_name(deep, shallow):
                    return np.asarray(self.labels[deep], dtype=np.float64), np.asarray(self.labels[shallow]) > 0
        raise BadInputError(
            f"task {task!r} is no feedback of the rows ({', '.join(self.feedback)}): judge it on its own rows"
        )


@dataclass(frozen=True)
class _Cell:
    """One task's rows in one domain."""

    task: str
    domain: str
    label: Array
    challenger: Array
    champion: Array | None
    user: Array

    @property
    def rarer(self) -> int:
        """Positives or negatives, whichever are fewer."""
        positives = int(self.label.sum())
        return min(positives, self.label.size - positives)


def judge(pair: PairedPredictions, policy: GatePolicy) -> tuple[Judgement, ...]:
    """Return every comparison the policy asks for.

    Per task over all rows: floors, AUC and log-loss against the champion; per domain: AUC. A cell is
    refused when the loss exceeds the margin with the policy's confidence. The order of the rows
    changes nothing.

    Raises:
        BadInputError: a floor names a task that the challenger does not predict.
    """
    for name in policy.floors:
        if name not in pair.challenger:
            known = ", ".join(pair.challenger)
            raise BadInputError(f"gate floor for task {name!r}, which the model does not predict (tasks: {known})")
    judgements: list[Judgement] = []
    for task in pair.challenger:
        whole = _cell(pair, task, ALL, None)
        judgements += _floors(whole, policy)
        if pair.champion is None:
            continue
        judgements += [
            _compared(whole, policy, "auc", policy.auc_margin),
            _compared(whole, policy, "log_loss", policy.log_loss_margin),
        ]
        for domain in sorted({str(value) for value in np.unique(pair.domain)} - {ALL}):
            cell = _cell(pair, task, domain, pair.domain == domain)
            judgements.append(_compared(cell, policy, "auc", policy.domain_auc_margin))
    for task in (name for name in pair.champion or {} if name not in pair.challenger and name in pair.feedback):
        judgements.append(_missing(task))
    return tuple(judgements)


def decide(
    pair: PairedPredictions,
    policy: GatePolicy,
    *,
    model: str,
    challenger: int,
    champion: int | None,
    dataset_digest: str,
    decided_at: datetime,
) -> Verdict:
    """Return the gate's verdict.

    Args:
        pair: predictions of both models on the same rows.
        policy: what the challenger must show.
        model: registered model.
        challenger: version that asks.
        champion: version it is compared with, None without one.
        dataset_digest: digest of the `TrainingSet` the rows come from.
        decided_at: moment of the decision.
    """
    judgements = judge(pair, policy)
    worst = worst_of(judgements)
    judged = sum(j.outcome != "not judged" for j in judgements)
    against = (
        f"not worse than v{champion} within the margins" if champion is not None else "no champion yet, floors hold"
    )
    return Verdict(
        model=model,
        challenger=challenger,
        champion=champion,
        answer="refused" if worst else "promoted",
        reason=describe(worst) if worst else f"{against} ({judged} cells judged)",
        judgements=judgements,
        rows=pair.rows,
        dataset_digest=dataset_digest,
        decided_at=decided_at,
    )


def worst_of(judgements: tuple[Judgement, ...]) -> Judgement | None:
    """Return the refused judgement furthest beyond its limit, in units of the limit; None when none refused."""
    refused = [j for j in judgements if j.outcome == "refused"]
    return max(refused, key=_excess, default=None)


def describe(judgement: Judgement) -> str:
    """Return one clause with task, domain, metric, values and limit."""
    where = f"{judgement.task} in {judgement.domain if judgement.domain != ALL else 'all rows'}"
    value = f"{judgement.challenger:.4f}" if judgement.challenger is not None else "none"
    against = f" against {judgement.champion:.4f}" if judgement.champion is not None else ""
    return f"{where}: {judgement.metric} {value}{against}, {judgement.reason}"


def _cell(pair: PairedPredictions, task: str, domain: str, inside: Array | None) -> _Cell:
    label, space = pair.truth(task)
    kept = space if inside is None else space & inside
    challenger = np.asarray(pair.challenger[task], dtype=np.float64)[kept]
    old = None if pair.champion is None else pair.champion.get(task)
    champion = None if old is None else np.asarray(old, dtype=np.float64)[kept]
    label, user = label[kept], np.asarray(pair.user)[kept]
    # Sums of floats depend on their order; a canonical one makes the verdict independent of the rows'.
    order = np.lexsort([challenger if champion is None else champion, challenger, label, user])
    return _Cell(
        task, domain, label[order], challenger[order], None if champion is None else champion[order], user[order]
    )


def _floors(cell: _Cell, policy: GatePolicy) -> list[Judgement]:
    floor = policy.floors.get(cell.task)
    if floor is None:
        return []
    found: list[Judgement] = []
    if floor.auc is not None:
        value = auc(cell.label, cell.challenger)
        held = value is not None and value >= floor.auc
        found.append(_floor(cell, "auc", value, floor.auc, held, "the floor is"))
    if floor.pcoc_within is not None:
        value = pcoc(cell.label, cell.challenger)
        held = value is not None and abs(value - 1) <= floor.pcoc_within
        found.append(_floor(cell, "pcoc", value, floor.pcoc_within, held, "its distance from 1 may be"))
    return found


def _floor(cell: _Cell, metric: str, value: float | None, limit: float, held: bool, rule: str) -> Judgement:
    undefined = "" if value is not None else "undefined on these rows, "
    outcome: Outcome = "passed" if held else "refused"
    return Judgement(
        task=cell.task, domain=cell.domain, metric=f"{metric} floor", champion=None, challenger=value,
        difference=None, limit=limit, outcome=outcome, reason=f"{undefined}{rule} {limit:g}",
    )  # fmt: skip


def _compared(cell: _Cell, policy: GatePolicy, metric: Literal["auc", "log_loss"], margin: float) -> Judgement:
    """Judge one difference; a loss is negative for AUC and positive for (relative) log-loss."""
    relative = metric == "log_loss"
    limit = margin if relative else -margin
    measure = log_loss if relative else auc
    old = None if cell.champion is None else measure(cell.label, cell.champion)
    new = measure(cell.label, cell.challenger)
    difference: Interval | None = None
    if cell.champion is not None and cell.label.size:
        difference = paired_bootstrap(
            cell.label, cell.challenger, cell.champion, cell.user, metric,
            resamples=policy.resamples, seed=policy.seed, confidence=policy.confidence, relative=relative,
        )  # fmt: skip
    outcome, reason = _outcome(cell, policy, difference, limit, relative)
    return Judgement(
        task=cell.task, domain=cell.domain, metric=metric, champion=old, challenger=new,
        difference=difference, limit=limit, outcome=outcome, reason=reason,
    )  # fmt: skip


def _outcome(
    cell: _Cell, policy: GatePolicy, difference: Interval | None, limit: float, relative: bool
) -> tuple[Outcome, str]:
    if cell.champion is None:
        return "not judged", "the champion has no such task"
    if cell.domain != ALL and cell.rarer < policy.min_positives:
        return "not judged", f"{cell.rarer} rows of the rarer class, {policy.min_positives} are needed"
    if difference is None or difference.low is None or difference.high is None:
        return "not judged", "no interval, too few users"
    lost = difference.low > limit if relative else difference.high < limit
    unit = "relative difference" if relative else "difference"
    interval = f"{unit} in [{difference.low:+.4f}, {difference.high:+.4f}]"
    return ("refused", f"{interval} lies beyond the limit {limit:+.4f}") if lost else (
        "passed", f"{interval}, limit {limit:+.4f}"
    )  # fmt: skip


def _missing(task: str) -> Judgement:
    return Judgement(
        task=task, domain=ALL, metric="auc", champion=None, challenger=None, difference=None, limit=0.0,
        outcome="refused", reason="the champion predicts this task and the challenger does not",
    )  # fmt: skip


def _excess(judgement: Judgement) -> float:
    """Return how far beyond its limit a refused judgement lies, in units of the limit."""
    size = max(abs(judgement.limit), 1e-4)
    difference = judgement.difference
    if difference is not None and difference.value is not None:
        return (abs(difference.value) - abs(judgement.limit)) / size
    if judgement.challenger is None:
        return float("inf")
    distance = (
        judgement.challenger - 1 if judgement.metric.startswith("pcoc") else judgement.limit - judgement.challenger
    )
    return (abs(distance) - (size if judgement.metric.startswith("pcoc") else 0)) / size
