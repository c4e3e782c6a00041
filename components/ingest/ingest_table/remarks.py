"""Which rows are not published, and what is worth a line? Rows that repeat, break a funnel or find no attributes."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from components.ingest.ingest_table.config import CREATED, EVENT, REQUEST, Config
from components.ingest.ingest_table.place import Entities, Log
from components.platform.errors import BadInputError
from features.joins.spill import BLOCK

NULL_WORDS = ("NULL", "null", "\\N", "nan", "NaN", "None", "N/A", "#N/A", "<NA>", "NaT")
"""What databases and data frames write for a missing value; `NA` is Namibia as well."""
_ROW = "__row"
_IDS = 100_000
"""Ids of a side among which one is sought that the other side writes in another way."""


def without_duplicates(
    rows: pl.DataFrame, table: Config | Log, ids: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the rows after the rule about duplicates, and how many it left out, by what to tell of them.

    Args:
        rows: published columns.
        table: what the config says of them.
        ids: name of the `user`'s and the `item`'s id.

    Raises:
        BadInputError: the rule is `refuse` and two rows agree.
    """
    if table.duplicates == "keep":
        return rows, {}
    if table.duplicates == "latest":
        same = [*ids.values(), EVENT, *([REQUEST] if REQUEST in rows.columns else [])]
        # Of rows stored at once the order of their other values decides, so that the files' order does not.
        ordered = rows.sort([*same, CREATED, *(name for name in rows.columns if name not in (*same, CREATED))])
        once = ordered.unique(same, keep="last", maintain_order=True)
    else:
        once = _firsts(rows)
    repeated = len(rows) - len(once)
    if repeated and table.duplicates == "refuse":
        *found, time = rows.filter(rows.is_duplicated()).select(*ids.values(), EVENT).row(0)
        first = ", ".join(f"{role} {one}" for role, one in zip(ids, found, strict=True))
        raise BadInputError(
            f"{repeated:,} rows of {table.files} repeat another one, first {first} at {time:%Y-%m-%d %H:%M:%S} UTC: "
            "remove them, or set duplicates to drop"
        )
    return once, {f"repeated rows {'replaced by the latest' if table.duplicates == 'latest' else 'dropped'}": repeated}


def _firsts(rows: pl.DataFrame) -> pl.DataFrame:
    """Return each row once, the first of equal ones, in their order."""
    perhaps = _perhaps_equal(rows)
    doubtful = rows.with_row_index(_ROW).filter(perhaps)
    first = doubtful.unique(rows.columns, keep="first", maintain_order=True)[_ROW]
    stays = ~perhaps.to_numpy()
    stays[first.to_numpy()] = True
    return rows if stays.all() else rows.filter(stays)


def _perhaps_equal(rows: pl.DataFrame) -> pl.Series:
    """Return which rows have the hash of another one: all that are equal to one, and hardly any beside.

    To compare all rows in all columns takes several times the memory of the rows.
    """
    if any(dtype.is_nested() for dtype in rows.dtypes):
        return pl.repeat(True, len(rows), eager=True)
    # Equal numbers of other bits: 0 and -0, and whatever is no number.
    plain = (cs.float() + 0.0).fill_nan(float("nan"))
    slices = rows.iter_slices(BLOCK) if len(rows) else [rows]
    hashes = pl.concat([some.with_columns(plain).hash_rows(seed=0) for some in slices])
    # Sorted, which takes a fraction of the memory of a table of all hashes.
    ordered = np.sort(hashes.to_numpy())
    again = pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]]), dtype=pl.UInt64)
    return hashes.is_in(again.implode()) if len(again) else pl.repeat(False, len(rows), eager=True)


