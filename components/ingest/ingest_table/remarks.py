"""What in a table is allowed, and still worth a line? Words that often mean missing, and rows that contradict."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import polars as pl

from components.ingest.ingest_table.config import EVENT, ITEM, REQUEST, USER, Config

NULL_WORDS = ("NULL", "null", "\\N", "nan", "NaN", "None", "N/A", "#N/A", "<NA>", "NaT")
"""What databases and data frames write for a missing value; `NA` is Namibia as well."""


def null_words(rows: pl.DataFrame, null_values: Sequence[str] | None, table: str) -> Iterator[str]:
    """Yield one line per column of texts that holds words which often mean missing.

    Args:
        rows: published columns.
        null_values: what the config says of such words; nothing is told once it says anything.
        table: whose rows they are: ``impressions``.
    """
    if null_values is not None:
        return
    for name in (name for name, dtype in rows.schema.items() if dtype in (pl.String, pl.List(pl.String))):
        column = rows[name]
        listed = column.dtype != pl.String
        held = column.list.eval(pl.element().filter(pl.element().is_in(NULL_WORDS))) if listed else column
        found = held.filter(held.list.len() > 0) if listed else held.filter(held.is_in(NULL_WORDS))
        if len(found):
            words = sorted((found.explode() if listed else found).unique().to_list())
            said = " or ".join(map(repr, words))
            yield (
                f"warning: {name!r} of {table} {'holds' if listed else 'is'} {said} in {len(found):,} rows: if that "
                "means missing, set "
                f"null_values: {json.dumps(words)}, otherwise null_values: []"
            )


def contradictions(rows: pl.DataFrame, config: Config) -> dict[str, int]:
    """Return how many rows differ from another one of the same impression, by what to tell of them.

    Args:
        rows: impressions after the rule about duplicates.
        config: says whether requests are known.
    """
    same, said = (
        ([REQUEST, ITEM], "request and item") if config.request else ([USER, ITEM, EVENT], "user, item and time")
    )
    distinct = rows.unique() if config.duplicates == "keep" else rows
    return {f"rows differ from another one of the same {said}": len(distinct) - distinct.select(same).unique().height}
