"""Does every field hold what the pipeline says of its column? One expression for the value, one for what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import polars as pl

from components.ingest.ingest_table.fields import Column, Ids, Time
from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.times import moments
from components.ingest.ingest_table.values import value_of
from components.platform.errors import BadInputError
from features.rules.meets import all_of_one, comparisons
from features.rules.parse import Rule

_WRONG, _FOUND, _WHY = "__wrong", "__found", "__why"


@dataclass(frozen=True)
class Typed:
    """A published column, or a check of one that is not published."""

    name: str
    column: str
    """Name in the file."""
    value: pl.Expr
    """Its value, null where it is missing."""
    wrong: pl.Expr
    """Whether a field is not what is wanted; never null."""
    wanted: str
    why: tuple[tuple[pl.Expr, str], ...] = ()
    """For fields of a kind, a closer word on what they should be."""


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
    given, dtype, nulls = scan.column(source), scan.schema[source], scan.nulls.union(column.null_values)
    if column.null_values and dtype == pl.String:
        given = pl.when(~given.is_in(list(column.null_values))).then(given)
    read = column if column.bands is None else Column(type="int64")
    found = value_of(given, dtype, read, nulls)
    if found.value is None:
        raise _no_such_type(scan, source, f"which is no {read.type}")
    wrong = (found.wrong | found.value.is_null()) if column.required else found.wrong
    value = found.value if column.bands is None else _band(found.value, column.bands)
    return Typed(name, source, value.alias(name), wrong, found.wanted, found.why)


def _band(number: pl.Expr, starts: Sequence[int]) -> pl.Expr:
    """Return which band a whole number lies in, by the first numbers of all but the lowest."""
    words = [f"{a}" if a + 1 == b else f"{a}_{b - 1}" for a, b in pairwise(starts)]
    ends = zip(starts, [f"under_{starts[0]}", *words], strict=True)
    lower = (pl.when(number < end).then(pl.lit(word)) for end, word in ends)
    return pl.coalesce(*lower, pl.when(number >= starts[-1]).then(pl.lit(f"{starts[-1]}_plus")))


def identity(
    name: str, kind: Literal["string", "int64"], ids: Ids, scan: Scan, numbers: pl.Series | None = None
) -> list[Typed]:
    """Return ids, none of them empty, after one check per column that they are joined of.

    Args:
        name: published name.
        kind: type to publish them in.
        ids: where they stand in the file.
        scan: the file.
        numbers: texts of ids in the order that numbers them from 1; None when ids are published as they are.

    Raises:
        BadInputError: the file's type cannot become that type at all.
    """
    if ids.columns is None:
        found = [
            typed(name, Column(type=kind if numbers is None else "string", column=ids.column, required=True), scan)
        ]
    else:
        found = _joined(name, ids, ids.columns, scan)
    if numbers is None:
        return found
    counted = pl.Series(range(1, len(numbers) + 1), dtype=pl.Int64)
    place = found[-1].value.replace_strict(numbers, counted, default=None, return_dtype=pl.Int64).alias(name)
    wanted = "an id that has a row in the table of its attributes"
    return [*found[:-1], Typed(name, found[-1].column, place, place.is_null(), wanted)]


def _joined(name: str, ids: Ids, columns: Sequence[str], scan: Scan) -> list[Typed]:
    """Return the texts of several columns as one; a text that holds the separator could be those of two others."""
    parts = [typed("", Column(type="string", column=column), scan) for column in columns]
    texts = [part.value if ids.head is None else part.value.str.head(ids.head) for part in parts]
    sign = ids.separator or "-"
    checks = [
        replace(
            part,
            wrong=part.wrong | (text.str.contains(sign, literal=True).fill_null(False) & (len(columns) > 1)),
            wanted=f"a text without {sign!r}, which joins ids",
        )
        for part, text in zip(parts, texts, strict=True)
    ]
    value = pl.concat_str([text.fill_null("") for text in texts], separator=sign).alias(name)
    empty = pl.all_horizontal(text.is_null() for text in texts)
    return [*checks, Typed(name, columns[0], value, empty, "an id in one of the columns that are joined at least")]


def label(name: str, rule: Rule, scan: Scan) -> list[Typed]:
    """Return a 0/1 label, after one check per further column that its rule reads.

    Raises:
        BadInputError: the file's type of a column cannot be compared as the rule does.
    """
    told = comparisons(rule, scan.column, scan.schema, scan.shown)
    first, *checks = (check for every in told for one in every for check in one.checks)
    met = all_of_one([[one.met for one in every] for every in told])
    made = [Typed("", one.column, met, one.wrong, one.wanted, one.why) for one in (*checks, first)]
    return [*made[:-1], replace(made[-1], name=name, value=met.cast(pl.Int8).alias(name))]


def derived(name: str, rule: Rule, scan: Scan, *, required: bool) -> list[Typed]:
    """Return a 0/1 column that a rule tells, missing where a column of the rule is, unless it is required.

    Raises:
        BadInputError: the file's type of a column cannot be compared as the rule does.
    """
    made = label(name, rule, scan)
    texts = {column for column in rule.columns if scan.schema[column] == pl.String}
    read = {one: scan.column(one) for one in rule.columns}
    gaps = {name: one.is_null() | (one == "" if name in texts else False) for name, one in read.items()}
    missing = pl.any_horizontal(gaps.values()).fill_null(True)
    value = pl.when(~missing).then(made[-1].value).cast(pl.Int64).alias(name)
    checks = [
        replace(one, wrong=one.wrong | gaps[one.column].fill_null(True) if required else one.wrong & ~missing)
        for one in made
    ]
    return [*checks[:-1], replace(checks[-1], value=value)]


def moment(name: str, time: Time, scan: Scan, *, early: bool = False) -> Typed:
    """Return a column of times as ``datetime[us, UTC]``.

    Args:
        name: published name.
        time: what the config says of the column.
        scan: the file.
        early: whether times of the first days of 1970 are let through.

    Raises:
        BadInputError: the file's type is no time in the unit that the config says.
    """
    dtype = scan.schema[time.column]
    found = moments(scan.column(time.column), dtype, time, early=early)
    if found.value is not None:
        return Typed(name, time.column, found.value.alias(name), found.wrong, found.wanted, found.why)
    if time.unit != "iso":
        raise _no_such_type(scan, time.column, f"no number since 1970 in unit: {time.unit}")
    raise BadInputError(
        f"{scan.shown}: column {time.column!r} is {_said(dtype)}, no time in text: say its unit, {time.column}: "
        "{column: ..., unit: s} for seconds since 1970, ms, us or ns"
    )


def moment_part(name: str, column: Column, time: Typed) -> Typed:
    """Return the hour or the weekday of a moment where the config's zone is."""
    local = time.value.dt.convert_time_zone(column.zone or "UTC").dt
    value = local.hour() if column.moment == "hour" else local.weekday()
    return Typed(name, time.column, value.cast(pl.Int64).alias(name), pl.lit(False), time.wanted)


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
    reasons = [reason.alias(f"{_WHY}{index}") for index, (reason, _) in enumerate(one.why)]
    shown = _shown(one.column, scan).alias(_FOUND)
    looked_at = scan.numbered(where.alias(_WRONG), shown, *reasons)
    row, _, found, *whys = scan.collect(looked_at.filter(_WRONG).head(1)).row(0)
    wanted = next((words for given, (_, words) in zip(whys, one.why, strict=True) if given), one.wanted)
    more = f" (and {count - 1:,} more rows)" if count > 1 else ""
    raise BadInputError(
        f"{scan.shown}, row {row + 1}: column {one.column!r} is {_field(found)}{more}, expected {wanted}; correct the "
        "file or what the pipeline says of the column"
    )