def mended(rows: pl.DataFrame, config: Config) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return the impressions after the rule about broken funnels, and how many it met, by what to tell of them.

    Raises:
        BadInputError: the rule leaves every row out.
    """
    if config.funnel is None:
        return rows, {}
    labels, broken = config.funnel.labels, config.funnel.broken
    breaks = pl.any_horizontal(pl.col(later) > pl.col(earlier) for earlier, later in pairwise(labels))
    count = int(rows.select(breaks.sum()).item())
    if broken == "drop":
        if count == len(rows):
            raise BadInputError(
                f"every impression breaks the funnel {' -> '.join(labels)}: correct the order of its labels"
            )
        rows = rows.filter(~breaks)
    elif broken == "force":
        rows = rows.with_columns(pl.max_horizontal(labels[at:]).alias(name) for at, name in enumerate(labels))
    done = {"drop": "dropped", "force": "mended", "keep": "kept"}[broken]
    return rows, {f"rows that break the funnel {' -> '.join(labels)} {done}": count}


def null_words(rows: pl.DataFrame, null_values: Sequence[str] | None, table: str) -> Iterator[str]:
    """Yield one line per column of texts that holds words which often mean missing.

    Args:
        rows: published columns.
        null_values: what the config says of such words; nothing is told once it says anything.
        table: whose rows they are: ``impressions``.
    """
    if null_values is not None:
        return
    for column in rows.select(cs.by_dtype(pl.String, pl.List(pl.String))):
        listed = column.dtype != pl.String
        # One row per text, which knows the row of the table that holds it.
        texts = pl.DataFrame([column.alias("text")]).with_row_index("row")
        found = (texts.explode("text") if listed else texts).filter(pl.col("text").is_in(NULL_WORDS))
        if len(found):
            words = found["text"].unique().sort().to_list()
            yield (
                f"warning: {column.name!r} of {table} {'holds' if listed else 'is'} {' or '.join(map(repr, words))} in "
                f"{found['row'].n_unique():,} rows: if that means missing, set null_values: {json.dumps(words)}, "
                "otherwise null_values: []"
            )


def contradictions(rows: pl.DataFrame, config: Config) -> dict[str, int]:
    """Return how many rows differ from another one of the same impression, by what to tell of them.

    Args:
        rows: impressions after the rule about duplicates.
        config: says whether requests are known.
    """
    same, said = (
        ([REQUEST, config.item_name], "request and item")
        if config.request
        else ([config.user_name, config.item_name, EVENT], "user, item and time")
    )
    distinct = _firsts(rows) if config.duplicates == "keep" else rows
    doubtful = distinct.select(same).filter(_perhaps_equal(distinct.select(same)))
    return {f"rows differ from another one of the same {said}": len(doubtful) - doubtful.unique().height}


def tell_unmatched(unmatched: pl.Series, total: int, entities: pl.DataFrame, table: Entities, role: str) -> str | None:
    """Return a line about the impressions that found no row, or None when each did.

    Args:
        unmatched: ids of those impressions, named as they are published.
        total: how many impressions there are, at least one.
        entities: rows of the table.
        table: what the config says of it.
        role: ``users`` or ``items``.

    Raises:
        BadInputError: not one impression found its row, or more did not than `unmatched.at_most` allows.
    """
    if not len(unmatched):
        return None
    limit = table.unmatched.at_most
    if len(unmatched) == total and limit is None:
        raise BadInputError(
            f"not one of {total:,} impressions finds its row in {table.files}: {_why(unmatched, entities)}"
        )
    share = len(unmatched) / total
    first = unmatched.drop_nulls().min()
    if limit is not None and share > limit:
        raise BadInputError(
            f"{len(unmatched):,} of {total:,} impressions ({share:.1%}) find no row in {table.files}, such as "
            f"{unmatched.name} {first!r}, and unmatched.at_most is {limit}: complete the table, or raise the limit"
        )
    mark = "warning: " if share > table.unmatched.warn_above else ""
    return (
        f"{mark}{len(unmatched):,} impressions ({share:.1%}) of {role} without a row in their table, such as "
        f"{unmatched.name} {first!r}"
    )


def _why(unmatched: pl.Series, entities: pl.DataFrame) -> str:
    name = unmatched.name
    if entities.is_empty():
        return "the table holds no rows; write it again"
    here, there = unmatched.unique(), entities[name].unique()
    if both := here.filter(here.is_in(there.implode())).to_list():
        return (
            f"the rows of {name} {min(both)!r}, as all others, hold only since its impressions or later; correct "
            "valid_from (unit, zone), leave it out where rows hold from the beginning, or set unmatched.at_most: 1"
        )
    one, other = _pair(here.sort().head(_IDS).to_list(), there.sort().head(_IDS).to_list())
    return f"{name} is written {one!r} in the impressions and {other!r} in the table; write ids alike in both"


def _pair(here: list[Any], there: list[Any]) -> tuple[Any, Any]:
    """Return an id of either side, the same one if the sides write it in two ways."""
    known = {_bare(one): one for one in reversed(there)}
    return next(((one, known[_bare(one)]) for one in here if _bare(one) in known), (here[0], there[0]))


def _bare(one: Any) -> str:
    text = unicodedata.normalize("NFKC", str(one)).casefold()
    return re.sub(r"\s+", "", re.sub(r"\.0+$", "", text)).lstrip("0")
