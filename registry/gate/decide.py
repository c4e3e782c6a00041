"""Is the challenger good enough? Paired predictions of both models and a policy in, one verdict out.

A pure function: it opens nothing and moves nothing. Both models answered the same rows, and every
difference is judged with a paired bootstrap over users, per task, over all rows and in each domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.declaration import JudgeBy, conditional_name
from features.ground.errors import BadInputError
from registry.evaluation import ALL, LOWER_IS_BETTER, OF_PROBABILITY, Interval, Metric, metric_name
from registry.gate.policy import GatePolicy
from registry.gate.verdict import Judgement, Verdict
from registry.metrics import Requests, auc, log_loss, pcoc, stable_paired_bootstrap, value_of

Array = NDArray[Any]
Outcome = Literal["passed", "refused", "not judged"]
STABLE = 0.1
"""Share of the margin by which more resamples may still move a bound."""
SMALLEST_MARGIN = 0.002
"""Margin whose tenth counts for smaller ones: no number of resamples is stable to a tenth of nothing."""
_BLIND = 5.0
"""A cell whose smallest refusable loss is more margins than this does not guard the champion."""
_LEAST_BLIND = 0.01
"""AUC, or relative log-loss, below which a loss may stay unseen without a warning."""
UNKNOWN_DOMAIN = "unknown"
"""Domain shown for rows whose domain value is missing."""


@dataclass(frozen=True)
class PairedPredictions:
    """What both models answered to the same rows."""

    feedback: tuple[str, ...]
    """Ordered labels, shallow to deep."""
    labels: Mapping[str, Array]
    """By feedback: ``[rows]``, 0 or 1."""
    challenger: Mapping[str, Array]
    """By task: float64 ``[rows]`` probabilities."""
    champion: Mapping[str, Array] | None
    """The same of the champion, None without one."""
    user: Array
    """``[rows]``, equal for rows of the same user."""
    domain: Array
    """``[rows]`` domain values as strings."""
    challenger_shown: Mapping[str, Array] | None = None
    """The challenger's probabilities for the places that rows were shown in, of which log-loss and PCOC are; None where
    they are the same."""
    champion_shown: Mapping[str, Array] | None = None
    """The same of the champion."""
    request: Array | None = None
    """``[rows]``, equal for rows of the same request; None where rows have none."""
    weights: Mapping[str, Array] = field(default_factory=dict)
    """By feedback that has one: ``[rows]``, how much a row counts where the policy says so."""
    judge_by: JudgeBy = "auc"
    """Metric by which the challenger's training set says that rankers are judged."""

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
    challenger_shown: Array
    champion_shown: Array | None
    user: Array
    requests: Requests | None
    weights: Array | None

    @property
    def rarer(self) -> int:
        """Positives or negatives, whichever are fewer."""
        positives = int(self.label.sum())
        return min(positives, self.label.size - positives)


def judge(pair: PairedPredictions, policy: GatePolicy) -> tuple[Judgement, ...]:
    """Return every comparison the policy asks for.

    Per task over all rows: floors, and against the champion log-loss and what rankers are judged by (AUC where that is
    log-loss); per domain: the latter. A cell is refused by the policy's rule. The order of the rows changes nothing.

    Raises:
        BadInputError: a floor names a task that the challenger does not predict, or rows should count by weights that
            they do not have.
    """
    if policy.weighted and not pair.weights:
        raise BadInputError(
            "gate: rows should count by their weights and have none: declare some in build_training_set, or leave "
            "weighted out"
        )
    for name in policy.floors:
        if name not in pair.challenger:
            known = ", ".join(pair.challenger)
            raise BadInputError(f"gate floor for task {name!r}, which the model does not predict (tasks: {known})")
    guarded: Metric = "auc" if pair.judge_by == "log_loss" else pair.judge_by
    judgements: list[Judgement] = []
    for task in pair.challenger:
        whole = _cell(pair, task, ALL, None, policy)
        judgements += _floors(whole, policy)
        if pair.champion is None:
            continue
        judgements += [
            _compared(whole, policy, guarded, policy.auc_margin),
            _compared(whole, policy, "log_loss", policy.log_loss_margin),
        ]
        for domain in sorted({str(value) for value in np.unique(pair.domain)} - {ALL}):
            cell = _cell(pair, task, domain, pair.domain == domain, policy)
            judgements.append(_compared(cell, policy, guarded, policy.domain_auc_margin))
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
    """Return the gate's verdict."""
    verdict = Verdict(
        model=model,
        challenger=challenger,
        champion=champion,
        answer="promoted",
        reason="",
        judgements=judge(pair, policy),
        rows=pair.rows,
        dataset_digest=dataset_digest,
        decided_at=decided_at,
        rule=policy.rule,
        weighted=tuple(pair.weights) if policy.weighted else (),
    )
    return concluded(verdict)


