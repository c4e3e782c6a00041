"""Does every field hold what the pipeline says of its column? One expression for the value, one for what is wrong."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from components.errors import BadInputError
from components.ingest_table.config import Column, Time
from components.ingest_table.rule import Condition, Rule
from components.ingest_table.scan import Scan

_LATEST = 1 << 33
"""Unix seconds in the year 2242."""
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_EARLIEST = {"s": 0, "ms": 10**12, "us": 10**15}
"""September 2001 in ms and us: what lies before was written in another unit."""
_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_COMPARE: dict[str, Callable[[pl.Expr, float | str], pl.Expr]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ROW = "__row"
_OFFSET = r"[+-]\d{2}:\d{2}$"


@dataclass(frozen=True)
class Typed:
    """A published column, or a check of one that is not published.

    Attributes:
        name: published name.
        column: name in the file.
        value: its value, null where it is missing.
        wrong: whether a field is not what is wanted; never null.
        wanted: what it should be.
    """

    name: str
    column: str
    value: pl.Expr
    wrong: pl.Expr
    wanted: str


def typed(name: str, column: Column, scan: Scan) -> Typed:
    """Return a column in the type that the config asks for.

    Args:
        name: published name.
        column: what the config says; a column without a name has the published one.
        scan: the file.

    Raises:
        BadInputError: the file's type cannot become that type at all.
    """
    source = column.column or name
    value, wrong, wanted = _VALUES[column.type](scan.column(source), scan.schema[source], column)
    if value is None:
        raise BadInputError(
            f"{scan.shown}: column {source!r} is {_said(scan.schema[source])}, which is no {column.type}: change the "
            "type in the pipeline, or the file"
        )
    empty = value.is_null()
    return Typed(name, source, value.alias(name), (wrong | empty) if column.required else wrong, wanted)


def label(name: str, rule: Rule, scan: Scan) -> list[Typed]:
    """Return a 0/1 label, after one check per further column that its rule reads."""
    if rule.flag is not None:
        flag = typed(name, Column(type="int64", column=rule.flag, required=True), scan)
        wrong = flag.wrong | ~flag.value.is_in([0, 1]).fill_null(True)
        return [Typed(name, rule.flag, flag.value.cast(pl.Int8).alias(name), wrong, "0 or 1")]
    parts = [_compared(condition, scan) for condition in rule.conditions]
    met = pl.all_horizontal(part.value for part in parts).cast(pl.Int8).alias(name)
    checks = [Typed("", part.column, part.value, part.wrong, part.wanted) for part in parts[1:]]
    return [*checks, Typed(name, parts[0].column, met, parts[0].wrong, parts[0].wanted)]


def moment(name: str, time: Time, scan: Scan) -> Typed:
    """Return a column of times as ``datetime[us, UTC]``.

    Raises:
        BadInputError: the file's type is no time in the unit that the config says.
    """
    column, dtype = scan.column(time.column), scan.schema[time.column]
    if time.unit != "iso":
        number = typed(name, Column(type="int64", column=time.column, required=True), scan)
        least, most = _EARLIEST[time.unit], _LATEST * _PER_SECOND[time.unit]
        wrong = number.wrong | ~number.value.is_between(least, most, closed="left").fill_null(True)
        scale = 1_000_000 // _PER_SECOND[time.unit]
        # A number far out of range is no date at all.
        value = pl.when(~wrong).then(number.value * scale).cast(pl.Datetime("us", "UTC"))
        return Typed(name, time.column, value.alias(name), wrong, f"a time in {_UNIT_WORDS[time.unit]} since 1970 UTC")
    if dtype == pl.String:
        value = _parsed(column, time.zone)
    elif isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        value = column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    elif isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        value = _placed(column.cast(pl.Datetime("us")), time.zone)
    else:
        raise BadInputError(
            f"{scan.shown}: column {time.column!r} is {_said(dtype)}, no time in text: say its unit, {time.column}: "
            "{column: ..., unit: s} for seconds since 1970, ms or us"
        )
    return Typed(name, time.column, value.alias(name), value.is_null(), "a time such as 2026-01-31T23:59:00")


def refuse(scan: Scan, checks: Sequence[Typed], rows: pl.LazyFrame, inside: pl.Expr | None = None) -> None:
    """Check every field of `rows`.

    Args:
        scan: the file.
        checks: columns.
        rows: rows to look at, all columns of the file.
        inside: which rows of the file they are; all when None.

    Raises:
        BadInputError: one is wrong; the message holds the first row, its field and what was expected.
    """
    sums = rows.select(one.wrong.sum().alias(str(index)) for index, one in enumerate(checks))
    counts = scan.collect(sums).row(0)
    broken = [(one, count) for one, count in zip(checks, counts, strict=True) if count]
    if not broken:
        return
    one, count = broken[0]
    # Only now, because a scan that numbers its rows reads all of them.
    where = one.wrong if inside is None else one.wrong & inside
    looked_at = scan.rows.select(scan.column(one.column).alias("found"), where.alias("where")).with_row_index(_ROW)
    row, found = scan.collect(looked_at.filter("where").select(_ROW, "found").head(1)).row(0)
    more = f" (and {count - 1:,} more rows)" if count > 1 else ""
    said = "empty" if found in (None, "") else repr(found)
    raise BadInputError(
        f"{scan.shown}, row {row + 1}: column {one.column!r} is {said}{more}, expected {one.wanted}; correct the file "
        "or what the pipeline says of the column"
    )


_Value = tuple[pl.Expr | None, pl.Expr, str]
_FINE = pl.lit(False)


def _text(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    if not (dtype == pl.String or dtype.is_integer() or dtype in (pl.Boolean, pl.Date, pl.Categorical, pl.Enum)):
        return None, _FINE, ""
    return _filled(column.cast(pl.String)), _FINE, "a text"


def _whole(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    wanted = "a whole number"
    if dtype.is_integer() or dtype == pl.Boolean:
        value = column.cast(pl.Int64, strict=False)
        return value, value.is_null() & column.is_not_null(), wanted
    if dtype.is_float():
        whole = (column.is_finite() & (column == column.floor())).fill_null(True)
        return pl.when(whole).then(column).cast(pl.Int64, strict=False), ~whole, wanted
    if dtype != pl.String:
        return None, _FINE, wanted
    text = _filled(column.str.strip_chars())
    # 4.0 is a whole number, too; beyond 2^53 only digits are exact.
    number = text.cast(pl.Float64, strict=False)
    floated = pl.when(number.is_finite() & (number == number.floor())).then(number).cast(pl.Int64, strict=False)
    value = pl.coalesce(text.cast(pl.Int64, strict=False), floated)
    return value, text.is_not_null() & value.is_null(), wanted


def _number(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    wanted = "a finite number"
    if dtype.is_numeric() or dtype == pl.Boolean:
        value = column.cast(pl.Float64)
        return value, ~value.is_finite().fill_null(True), wanted
    if dtype != pl.String:
        return None, _FINE, wanted
    text = _filled(column.str.strip_chars())
    value = text.cast(pl.Float64, strict=False)
    return value, text.is_not_null() & ~value.is_finite().fill_null(False), wanted


def _truth(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    wanted = "true or false"
    if dtype == pl.Boolean:
        return column, _FINE, wanted
    if dtype.is_integer():
        return column.cast(pl.Boolean), ~column.is_in([0, 1]).fill_null(True), wanted
    if dtype != pl.String:
        return None, _FINE, wanted
    text = _filled(column.str.strip_chars().str.to_lowercase())
    value = text.replace_strict(
        ["true", "1", "false", "0"], [True, True, False, False], default=None, return_dtype=pl.Boolean
    )
    return value, text.is_not_null() & value.is_null(), wanted


def _texts(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    if dtype == pl.String:
        return _split(column, asked), _bracketed(column), f"values separated by {asked.separator!r}, without brackets"
    if isinstance(dtype, pl.List) and dtype.inner == pl.String:
        return column, column.list.eval(pl.element().is_null()).list.any().fill_null(False), "an array without nulls"
    return None, _FINE, ""


def _wholes(column: pl.Expr, dtype: pl.DataType, asked: Column) -> _Value:
    wanted = f"whole numbers separated by {asked.separator!r}" if dtype == pl.String else "an array without nulls"
    if dtype == pl.String:
        value = _split(column, asked).list.eval(pl.element().cast(pl.Int64, strict=False))
    elif isinstance(dtype, pl.List) and dtype.inner.is_integer():
        value = column.cast(pl.List(pl.Int64))
    else:
        return None, _FINE, wanted
    return value, value.list.eval(pl.element().is_null()).list.any().fill_null(False), wanted


_VALUES: dict[str, Callable[[pl.Expr, pl.DataType, Column], _Value]] = {
    "string": _text,
    "int64": _whole,
    "float64": _number,
    "bool": _truth,
    "array<string>": _texts,
    "array<int64>": _wholes,
}


def _compared(condition: Condition, scan: Scan) -> Typed:
    kind = Column(type="string" if isinstance(condition.value, str) else "float64", column=condition.column)
    found = typed("", kind.model_copy(update={"required": True}), scan)
    wanted = "a text" if isinstance(condition.value, str) else "a finite number"
    met = _COMPARE[condition.op](found.value, condition.value)
    return Typed("", condition.column, met, found.wrong, wanted)


def _filled(text: pl.Expr) -> pl.Expr:
    """Return a text, null where it is empty."""
    return pl.when(text != "").then(text)


def _split(column: pl.Expr, asked: Column) -> pl.Expr:
    parts = column.str.split(asked.separator).list.eval(pl.element().str.strip_chars())
    return parts.list.eval(pl.element().filter(pl.element() != ""))


def _bracketed(column: pl.Expr) -> pl.Expr:
    """Return whether a text is a list as Python or JSON writes it, which would be read as one value."""
    return column.str.contains(r"^\s*\[.*\]\s*$").fill_null(False)


def _parsed(column: pl.Expr, zone: str) -> pl.Expr:
    """Return ISO times in UTC: a date, or `T` or a space and minutes or more, with an offset or without; else null."""
    text = column.str.strip_chars().str.replace(r"^(\d{4}-\d{2}-\d{2})$", "${1}T00:00:00")
    text = text.str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T").str.replace(r"(Z|z| UTC)$", "+00:00")
    text = text.str.replace(r"([+-]\d{2})(\d{2})$", "${1}:${2}").str.replace(r"(T\d{2}:\d{2})([+-]|$)", "${1}:00${2}")
    # A zone of text without one is looked up, so both ways are tried on the texts that they are for.
    with_offset = text.str.contains(_OFFSET)
    aware = pl.when(with_offset).then(text).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    naive = pl.when(~with_offset).then(text).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    return pl.coalesce(aware.dt.convert_time_zone("UTC"), _placed(naive, zone))


def _placed(naive: pl.Expr, zone: str) -> pl.Expr:
    """Return local times in UTC; of an hour that comes twice the first, null in one that never comes."""
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _said(dtype: pl.DataType) -> str:
    return str(dtype).lower()
