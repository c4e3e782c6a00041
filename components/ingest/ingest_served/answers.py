"""What was answered to each labelled row, by whom, and what would a shadow have answered to the same row?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry.serving.log.segments import ANSWER, BASE, SERVED

if TYPE_CHECKING:
    import pyarrow as pa

ANSWERS = "answers.parquet"
"""File of labelled rows of a log, row by row as the raw ones: `row_id`, the columns of `SERVED`, `BASE` and `ANSWER`,
and with `SHADOW` before their names those of the shadow, null where it was not asked."""
SHADOW = "shadow."
ROLE, ROW = f"{SERVED}role", f"{SERVED}row"
_TOLD = (f"{SERVED}version", f"{SERVED}digest")
"""What a shadow's columns tell besides its answers."""


def by_role(table: pa.Table) -> tuple[pa.Table, pa.Table | None]:
    """Return the rows that callers got, and those that a shadow answered; None without any.

    Only callers' rows may be labelled: a shadow's have the same ids, and nobody saw them.
    """
    import pyarrow.compute as pc

    if ROLE not in table.column_names:
        return table, None
    shadow = pc.fill_null(pc.equal(table[ROLE], "shadow"), False)
    unseen = table.filter(shadow)
    return table.filter(pc.invert(shadow)), unseen if unseen.num_rows else None


def answers_of(rows: pa.Table, shadow: pa.Table | None, item: str) -> pa.Table:
    """Return what `ANSWERS` holds of labelled rows.

    Args:
        rows: labelled rows of a log with all their columns.
        shadow: rows that a shadow answered; each belongs to the one of the same question, place and item.
        item: column of the item id.
    """
    own = [name for name in rows.column_names if name == "row_id" or name.startswith((SERVED, BASE, ANSWER))]
    found = rows.select(own)
    if shadow is None:
        return found
    import polars as pl
    import pyarrow as pa

    told = [name for name in shadow.column_names if name in _TOLD or name.startswith((BASE, ANSWER))]

    def keyed(table: pa.Table, *names: str) -> pl.DataFrame:
        frame: pl.DataFrame = pl.DataFrame(table.select([ROW, *names]))
        return frame.with_columns(pl.Series("__item", table[item].cast(pa.string())))

    said = keyed(shadow, f"{SERVED}at", *told).sort(f"{SERVED}at").unique([ROW, "__item"], keep="first")
    said = said.select(ROW, "__item", *(pl.col(name).alias(_of_shadow(name)) for name in told))
    joined = keyed(rows).join(said, on=[ROW, "__item"], how="left", maintain_order="left")
    for name in map(_of_shadow, told):
        found = found.append_column(name, joined[name].to_arrow())
    return found


def _of_shadow(name: str) -> str:
    return SHADOW + name.removeprefix(SERVED)


def read_answers(directory: Path) -> pa.Table | None:
    """Return `ANSWERS` of labelled rows, None where they come from no log."""
    import pyarrow.parquet as pq

    path = directory / ANSWERS
    return pq.read_table(path) if path.is_file() else None
