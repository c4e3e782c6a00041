"""What answers right now? One value with everything that a question needs, and the way from question to reply.

A question reads it once, so no reply mixes two versions; a new version is opened beside it, proves its golden rows, is
warmed up, and takes its place by one assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.ground.errors import BadInputError, MissingError, did_you_mean
from features.services.served import ServedFeatures, read_served
from registry.serving.answers.answer import Answers, answer, columns_of
from registry.serving.evidence.golden import ANSWER, GOLDEN, check_golden
from registry.serving.live.lookup import Lookup
from registry.serving.live.rows import Reads, Rows, rows_of
from registry.serving.model.request_graph import REQUEST, RequestGraph, SeveralRequestsError
from registry.serving.model.served_model import ServedModel
from registry.serving.model.session import Provider
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.pointed import Pointed
from registry.serving.wire.protocol import Question, RefusedError, Reply

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.bandit import Bandit
    from registry.memory.draws import Draw
    from registry.memory.error_memory import Memory

EXPLAINED = 20
"""Most candidates of a question that wants reasons: each group of inputs costs a pass of the graph."""
VALUE = "expected_value"
BONUS = "exploration"
FIRST = "first_propensity"
RANK = "rank"
WARM = (1, 100, 1000)
"""Candidates of the questions that a model answers before it is live, three times each."""


@dataclass(frozen=True)
class Live:
    """A version that answers."""

    name: str
    """Registered model."""
    alias: str
    """Alias that points at it: its role in the service."""
    pointed: Pointed
    model: ServedModel
    graph: RequestGraph | None
    """Reads once what the candidates share; None where the version was exported without it."""
    features: ServedFeatures | None
    """Where its columns come from; None where every question brings all of them."""
    reads: Reads
    memory: Memory | None = None
    bandit: Bandit | None = None
    """What is explored by; None where the service does not explore or nothing was counted yet."""
    draw: Draw | None = None
    """How the bandit's deviations are drawn, without the id of a request; None where the bonus is added."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it answers, in order; the rank only when it is asked for."""
        explored = () if self.bandit is None else (BONUS,) if self.draw is None else (BONUS, FIRST)
        return (*self.model.contract.tasks, VALUE, *explored, RANK)

    def with_memory(self, memory: Memory | None, digest: str) -> Live:
        """Return the same version with another error memory."""
        reads = _reads(self.model, self.features, memory, self.bandit)
        return replace(self, memory=memory, reads=reads, pointed=self.pointed.model_copy(update={"memory": digest}))

    def with_bandit(self, bandit: Bandit | None, digest: str, draw: Draw | None = None) -> Live:
        """Return the same version with another bandit, whose bonus is added, or drawn from."""
        reads = _reads(self.model, self.features, self.memory, bandit)
        pointed = self.pointed.model_copy(update={"bandit": digest})
        return replace(self, bandit=bandit, draw=draw, reads=reads, pointed=pointed)


def open_live(
    name: str, alias: str, pointed: Pointed, directory: Path, memory: Memory | None, provider: Provider = "auto"
) -> Live:
    """Return a version that proved its golden rows on this machine and is warm.

    Raises:
        MissingError: a file is missing, or the provider did not load.
        BadInputError: a file cannot be read, files disagree, or the golden rows get other answers here.
    """
    called = f"model {name} v{pointed.version}"
    model = ServedModel.open(directory, provider, threads=1, label=called)
    graph = RequestGraph.open(model, provider, threads=1) if (directory / REQUEST).is_file() else None
    check_golden(model, graph)
    features = read_served(directory, called)
    live = Live(name, alias, pointed, model, graph, features, _reads(model, features, memory), memory)
    warm_up(live)
    return live


def _reads(
    model: ServedModel, features: ServedFeatures | None, memory: Memory | None, bandit: Bandit | None = None
) -> Reads:
    told = {column.name for column in features.columns} if features is not None else set()
    needed = columns_of(model, told, memory, model.value, bandit)
    factors = {one.column: "float64" for one in model.value.multiply if not one.factors}
    dtypes = factors | {field.name: "unix_timestamp" if field.time else field.dtype for field in model.encoder.fitted}
    return Reads.of(model.contract.schema_.declaration, tuple(needed), dtypes, features)


