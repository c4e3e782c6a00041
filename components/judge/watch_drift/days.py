"""What does each span of a window hold, compared with the baseline? Cells of every check, day by day."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.judge.watch_drift.answers import Enough, Told, answer_cells, skew_cells
from components.judge.watch_drift.clusters import Clusters, beyond
from components.judge.watch_drift.config import Config
from components.judge.watch_drift.fields import field_cells
from components.judge.watch_drift.joined import joined_cells, matched
from components.judge.watch_drift.report import Cell, Day
from components.judge.watch_drift.rows import Rows, answered, asked_again, readable, some_users, unknown_flags
from components.judge.watch_drift.shares import Size
from components.judge.watch_drift.traffic import usual
from features.declaration import Window

if TYPE_CHECKING:
    import pyarrow as pa

    from components.rankers.tasks import Task
    from features.declaration import Declaration
    from registry.evaluation import Evaluation
    from registry.serving.evidence.baseline import Baseline
    from registry.serving.model.served_model import ServedModel

Array = NDArray[Any]
WEEK = 7


@dataclass(frozen=True)
class Watched:
    """A version with what it was like when it was judged."""

    model: ServedModel
    digest: str
    """Of its files, as a log names them."""
    baseline: Baseline
    evaluation: Evaluation | None
    tasks: tuple[Task, ...]

    @property
    def roles(self) -> Declaration:
        """Roles of the columns; a request and a group tell nothing here."""
        declared = self.model.contract.schema_.declaration
        return declared.model_copy(update={"request": None, "group": None})


def spans(window: Window, every: timedelta) -> list[tuple[datetime, datetime]]:
    """Return the whole spans of a window, the last one ending with it."""
    count = (window.end - window.start) // every
    return [(window.end - every * left, window.end - every * (left - 1)) for left in range(count, 0, -1)]


def day_of(watched: Watched, rows: Rows, joined: Rows | None, start: datetime, end: datetime, config: Config) -> Day:
    """Return what a span holds, before its neighbours and its traffic are looked at.

    Args:
        watched: the version.
        rows: what is judged.
        joined: the same rows with features as a join gives them; None compares with no join.
        start: first moment of the span.
        end: first moment after it.
        config: limits, and what a cell needs.
    """
    import pyarrow as pa

    table, answers = rows.between(start, end)
    roles = watched.roles
    count, users = table.num_rows, len(table[roles.user].unique())
    new = _new_to(watched, table) & some_users(table[roles.user], config.most_rows)
    places = np.flatnonzero(new)
    if places.size < count:
        table = table.take(pa.array(places))
        answers = None if answers is None else answers.take(pa.array(places))
    day = Day(start=start, end=end, rows=count, users=users, judged=table.num_rows, rates={}, cells=())
    if not table.num_rows:
        return day
    again = None if joined is None else joined.between(start, end)[0]
    cells = tuple(_cells(watched, rows, table, answers, again, config))
    rates = {name: float(table[name].to_numpy().mean()) for name in roles.feedback}
    return day.model_copy(update={"rates": rates, "cells": cells})


def traffic_cells(days: Sequence[Day], config: Config) -> Iterator[Cell]:
    """Yield how many rows and users the last of some days has, against the same weekday of earlier weeks."""
    if config.limits.traffic is None:
        return
    limit, every = float(np.log1p(config.limits.traffic)), config.every.days
    season = 1 if every % WEEK == 0 else WEEK // every if WEEK % every == 0 else 0
    for of, counts in (("rows", [day.rows for day in days]), ("users", [day.users for day in days])):
        found = usual(counts, season) if season else None
        cell = Cell(check="traffic", of=of, rows=days[-1].rows, now=float(counts[-1]), limit=limit)
        if found is None:
            reason = "the window holds no two earlier weeks" if season else f"{every}d are no part of a week"
            yield cell.model_copy(update={"reason": reason})
            continue
        chance = beyond(found.difference, found.error, limit, found.freedom, both=True)
        yield cell.model_copy(update={"before": found.expected, "change": abs(found.difference), "chance": chance})


def _new_to(watched: Watched, table: pa.Table) -> Array:
    """Return which rows the version was neither fitted nor chosen on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    until = watched.model.contract.schema_.trained_until
    if until is None:
        return np.ones(table.num_rows, dtype=bool)
    micros = pa.timestamp("us", "UTC")
    return np.asarray(pc.greater_equal(table[watched.roles.time].cast(micros), pa.scalar(until, micros)).to_numpy())


def _cells(
    watched: Watched,
    rows: Rows,
    table: pa.Table,
    answers: pa.Table | None,
    joined: pa.Table | None,
    config: Config,
) -> Iterator[Cell]:
    """Yield every cell of a day but those of its traffic.

    Raises:
        BadInputError: a column that the declaration names is missing, or a label is neither 0 nor 1.
    """
    import pyarrow as pa

    from components.judge.evaluate_ranker.rows import judged

    roles, base = watched.roles, Size(watched.baseline.rows, watched.baseline.users)
    enough = Enough(rows=config.min_rows, users=config.min_users)
    clusters = Clusters.of(_codes(table, roles.user))
    can_ask = readable(watched.model, rows.columns, roles)
    spreads = {name: one for name, one in watched.baseline.fields.items() if name in rows.columns}
    lack = enough.lack(clusters)
    if lack and config.limits.moved is not None:
        for name in spreads:
            yield Cell(check="moved", of=name, rows=table.num_rows, limit=config.limits.moved, reason=lack)
    if not lack and joined is not None and config.limits.skew is not None:
        found = matched(table, joined, roles, spreads)
        if not (less := enough.lack(some := Clusters.of(clusters.codes[found.places]))):
            yield from joined_cells(found, some, config.limits.skew)
        else:
            yield Cell(check="joined", of="rows", rows=len(found.places), limit=config.limits.skew, reason=less)
    if not lack:
        unknown = unknown_flags(watched.model, table) if can_ask else {}
        still = frozenset({roles.user})
        yield from field_cells(table, spreads, base, clusters, unknown, config.limits, still)
    said = answered(watched.model, watched.digest, table, answers)
    if not said.own.any():
        return
    own = said.own
    mine = table if own.all() else table.filter(pa.array(own))
    told = Told(
        rows=judged(mine, roles),
        base={task: values[own] for task, values in said.base.items()},
        served=None if said.served is None else {task: values[own] for task, values in said.served.items()},
        clusters=clusters.where(own),
    )
    placed = roles.position is not None
    yield from answer_cells(
        told, watched.tasks, watched.baseline, watched.evaluation, config.limits, enough, placed=placed
    )
    if answers is not None and can_ask and config.limits.skew is not None and not enough.lack(told.clusters):
        from registry.serving.answers.answer import answer

        at = asked_again(answers, own)
        again = answer(watched.model, table.take(pa.array(at))).base
        logged = {task: values[at] for task, values in said.base.items()}
        yield from skew_cells(logged, again, Clusters.of(clusters.codes[at]), config.limits.skew)


def _codes(table: pa.Table, column: str) -> Array:
    encoded = table[column].combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