def concluded(verdict: Verdict) -> Verdict:
    """Return a verdict whose judgements are made with the answer, the reason and the warnings that follow from them.

    One that would agree says in `answer` what it then says. What served answers could not show is not agreed to: such a
    comparison is asked for because nothing less is enough.
    """
    judgements, champion = verdict.judgements, verdict.champion
    worst = worst_of(judgements)
    strict = verdict.rule == "non_inferior" or verdict.served is not None
    unproven = champion is not None and strict and not _compared_cells(judgements)
    told = {
        "answer": "refused" if worst or unproven else verdict.answer,
        "reason": describe(worst) if worst else _agreed(judgements, strict, champion),
        "warnings": _warnings(judgements, verdict.served) if champion is not None else (),
    }
    return verdict.model_copy(update=told)


def _agreed(judgements: tuple[Judgement, ...], strict: bool, champion: int | None) -> str:
    """Return why nothing was refused, and no more than the intervals show."""
    judged = [j for j in judgements if j.outcome != "not judged"]
    if champion is None:
        return (
            f"no champion yet, floors hold ({len(judged)} judged)"
            if judged
            else "no champion yet and no floors: unjudged"
        )
    compared = _compared_cells(judgements)
    if not compared:
        so = "not shown to be as good" if strict else "unjudged"
        return f"not compared with v{champion}: none of its cells could be judged, so {so}"
    shown = sum(_within(j.difference, j.limit, j.metric == "log_loss") for j in compared)
    if shown == len(compared):
        unread = len(judgements) - len(judged)
        others = f", {unread} could not be" if unread else ""
        return f"not worse than v{champion} within the margins ({len(judged)} cells judged{others})"
    rest = f"{shown} of {len(compared)} comparisons lie within the margins, the others are open"
    return f"not shown to be worse than v{champion} ({rest})"


def _compared_cells(judgements: tuple[Judgement, ...]) -> list[Judgement]:
    return [j for j in judgements if j.outcome != "not judged" and j.difference is not None]


def _warnings(judgements: tuple[Judgement, ...], served: str | None) -> tuple[str, ...]:
    """Return what the rows could not have refused; nothing when one comparison over all rows guards the champion."""
    rows = "window" if served else "test split"
    whole = [j for j in judgements if j.domain == ALL and j.smallest_loss is not None and j.outcome != "not judged"]
    if not whole:
        unread = any(j.domain == ALL and j.difference is not None for j in judgements)
        return (f"the {rows} is too small for any comparison: the gate could not refuse anything",) if unread else ()
    blind = [j for j in whole if (j.smallest_loss or 0) > max(_BLIND * abs(j.limit), _LEAST_BLIND)]
    if len(blind) < len(whole):
        return ()
    least = min(blind, key=lambda j: (j.smallest_loss or 0) / max(abs(j.limit), 1e-4))
    unit = {"log_loss": "relative log-loss", "rate": "relative rate", "auc": "AUC"}.get(least.metric, least.metric)
    return (
        f"the {rows} is too small to guard the champion: the smallest loss that it can refuse is {unit} "
        f"{least.smallest_loss:.3f} ({least.task}), the margin is {abs(least.limit):g}; judge on more rows",
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


def _cell(pair: PairedPredictions, task: str, domain: str, inside: Array | None, policy: GatePolicy) -> _Cell:
    label, space = pair.truth(task)
    deeper = task if task in pair.feedback else task.partition(conditional_name("", ""))[0]
    weights = pair.weights.get(deeper) if policy.weighted else None
    kept = space if inside is None else space & inside
    label, user = label[kept], np.asarray(pair.user)[kept]

    def answers(of: Mapping[str, Array]) -> Array:
        return np.asarray(of[task], dtype=np.float64)[kept]

    challenger, shown = answers(pair.challenger), answers(pair.challenger_shown or pair.challenger)
    champion, champion_shown = None, None
    if pair.champion is not None and task in pair.champion:
        champion, champion_shown = answers(pair.champion), answers(pair.champion_shown or pair.champion)
    # Sums of floats depend on their order; a canonical one makes the verdict independent of the rows'.
    keys = [challenger if champion is None else champion, challenger, label, user]
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)[kept]
    order = np.lexsort(keys if weights is None else [weights, *keys])
    return _Cell(
        task=task,
        domain=domain,
        label=label[order],
        challenger=challenger[order],
        champion=None if champion is None else champion[order],
        challenger_shown=shown[order],
        champion_shown=None if champion_shown is None else champion_shown[order],
        user=user[order],
        requests=None if pair.request is None else Requests(np.asarray(pair.request)[kept][order], policy.top),
        weights=None if weights is None else weights[order],
    )


def _floors(cell: _Cell, policy: GatePolicy) -> list[Judgement]:
    floor = policy.floors.get(cell.task)
    if floor is None:
        return []
    return [_floor(cell, metric, limit, policy.top) for metric, limit in floor.limits.items()]