def warm_up(live: Live) -> None:
    """Answer the first golden row as one, a hundred and a thousand candidates, so that no caller waits for buffers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = live.model.directory / GOLDEN
    if not path.is_file():
        return
    table = pq.read_table(path)
    rows = table.select([name for name in table.column_names if not name.startswith(ANSWER)])
    for one in live.model.value.multiply:  # golden rows hold what the model reads
        if one.column not in rows.column_names:
            rows = rows.append_column(one.column, pa.nulls(rows.num_rows))
    for count in WARM:
        repeated = rows.take(np.zeros(count, dtype=np.int64))
        for _ in range(3):
            _answers(live, repeated, memory=False)


@dataclass(frozen=True)
class Answered:
    """A reply, and what it was made of."""

    reply: Reply
    rows: Rows
    answers: Answers


def reply(
    live: Live,
    question: Question,
    lookup: Lookup | None,
    config: ServingConfig,
    now: datetime,
    stage: Callable[[str], None] = lambda name: None,
    known: Rows | None = None,
) -> Answered:
    """Return what a version answers to a question.

    Args:
        live: the version.
        question: what is asked.
        lookup: the online store; None takes what the question gives.
        config: limits and fallbacks.
        now: time of the request where the question does not give one, UTC.
        stage: told the name of each step when it is done.
        known: raw rows of the same candidates, as another version read them.

    Raises:
        RefusedError: 400, the question does not fit the model; 503, it would be answered without features, and that is
            not wanted.
    """
    wanted = _wanted(live, question)
    rows = rows_of(question, live.reads, lookup, now, config.limits.candidates, known)
    if rows.late and config.fallback.features == "refuse":
        raise RefusedError(503, "the online store did not answer in time: ask again", retry_after=1)
    if lookup is not None and not rows.user_known and config.fallback.missing_user == "refuse":
        raise RefusedError(400, f"nothing is known of the {live.reads.declaration.user} that asks: send its features")
    stage("features")
    try:
        answers = _answers(live, rows.table, shared=rows.shared, request=question.id)
    except (BadInputError, MissingError) as error:
        raise RefusedError(400, str(error)) from None
    stage("answer")
    outputs: dict[str, np.ndarray[Any, Any]] = dict(answers.tasks)
    worth = answers.expected_value if answers.expected_value is not None else np.zeros(rows.table.num_rows)
    outputs[VALUE] = worth
    if RANK in wanted:
        outputs[RANK] = ranks(worth, rows.table[live.reads.declaration.item])
    parameters = {
        "role": live.alias,
        "memory": live.pointed.short_memory if live.memory is not None else "",
        "missing": _by_view(rows),
    }
    if answers.bonus is not None:
        outputs[BONUS] = answers.bonus
        parameters["exploration"] = live.pointed.bandit[:12]
    if answers.first is not None:
        outputs[FIRST] = answers.first
        parameters["explored_by"] = "draw"
    shown = {name: outputs[name] for name in live.outputs if name in wanted}
    if question.reasons:
        shown |= _reasons(live, rows.table, question.reasons)
        stage("reasons")
    return Answered(Reply(live.name, str(live.pointed.version), shown, parameters, question.id), rows, answers)


def _answers(
    live: Live, rows: pa.Table, *, memory: bool = True, shared: Collection[str] = (), request: str = ""
) -> Answers:
    used, bandit = (live.memory, live.bandit) if memory else (None, None)
    draw = replace(live.draw, request=request) if live.draw is not None else None
    asked = partial(answer, live.model, rows, memory=used, value=live.model.value, bandit=bandit, draw=draw)
    if live.graph is not None:
        try:
            return asked(request=live.graph, shared=shared)
        except SeveralRequestsError:  # a question may give what a request has once for each candidate
            pass
    return asked()


def _reasons(live: Live, rows: pa.Table, top: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return ``reason_1``, ``effect_1``, …: what moved the deepest feedback's logit most; empty and 0 where nothing.

    Raises:
        RefusedError: 400, there are more candidates than may be explained.
    """
    from registry.serving.answers.reasons import effects_of, groups_of, top_reasons
    from registry.serving.scores.value import deepest

    if rows.num_rows > EXPLAINED:
        raise RefusedError(400, f"reasons are given for at most {EXPLAINED} candidates: ask again about the best")
    schema = live.model.contract.schema_
    task = deepest(schema.declaration, live.model.contract.tasks)
    found = top_reasons(effects_of(live.model, rows, task, groups_of(schema)), top)
    blank = {True: "", False: 0.0}
    return {
        name: np.array([blank[name.startswith("reason")] if value is None else value for value in column.to_pylist()])
        for name, column in zip(found.column_names, found.columns, strict=True)
    }


def _wanted(live: Live, question: Question) -> tuple[str, ...]:
    for name in question.outputs:
        if name not in live.outputs:
            raise RefusedError(400, f"the model has no output {name[:63]!r}{did_you_mean(name[:63], live.outputs)}")
    return question.outputs or tuple(name for name in live.outputs if name != RANK)


def _by_view(rows: Rows) -> dict[str, int]:
    missing: dict[str, int] = {}
    for (view, _), count in sorted(rows.missing.items()):
        missing[view] = missing.get(view, 0) + count
    return missing


def ranks(
    worth: np.ndarray[tuple[int], np.dtype[np.float64]], items: pa.ChunkedArray
) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return int32 ``[N]`` places: 1 has the largest worth, of equal ones the smaller item id."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.table({"worth": worth, "item": items, "row": np.arange(len(worth))})
    order = pc.sort_indices(table, sort_keys=[("worth", "descending"), ("item", "ascending"), ("row", "ascending")])
    places = np.empty(len(worth), dtype=np.int32)
    places[order.to_numpy()] = np.arange(1, len(worth) + 1, dtype=np.int32)
    return places