def _no_such_type(scan: Scan, column: str, told: str) -> BadInputError:
    return BadInputError(
        f"{scan.shown}: column {column!r} is {_said(scan.schema[column])}, {told}: change the type in the pipeline, "
        "or the file"
    )


def _shown(column: str, scan: Scan) -> pl.Expr:
    """Return a field that Python can hold: of a time beyond its calendar the number behind it."""
    dtype, given = scan.schema[column], scan.column(column)
    if isinstance(dtype, pl.Datetime):
        days = given.to_physical() // _UNITS_A_DAY[dtype.time_unit]
    elif dtype == pl.Date:
        days = given.to_physical()
    else:
        return given
    fine = days.is_between(-719_000, 2_932_000)
    return pl.when(fine).then(pl.when(fine).then(given).cast(pl.String)).otherwise(given.to_physical().cast(pl.String))


_FEW, _LONG = 8, 200
"""How many values of a list, and how many characters of a text, an error shows."""
_UNITS_A_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def _field(found: Any) -> str:
    """Return a field as it is read in a sentence."""
    if found is None or (isinstance(found, str) and not found):
        return "empty"
    if isinstance(found, list | pl.Series):
        first = ", ".join(map(repr, found[:_FEW]))
        return f"[{first}]" if len(found) <= _FEW else f"[{first}, …] of {len(found):,}"
    if isinstance(found, str) and len(found) > _LONG:
        return f"{found[:_LONG]!r}… of {len(found):,} characters"
    return str(found) if isinstance(found, date | Decimal) else repr(found)


def _said(dtype: pl.DataType) -> str:
    return str(dtype).lower()