def _floor(cell: _Cell, metric: Metric, limit: float, top: int) -> Judgement:
    value = _measured(cell, metric, cell.challenger_shown if metric in OF_PROBABILITY else cell.challenger)
    if metric == "pcoc":
        held, rule = value is not None and abs(value - 1) <= limit, "its distance from 1 may be"
    elif metric in LOWER_IS_BETTER:
        held, rule = value is not None and value <= limit, "it may be at most"
    else:
        held, rule = value is not None and value >= limit, "the floor is"
    undefined = "" if value is not None else "undefined on these rows, "
    return Judgement(
        task=cell.task, domain=cell.domain, metric=f"{metric_name(metric, top)} floor", champion=None, challenger=value,
        difference=None, limit=limit, outcome="passed" if held else "refused", reason=f"{undefined}{rule} {limit:g}",
    )  # fmt: skip


def _compared(cell: _Cell, policy: GatePolicy, metric: Metric, margin: float) -> Judgement:
    """Judge one difference; a loss is positive for (relative) log-loss and negative for what orders rows."""
    relative = metric == "log_loss"
    limit = margin if relative else -margin
    mine, theirs = (cell.challenger_shown, cell.champion_shown) if relative else (cell.challenger, cell.champion)
    old = None if theirs is None else _measured(cell, metric, theirs)
    new = _measured(cell, metric, mine)
    difference: Interval | None = None
    drawn = 0
    if theirs is not None and cell.label.size:
        difference, drawn = stable_paired_bootstrap(
            cell.label, mine, theirs, cell.user, metric,
            tolerance=STABLE * max(margin, SMALLEST_MARGIN), least=policy.resamples, most=policy.most_resamples,
            seed=policy.seed, confidence=policy.confidence, relative=relative,
            requests=cell.requests, weights=cell.weights,
        )  # fmt: skip
    outcome, reason = _outcome(cell, policy, difference, limit, relative)
    return Judgement(
        task=cell.task, domain=cell.domain, metric=metric, champion=old, challenger=new,
        difference=difference, limit=limit, outcome=outcome, reason=reason, resamples=drawn,
        smallest_loss=smallest_loss(difference, margin, relative),
    )  # fmt: skip


def _measured(cell: _Cell, metric: Metric, scores: Array) -> float | None:
    direct = {"auc": auc, "log_loss": log_loss, "pcoc": pcoc}
    if metric in direct:
        return direct[metric](cell.label, scores, cell.weights)
    return value_of(metric, cell.label, scores, cell.user, cell.requests, cell.weights)


def smallest_loss(difference: Interval | None, margin: float, relative: bool) -> float | None:
    """Return the loss from which on an interval as wide as this one lies wholly beyond the margin."""
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return None
    return margin + (difference.value - difference.low if relative else difference.high - difference.value)


def _within(difference: Interval | None, limit: float, relative: bool) -> bool:
    """Return whether the whole interval lies within the margin: that is what shows that nothing is lost."""
    if difference is None or difference.low is None or difference.high is None:
        return False
    return difference.high <= limit if relative else difference.low >= limit


def _outcome(
    cell: _Cell, policy: GatePolicy, difference: Interval | None, limit: float, relative: bool
) -> tuple[Outcome, str]:
    if cell.champion is None:
        return "not judged", "the champion has no such task"
    if cell.domain != ALL and cell.rarer < policy.min_positives:
        return "not judged", f"{cell.rarer} rows of the rarer class, {policy.min_positives} are needed"
    unit = "relative difference" if relative else "difference"
    return outcome_of(difference, limit, policy, unit, whole=cell.domain == ALL, less_is_better=relative)


def outcome_of(
    difference: Interval | None, limit: float, policy: GatePolicy, unit: str, *, whole: bool, less_is_better: bool
) -> tuple[Outcome, str]:
    """Return what the policy's rule says of a difference, challenger − champion, and why.

    Args:
        difference: with its interval; None where there is none.
        limit: what it may be, positive where less is better.
        policy: its rule.
        unit: what the difference is called.
        whole: whether it is of all rows.
        less_is_better: whether a loss is positive.
    """
    strict = policy.rule == "non_inferior"
    if difference is None or difference.low is None or difference.high is None:
        if strict and whole:
            return "refused", "no interval, too few users: not shown to be as good"
        return "not judged", "no interval, too few users"
    lost = difference.low > limit if less_is_better else difference.high < limit
    interval = f"{unit} in [{difference.low:+.4f}, {difference.high:+.4f}]"
    if lost:
        return "refused", f"{interval} lies beyond the limit {limit:+.4f}"
    if strict and not _within(difference, limit, less_is_better):
        return "refused", f"{interval} reaches beyond the limit {limit:+.4f}: not shown to be as good"
    return "passed", f"{interval}, limit {limit:+.4f}"


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
        loss = difference.value if judgement.metric == "log_loss" else -difference.value
        return (loss - abs(judgement.limit)) / size
    if judgement.challenger is None:
        return float("inf")
    distance = (
        judgement.challenger - 1 if judgement.metric.startswith("pcoc") else judgement.limit - judgement.challenger
    )
    return (abs(distance) - (size if judgement.metric.startswith("pcoc") else 0)) / size
