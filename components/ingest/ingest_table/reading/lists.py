"""How do lists in one row become rows of their own? Element by element, each beside the row's other fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import polars as pl
import polars.selectors as cs

from components.ingest.ingest_table.place import Explode
from components.platform.errors import BadInputError

ROW = "\0row"
"""Number of an element's row in the file, from 0; no column of a file has such a name."""
PLACE = "\0place"
"""Place of an element in its list, from 1; null in the one row that stands for lists without elements."""
_TEXTS = (pl.String, pl.Categorical, pl.Enum, pl.Null)
_BRACKETS = r"^\[.*\]$"
Collect = Callable[[pl.LazyFrame], pl.DataFrame]


def exploded(
    rows: pl.LazyFrame, names: Sequence[str], explode: Explode, nulls: Collection[str], shown: str, collect: Collect
) -> pl.LazyFrame:
    """Return one row per element of the lists in a row, with `ROW` and `PLACE`, and one for lists without elements.

    A text that is empty is a list without elements, unless another list of its row has one: then it is that missing
    element.

    Args:
        rows: rows of a file, in its order.
        names: columns that hold lists.
        explode: what the config says of them.
        nulls: texts that mean missing.
        shown: how an error names the file.
        collect: gives what is made of the rows.

    Raises:
        BadInputError: a column holds no lists, or the lists of a row differ in length.
    """
    schema = rows.collect_schema()
    lists, lengths, lacking, brackets = [], [], [], []
    for name in names:
        column, dtype = cs.by_name(name).as_expr(), schema[name]
        if isinstance(dtype, pl.Array):
            column, dtype = column.arr.to_list(), pl.List(dtype.inner)
        if dtype in _TEXTS:
            text = column.cast(pl.String).str.strip_chars()
            lacking.append((text.is_in(["", *nulls])).fill_null(True))
            brackets.append(text.str.contains(_BRACKETS).fill_null(False))
            column = text.fill_null("").str.split(explode.separator)
        elif isinstance(dtype, pl.List):
            lacking.append(column.list.len().fill_null(0) == 0)
        else:
            raise BadInputError(
                f"{shown}: column {name!r} is {str(dtype).lower()}, and explode takes lists, or texts with a "
                "separator: leave it out of explode, or correct the file"
            )
        lists.append(column)
        lengths.append(column.list.len().cast(pl.Int64).fill_null(0))
    empty = pl.all_horizontal(lacking)
    differ = ~empty & pl.any_horizontal(*(length != lengths[0] for length in lengths[1:]), pl.lit(False))
    _check(rows, names, lengths, pl.any_horizontal(differ, *brackets), shown, collect)
    whole = rows.with_row_index(ROW).with_columns(
        *(pl.when(~empty).then(one).alias(name) for name, one in zip(names, lists, strict=True)),
        pl.when(~empty).then(pl.int_ranges(1, lengths[0] + 1, dtype=pl.Int64)).alias(PLACE),
    )
    return whole.explode(cs.by_name(*names, PLACE))


def _check(
    rows: pl.LazyFrame,
    names: Sequence[str],
    lengths: Sequence[pl.Expr],
    wrong: pl.Expr,
    shown: str,
    collect: Collect,
) -> None:
    if not (count := collect(rows.select(wrong.sum())).item()):
        return
    counts = [length.alias(str(index)) for index, length in enumerate(lengths)]
    looked_at = rows.select(wrong.alias("__wrong"), *counts).with_row_index(ROW)
    row, _, *found = collect(looked_at.filter("__wrong").head(1)).row(0)
    where, more = f"{shown}, row {row + 1}", f" (and {count - 1:,} more rows)" if count > 1 else ""
    if len(set(found)) == 1:
        raise BadInputError(
            f"{where}: a list of {' or '.join(map(repr, names))} stands in brackets{more}; write values separated by "
            "the separator of explode"
        )
    said = ", ".join(f"{name!r} {length:,}" for name, length in zip(names, found, strict=True))
    raise BadInputError(
        f"{where}: lists of one row differ in length, {said}{more}; write a missing element as an empty one"
    )
