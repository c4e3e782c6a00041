"""What is answered to raw rows? Encoder → graph → calibration → error memory → value → bonus, composed here alone.

`rankmill score`, evaluation, the promotion gate, calibration, the error memory and a server all call `answer`, so a
number in a report is a number that the served model gives. An error memory remembers errors of calibrated
probabilities and corrects them after calibration; what a conversion is worth is multiplied in, and what is still to be
found out of an item is added last, where a service explores: to the score to rank by, and to no probability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from registry.serving.incoming import check_columns, count_unknown
from registry.serving.model.separable import user_vectors
from registry.serving.model.served_model import CHUNK, HIDDEN, Batch, Probabilities, ServedModel
from registry.serving.scores.value import ValueTable, expected_value

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.bandit import Bandit
    from registry.memory.draws import Draw
    from registry.memory.error_memory import Memory
    from registry.serving.model.request_graph import RequestGraph


@dataclass(frozen=True)
class Answers:
    """What a model says about B rows, in their order."""

    base: dict[str, Probabilities]
    """By task in the contract's order: float64 ``[B]``, the graph through the calibration. What evaluation and the gate
    judge, and what an error memory learns the errors of."""
    tasks: dict[str, Probabilities]
    """By task: float64 ``[B]``, the base through the error memory: as served. Without a memory it is the base."""
    hidden: np.ndarray[Any, np.dtype[np.float32]]
    """float32 ``[B, H]`` representation."""
    unknown: Counter[str]
    """By field with a vocabulary, how many rows hold a value that training never held."""
    expected_value: Probabilities | None
    """float64 ``[B]``, the score to rank by; None unless a value was given."""
    bonus: Probabilities | None = None
    """float64 ``[B]``, what exploring added to it; None unless a bandit was given."""
    first: Probabilities | None = None
    """float64 ``[B]``, the chance of standing first that a row had before anything was drawn; None unless it was."""


def columns_of(
    model: ServedModel,
    present: Collection[str],
    memory: Memory | None = None,
    value: ValueTable | None = None,
    bandit: Bandit | None = None,
) -> dict[str, str]:
    """Return the columns that raw rows need: what the model `needs`, and what calibration, value and memory do."""
    declaration, calibration = model.contract.schema_.declaration, model.calibration
    uses = model.needs(present)
    if declaration.domain:
        if calibration and calibration.domains:
            uses.setdefault(declaration.domain, "calibration")
        if value and value.products:
            uses.setdefault(declaration.domain, "value of a conversion")
    for one in value.multiply if value else ():
        uses.setdefault(one.column, "factor of the score")
    for name in memory.header.key.columns if memory and memory.header.enabled else ():
        uses.setdefault(name, "error memory: --no-memory scores without it")
    if bandit is not None:
        uses.setdefault(bandit.header.item, "bonus of exploring")
    return uses


def answer(
    model: ServedModel,
    rows: pa.Table,
    *,
    memory: Memory | None = None,
    value: ValueTable | None = None,
    bandit: Bandit | None = None,
    draw: Draw | None = None,
    request: RequestGraph | None = None,
    shared: Collection[str] = (),
    chunk: int = CHUNK,
    as_shown: bool = False,
    lacking: Callable[[Batch], Batch] | None = None,
) -> Answers:
    """Return the model's answers to raw rows.

    With `as_shown` they are for the place that each row stood in, as its labels are, and not for the one that is
    served: what probabilities are measured on, where the training set declares a position.

    `rows` hold a column per feature, the domain where calibration or value differ by it, and what the memory's keys are
    made of; others are ignored. Histories may be Arrow ``list_view``, whose rows share values. `request` is a graph of
    the same model for rows of one request, which reads once what they share, and what is made of columns that are known
    to be `shared` is encoded once too; `chunk` rows at a time bound memory.
    Without `value` there is no `expected_value`; with it and a `bandit` of the model the bonus is in it, or, with a
    `draw`, what was drawn for the rows, which are then of one request. `lacking` takes something out of encoded rows
    before the graph reads them, as `registry.serving.answers.reasons.without` does.

    Raises:
        BadInputError: columns are missing, all of them named, one cannot be read, a product has no value, or an answer
            is not a number.
    """
    check_columns(rows, columns_of(model, rows.column_names, memory, value, bandit), model.called)
    inputs = model.rows(rows, as_shown=as_shown)
    parts = [
        _answered(
            model, inputs.slice(start, chunk), rows.slice(start, chunk), memory, value, bandit, request, shared, lacking
        )
        for start in range(0, rows.num_rows, chunk)
    ]
    whole = _joined(parts) if parts else _nothing(model, value)
    return _explored(whole, rows[bandit.header.item], draw) if bandit is not None else whole


def _answered(
    model: ServedModel,
    inputs: pa.Table,
    rows: pa.Table,
    memory: Memory | None,
    value: ValueTable | None,
    bandit: Bandit | None,
    request: RequestGraph | None,
    shared: Collection[str],
    lacking: Callable[[Batch], Batch] | None,
) -> Answers:
    from features.joins.histories import listed

    once = model.encoder.made_of(shared) & {*request.once} if request and shared else ()
    batch: Batch = model.encoder.encode(listed(inputs), once)
    if lacking is not None:
        batch = lacking(batch)
    outputs = (request or model).run(batch)
    graph = {task: outputs[task].astype(np.float64) for task in model.contract.tasks}
    base = model.calibrated(graph, rows)
    tasks = memory.compensate(base, outputs[HIDDEN], rows) if memory else base
    declaration = model.contract.schema_.declaration
    worth = value.of(rows, declaration.domain) if value else None
    score = expected_value(tasks, declaration, worth) if worth is not None else None
    bonus = None
    if bandit is not None and score is not None and worth is not None:
        bonus = bandit.bonus(user_vectors(model, outputs[HIDDEN]), rows[bandit.header.item]) * worth
    return Answers(
        base=base,
        tasks=tasks,
        hidden=outputs[HIDDEN],
        unknown=count_unknown(model.encoder, batch, rows.num_rows),
        expected_value=score,
        bonus=bonus,
    )


def _explored(answers: Answers, items: pa.ChunkedArray, draw: Draw | None) -> Answers:
    """Return answers with what exploring makes of their score: the bonus added, or its deviations drawn."""
    from registry.memory.draws import drawn, first_propensity

    score, bonus = answers.expected_value, answers.bonus
    if score is None or bonus is None:
        return answers
    if draw is None:
        return replace(answers, expected_value=score + bonus)
    served = drawn(score, bonus, items, draw)
    first = first_propensity(score, bonus, items)
    return replace(answers, expected_value=served, bonus=served - score, first=first)


def _joined(parts: Sequence[Answers]) -> Answers:
    base = _concatenated([part.base for part in parts])
    worth = [part.expected_value for part in parts if part.expected_value is not None]
    bonus = [part.bonus for part in parts if part.bonus is not None]
    return Answers(
        base=base,
        tasks=base if parts[0].tasks is parts[0].base else _concatenated([part.tasks for part in parts]),
        hidden=np.concatenate([part.hidden for part in parts]),
        unknown=sum((part.unknown for part in parts), Counter[str]()),
        expected_value=np.concatenate(worth) if worth else None,
        bonus=np.concatenate(bonus) if bonus else None,
    )


def _concatenated(parts: Sequence[dict[str, Probabilities]]) -> dict[str, Probabilities]:
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}


def _nothing(model: ServedModel, value: ValueTable | None) -> Answers:
    """Return the answers to no rows: a graph is not run on an empty batch."""
    tasks = {task: np.zeros(0) for task in model.contract.tasks}
    hidden = np.zeros((0, model.contract.hidden), dtype=np.float32)
    return Answers(tasks, tasks, hidden, Counter(), np.zeros(0) if value else None)
