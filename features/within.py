"""How does a row stand out among those it was shown with? Ranks, ratios and gaps of a number within its request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from features.declaration import Declaration
from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def with_within(table: pa.Table, declaration: Declaration) -> pa.Table:
    """Return rows with the declared columns of their requests beside them, float64, null where the number is missing.

    ``rank`` is the place among the request's numbers, the smallest first from 1, equal ones at their mean place;
    ``ratio`` is the number over the mean of what was shown, null where that is 0; ``gap`` the number minus that mean.
    The same function makes them for training and for every answer, so a row must come with all of its request. A
    column that is there already is taken as it is.

    Raises:
        BadInputError: a column that they are made of is missing or holds no numbers.
    """
    import polars as pl

    wanted = {name: within for name, within in declaration.within.items() if name not in table.column_names}
    if not wanted:
        return table
    request = str(declaration.request)
    needed = [request, *dict.fromkeys(within.of for within in wanted.values())]
    if absent := [name for name in needed if name not in table.column_names]:
        listed = ", ".join(map(repr, absent))
        raise BadInputError(f"rows have no column {listed}, of which {', '.join(map(repr, wanted))} is made: add it")
    frame = pl.DataFrame(table.select(needed))
    for name in needed[1:]:
        if not frame[name].dtype.is_numeric():
            raise BadInputError(f"within: column {name!r} is {frame[name].dtype}, which has no rank: name a number")
    for name, within in wanted.items():
        values = frame.select(_of(pl.col(within.of).cast(pl.Float64), within.take).over(request)).to_series()
        table = table.append_column(name, values.to_arrow())
    return table


def _of(number: pl.Expr, take: str) -> pl.Expr:
    import polars as pl

    known = pl.when(number.is_finite()).then(number)  # neither NaN nor infinity is a number to compare with
    if take == "rank":
        return known.rank("average")
    mean = known.mean()
    return known - mean if take == "gap" else known / pl.when(mean != 0).then(mean)
