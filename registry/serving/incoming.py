"""Are these rows what the model was made for, and to which domain does each belong? One check for every caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from features.declaration import UNKNOWN
from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration
    from features.encoding.encoder import Encoder

Codes = np.ndarray[Any, np.dtype[np.int64]]
ELSEWHERE = -1
"""Code of a row whose domain is missing or not in the list."""


def selected(table: pa.Table, needed: Sequence[str], time: str) -> pa.Table:
    """Return the columns that a model reads, the rows in their order.

    Raises:
        BadInputError: the time is none.
    """
    rows = table.select(list(needed))
    if time in needed:
        rows = rows.set_column(rows.column_names.index(time), time, _moments(rows[time], time))
    return rows


def placed(table: pa.Table, declaration: Declaration) -> pa.Table:
    """Return rows as if each stood in the place that a model answers for, whatever they say; as they are without one.

    Nobody knows the place of a row that is still to be ranked, and a place of the past would speak for the item.
    """
    if (position := declaration.position) is None:
        return table
    import pyarrow as pa

    column = pa.array(np.full(table.num_rows, position.served, dtype=np.int64))
    others = table.drop_columns([position.column]) if position.column in table.column_names else table
    return others.append_column(position.column, column)


def check_columns(table: pa.Table, needed: Mapping[str, str], model: str) -> None:
    """Refuse rows without a column that is needed, naming all of them at once; each name's value says what it is for.

    Raises:
        BadInputError: a column comes twice or is missing.
    """
    check_names(table)
    present = set(table.column_names)
    absent = {name: use for name, use in needed.items() if name not in present}
    if absent:
        listed = ", ".join(f"{name!r} ({use})" if use else repr(name) for name, use in absent.items())
        raise BadInputError(
            f"rows have no column {listed}, which {model} needs: add {'it' if len(absent) == 1 else 'them'}"
        )


def check_names(table: pa.Table) -> None:
    """Refuse a column that comes twice.

    Raises:
        BadInputError: one does.
    """
    twice = sorted(name for name, count in Counter(table.column_names).items() if count > 1)
    if twice:
        raise BadInputError(
            f"rows have more than one column {', '.join(map(repr, twice))}: rename or remove all but one of each"
        )


def check_identity(table: pa.Table, name: str, what: str) -> None:
    """Refuse rows that their id does not tell apart.

    Raises:
        BadInputError: the column is missing or comes twice, or an id is missing or comes twice.
    """
    import pyarrow.compute as pc

    check_names(table)
    if name not in table.column_names:
        raise BadInputError(f"{what} rows have no column {name!r}, which tells them apart: add it")
    column = table[name]
    if column.null_count:
        raise BadInputError(f"{column.null_count:,} {what} rows have no {name!r}, which tells them apart: fill it in")
    counts = column.value_counts()
    if len(counts) < table.num_rows:
        first = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise BadInputError(f"{what} {first!r} has several rows: give one row per {what}")


def domain_column(table: pa.Table, name: str | None, wanted_by: str) -> pa.ChunkedArray:
    """Return the column with the rows' domains.

    Raises:
        BadInputError: the model has no domain, or the rows have no such column.
    """
    if name is None:
        raise BadInputError(f"{wanted_by} differs by domain, but the model's declaration names none: declare one")
    if name not in table.column_names:
        raise BadInputError(f"rows have no column {name!r}, by which {wanted_by} differs: add it")
    return table[name]


def domain_codes(column: pa.ChunkedArray, known: Sequence[str]) -> Codes:
    """Return int64 ``[rows]``: the place of each row's domain in `known`, −1 for a missing or another one.

    Args:
        column: domains of any type; they are compared as text, as in the schema and in reports.
        known: names, each once.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column.cast(pa.string()), value_set=pa.array(list(known), pa.string()), skip_nulls=True)
    return np.asarray(pc.fill_null(found, ELSEWHERE).to_numpy(), dtype=np.int64)


def count_unknown(encoder: Encoder, batch: Mapping[str, np.ndarray[Any, Any]], rows: int) -> Counter[str]:
    """Return by field with a vocabulary how many of `rows` rows hold a value that training never held.

    A history or a bag holds one if any of its values is one. Of a field with `kind: hash` nobody can tell. A field that
    comes in one row holds it for all.
    """
    found: Counter[str] = Counter()
    for field in encoder.fitted:
        if encoder.with_vocabulary(field) and (held := len(batch[field.name])):
            unknown = (batch[field.name] == UNKNOWN).reshape(held, -1).any(axis=1).sum()
            found[field.name] = int(unknown) * (rows // held)
    return found


def describe_unknown(unknown: Mapping[str, int], rows: int) -> str:
    """Return in what share of the rows a model did not know a value, by field, e.g. ``not known: user_id 3.1%``."""
    shares = {name: count / rows for name, count in unknown.items() if count and rows}
    if not shares:
        return "every value known"
    return "not known: " + ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items()))


def _moments(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Return times in µs, UTC; a time without a zone is in UTC, as at ingestion."""
    import pyarrow as pa

    kind, utc = column.type, pa.timestamp("us", "UTC")
    if pa.types.is_timestamp(kind) or pa.types.is_null(kind):
        return column.cast(utc, safe=False)
    if pa.types.is_date(kind):
        return column.cast(pa.timestamp("us")).cast(utc)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        for target in (utc, pa.timestamp("us")):
            try:
                return column.cast(target).cast(utc)
            except pa.ArrowInvalid:
                continue
    raise BadInputError(
        f"column {name!r} is {kind}, no time: a number has no unit, so give it a timestamp or a text such as "
        "2026-01-31T23:59:00"
    )
