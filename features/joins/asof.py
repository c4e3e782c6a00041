"""Which row of a feature table was the newest one known at a moment? Feast's point-in-time rule as one sorted merge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.joins.spill import divided, part_of

EVENT, CREATED, MOMENT = "__event", "__created", "__moment"
ASKED_AT = "__asked_at"
"""When the answer is used, where that is later than the moment which it tells of: values age until then."""
_ROW, _KNOWN, _RANK, _PLACE = "__row", "__known", "__rank", "__place"
TIME = pl.Datetime("us", "UTC")
AT_ONCE = 1_000_000
"""Moments and rows of a table that are sorted and merged at once; of more, some of the keys after the others."""


def known_rows(
    moments: pl.DataFrame, table: pl.DataFrame, keys: Sequence[str], ttl: timedelta, *, honour_created: bool
) -> pl.Series:
    """Return for each moment the row of `table` that Feast's point-in-time join chooses.

    It is the row of the same key with the greatest ``(event, created)`` among those with ``event <= moment``,
    ``moment <= event + ttl`` (`ASKED_AT` in place of the moment, where there is one) and, with `honour_created`,
    ``created <= moment``; the last of equal ones. A row whose
    event or key is null is never chosen; one whose created time is null is the oldest of its event time, and never
    chosen with `honour_created`.

    Feast's own query joins every earlier row of the key and ranks them afterwards, so its cost grows with the square
    of the rows per key. Here each row becomes known once, at ``max(event, created)``, and rows that were outdated
    when they became known are dropped; among the others the newest known one is the latest, which one merge finds.

    Args:
        moments: the keys and `MOMENT`, in ``datetime[us, UTC]``, in any order; perhaps `ASKED_AT`.
        table: the keys in the same types, `EVENT` and, where rows have one, `CREATED`, both as `MOMENT`.
        keys: columns that both have.
        ttl: greatest age; zero means any.
        honour_created: hide rows that were written after the moment.

    Returns:
        uint32, positions in `table`, null where nothing was known.
    """
    table = table.with_row_index(_ROW)
    parts = -(-max(len(moments), len(table)) // AT_ONCE)
    if parts <= 1:
        return _known_rows(moments, table, keys, ttl, honour_created)
    # What is known of a key depends on its own rows alone.
    mine, theirs = (frame.select(part_of(keys, parts)).to_series() for frame in (moments, table))
    found = np.zeros(len(moments), dtype=np.uint32)
    known = np.zeros(len(moments), dtype=bool)
    for part in range(parts):
        at = mine == part
        rows = _known_rows(moments.filter(at), table.filter(theirs == part), keys, ttl, honour_created)
        places = np.flatnonzero(at.to_numpy())
        found[places], known[places] = rows.fill_null(0).to_numpy(), rows.is_not_null().to_numpy()
    return _where_known(found, known)


def known_rows_of_parts(
    moments: Iterable[pl.DataFrame],
    table: Iterable[pl.DataFrame],
    keys: Sequence[str],
    ttl: timedelta,
    *,
    honour_created: bool,
    parts: int,
    folder: Path,
) -> pl.Series:
    """Return what `known_rows` does of more rows than memory should hold: some of the keys after the others.

    What is known of a key depends on its own rows alone, so rows wait on disk until the part of their keys has its
    turn.

    Args:
        moments: blocks of rows, see `known_rows`.
        table: blocks of rows, likewise.
        keys: columns that both have.
        ttl: greatest age.
        honour_created: hide rows that were written after the moment.
        parts: how many times some of the keys have their turn.
        folder: where rows wait; its files are deleted.
    """
    if parts <= 1:
        return known_rows(pl.concat(moments), pl.concat(table), keys, ttl, honour_created=honour_created)
    mine = divided(_numbered(moments, _PLACE), keys, parts, folder / "asked.parquet")
    theirs = divided(_numbered(table, _ROW), keys, parts, folder / "known.parquet")
    found = np.zeros(len(mine.file), dtype=np.uint32)
    known = np.zeros(len(mine.file), dtype=bool)
    for number in range(parts):
        asked = mine.part(number)
        rows = _known_rows(asked.drop(_PLACE), theirs.part(number), keys, ttl, honour_created)
        places = asked[_PLACE].to_numpy()
        found[places], known[places] = rows.fill_null(0).to_numpy(), rows.is_not_null().to_numpy()
    for each in (mine, theirs):
        each.file.path.unlink()
    return _where_known(found, known)


def _where_known(found: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> pl.Series:
    return pl.select(pl.when(pl.Series(known)).then(pl.Series(_ROW, found))).to_series().rename(_ROW)


def _numbered(blocks: Iterable[pl.DataFrame], name: str) -> Iterable[pl.DataFrame]:
    rows = 0
    for block in blocks:
        yield block.with_row_index(name, rows)
        rows += len(block)


def _known_rows(
    moments: pl.DataFrame, table: pl.DataFrame, keys: Sequence[str], ttl: timedelta, honour_created: bool
) -> pl.Series:
    known = _by_time_known(table, list(keys), honour_created)
    used = ASKED_AT if ASKED_AT in moments.columns else MOMENT
    asked = moments.select(*keys, *dict.fromkeys((MOMENT, used)))
    order = None if asked[MOMENT].is_sorted() else asked[MOMENT].arg_sort()
    if order is not None:
        asked = asked[order]
    # Rows of one key are sorted by the time that they became known, which the library cannot check by itself.
    found = asked.join_asof(
        known, left_on=MOMENT, right_on=_KNOWN, by=list(keys), strategy="backward", check_sortedness=False
    )
    if ttl:
        found = found.with_columns(pl.when(pl.col(EVENT) + ttl >= pl.col(used)).then(_ROW).alias(_ROW))
    rows = found[_ROW]
    return rows if order is None else rows[order.arg_sort()]


def _by_time_known(table: pl.DataFrame, keys: list[str], honour_created: bool) -> pl.DataFrame:
    """Return the keys, `EVENT`, row number and time known of the numbered rows that were news, in order per key.

    Most tables lie in that order already, and are recognised in one pass.
    """
    if CREATED not in table.columns:
        table = table.with_columns(pl.col(EVENT).alias(CREATED))
    needed = [*keys, EVENT, *([CREATED] if honour_created else [])]
    rows = table.filter(pl.all_horizontal(pl.col(needed).is_not_null())).with_columns(
        pl.max_horizontal(EVENT, CREATED if honour_created else EVENT).alias(_KNOWN)
    )
    if not _in_order(rows, keys):
        # A rank instead of a pair of times, so that a running maximum can compare it; nulls come first.
        ranked = rows.sort(EVENT, CREATED, _ROW).with_row_index(_RANK).sort(*keys, _KNOWN, _RANK)
        rows = ranked.filter(pl.col(_RANK) == pl.col(_RANK).cum_max().over(keys))
    return rows.select(*keys, EVENT, _ROW, _KNOWN)


def _in_order(rows: pl.DataFrame, keys: list[str]) -> bool:
    """Return whether keys ascend and, within a key, event, created and known times never fall."""
    if rows[CREATED].null_count():
        return False

    def risen(name: str) -> pl.Expr:
        return pl.col(name) > pl.col(name).shift(1)

    def level(name: str) -> pl.Expr:
        return pl.col(name) == pl.col(name).shift(1)

    newer = risen(EVENT) | (level(EVENT) & (risen(CREATED) | level(CREATED)))
    fine = newer & (risen(_KNOWN) | level(_KNOWN))
    for key in reversed(keys):
        fine = risen(key) | (level(key) & fine)
    return bool(rows.select(fine.fill_null(True).all()).item())
