"""Is every form of a time the moment that it names, and every other field refused with a sentence of its own?"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.fields import Time
from components.ingest.ingest_table.reading.scan import Scan
from components.ingest.ingest_table.typed import moment, refuse
from components.platform.errors import BadInputError
from features.declaration import Window
from tests.unit.components.ingest.table.conftest import ROWS, Read, csv

FEW = settings(max_examples=150, deadline=None)
FILE = "day.parquet"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def times(values: pl.Series, *, early: bool = False, **config: Any) -> list[datetime | None]:
    """Return the moments of a column of a file."""
    frame = values.alias("t").to_frame()
    scan = Scan(FILE, frame.lazy(), frame.schema)
    found = moment("t", Time(column="t", **config), scan, early=early)
    refuse(scan, [found], scan.rows)
    return frame.select(found.value).to_series().to_list()


def refused(values: pl.Series, **config: Any) -> str:
    """Return the sentence with which a column of times is refused."""
    with pytest.raises(BadInputError) as caught:
        times(values, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02 10:00:00+00", "2026-01-02T10:00:00+00:00"),
        ("2026-01-02 10:00:00.123+02", "2026-01-02T08:00:00.123+00:00"),
        ("2026-01-02 10:00-05", "2026-01-02T15:00:00+00:00"),
        ("2026-01-02T10:00:00 +0530", "2026-01-02T04:30:00+00:00"),
        ("2026-01-02 10:00:00 +05:30", "2026-01-02T04:30:00+00:00"),
        ("2026-01-02 10:00:00,25", "2026-01-02T10:00:00.25+00:00"),
        ("2026-01-02 10:00:00,25Z", "2026-01-02T10:00:00.25+00:00"),
        ("2026-01-02", "2026-01-02T00:00:00+00:00"),
        ("2026-01-02 10:00:00.123456789", "2026-01-02T10:00:00.123456+00:00"),
    ],
)
def test_offsets_and_fractions_as_databases_write_them(text: str, expected: str) -> None:
    assert times(pl.Series([text])) == [at(expected)]


@pytest.mark.parametrize("text", ["2026-01-02+00", "2026-01-02 10+00", "10:00:00+00", "2026-01-02 10:00:00+1"])
def test_what_only_looks_like_an_offset_is_no_time(text: str) -> None:
    assert "expected a time such as 2026-01-31T23:59:00" in refused(pl.Series([text]))


@pytest.mark.parametrize(
    ("day", "zone", "first"),
    [
        ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00+00:00"),
        ("2026-09-06", "America/Santiago", "2026-09-06T04:00:00+00:00"),
        ("2026-04-23", "Africa/Cairo", "2026-04-22T22:00:00+00:00"),
        # Clocks went from 23:30 to 00:30: the day begins half an hour after its midnight.
        ("1919-03-31", "America/Toronto", "1919-03-31T04:30:00+00:00"),
        # Midnight comes twice when summer time ends there.
        ("2026-11-01", "America/Havana", "2026-11-01T04:00:00+00:00"),
    ],
)
def test_a_date_begins_with_the_first_moment_of_its_day(day: str, zone: str, first: str) -> None:
    written = date.fromisoformat(day)
    columns = [
        pl.Series([day]),
        pl.Series([f"{day} 00:00:00"]),
        pl.Series([written]),
        pl.Series([datetime(written.year, written.month, written.day)]),
    ]
    for column in columns:
        assert times(column, zone=zone) == [at(first)]
    german = pl.Series([written.strftime("%d.%m.%Y")])
    assert times(german, zone=zone, format="%d.%m.%Y") == [at(first)]
    moments = [datetime.fromtimestamp(at(first).timestamp() + shift, ZoneInfo(zone)).date() for shift in (0, -1)]
    assert moments == [written, written - timedelta(days=1)]


def test_a_time_that_clocks_skip_is_told_as_such() -> None:
    gap = pl.Series(["2026-03-29 01:30:00", "2026-03-29 02:30:00", "2026-03-29 02:40:00"])
    assert refused(gap, zone="Europe/Berlin") == (
        "day.parquet, row 2: column 't' is '2026-03-29 02:30:00' (and 1 more rows), expected a time that exists: "
        "clocks in Europe/Berlin skip this one; correct the file or what the pipeline says of the column"
    )
    naive = pl.Series([datetime(2026, 3, 29, 2, 30)])
    assert "is '2026-03-29 02:30:00.000000', expected a time that exists" in refused(naive, zone="Europe/Berlin")
    # A whole day that was left out has no first moment.
    assert "a time that exists" in refused(pl.Series([date(2011, 12, 30)]), zone="Pacific/Apia")
    assert "a time such as" in refused(pl.Series(["soon"]), zone="Europe/Berlin")


SECONDS = st.integers(1_000_000_001, 2**33 - 1)
MICROS = st.integers(1_000_000_001_000_000, 2**33 * 1_000_000 - 1)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@FEW
@given(MICROS, st.sampled_from(["s", "ms", "us", "ns"]), st.integers(0, 999))
@example(1_767_268_800_250_000, "s", 0)
@example(4_325_109_337_577_349, "s", 0)
def test_numbers_since_1970_are_exact_to_the_microsecond(micros: int, unit: str, finer: int) -> None:
    scale = Fraction(PER_SECOND[unit], 10**6)
    # What lies behind the microsecond is cut, where it can be written at all.
    written = (micros + Fraction(finer, 1000)) * scale
    expected = [EPOCH + micros * MICRO]
    digits = Decimal(written.numerator) / Decimal(written.denominator)
    assert times(pl.Series([f"{digits:f}"]), unit=unit) == expected
    assert times(pl.Series([digits]), unit=unit) == expected
    whole = micros * scale
    if whole.denominator == 1:
        assert times(pl.Series([int(whole)]), unit=unit) == expected
    if unit == "ns":
        # A float of this size is a multiple of 256.
        assert "below 9,007,199,254,740,992" in refused(pl.Series([float(whole)]), unit=unit)
    elif float(whole) < 2**53:
        assert times(pl.Series([float(whole)]), unit=unit) == expected


@FEW
@given(SECONDS, st.sampled_from(["s", "ms", "us", "ns"]), st.sampled_from(["s", "ms", "us", "ns"]))
@example(1_767_225_600, "s", "us")
def test_a_number_in_another_unit_is_no_time(seconds: int, written: str, read: str) -> None:
    number = seconds * PER_SECOND[written]
    columns = [pl.Series([number]), pl.Series([str(number)]), pl.Series([Decimal(number)])]
    columns += [pl.Series([float(number)])] if number < 2**53 else []
    for column in columns:
        if written == read:
            assert times(column, unit=read) == [EPOCH + timedelta(seconds=seconds)]
        else:
            assert f"seconds since 1970 UTC; correct" in refused(column, unit=read)  # noqa: F541


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["", "12.5.", "1767268800,5", "nan", "-1767268800"]),
        pl.Series([float("nan"), float("inf")]),
        pl.Series([None, -1]),
        pl.Series([2**63], dtype=pl.UInt64),
        pl.Series([1_767_268_800.0], dtype=pl.Float32),
    ],
)
def test_what_is_no_number_since_1970_is_told(column: pl.Series, unit: str) -> None:
    for one in column:
        assert "row 1: column 't' is " in refused(pl.Series([one], dtype=column.dtype), unit=unit)


def test_seconds_written_as_another_unit_are_no_times_of_1970() -> None:
    seconds = pl.Series([1_767_225_600])
    for unit in ("ms", "us"):
        for zone in (None, "Asia/Kolkata"):
            assert "expected a later time: these may be seconds" in refused(seconds.cast(pl.Datetime(unit, zone)))
    assert "expected a later time" in refused(pl.Series(["1970-01-01 00:29:27.225600"]))
    # A clock that was never set is a row outside the window; midnight means that it held from the beginning.
    assert times(seconds.cast(pl.Datetime("us")), early=True) == [EPOCH + 1_767_225_600 * MICRO]
    assert times(pl.Series(["1970-01-01"]), zone="Asia/Kolkata") == [EPOCH - timedelta(hours=5, minutes=30)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_timestamps_of_any_size_are_times_or_told(unit: Any, zone: str | None) -> None:
    per = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    for value in (2**63 - 1, -(2**63) + 1, 2**62, -(2**62), 253_402_300_800 * per, 1_767_225_600 * per):
        if not -(2**63) <= value < 2**63:
            continue
        column = pl.Series([value]).cast(pl.Datetime(unit, zone))
        if -62_135_510_400 <= Fraction(value, per) < 253_402_300_800:
            assert times(column, zone="Europe/Berlin")[0] is not None
        else:
            assert f"is {value}" in refused(column, zone="Europe/Berlin").replace("'", "")


@pytest.mark.parametrize("day", [2**31 - 1, -(2**31), 2_932_897])
def test_dates_of_any_size_are_told(day: int) -> None:
    column = pl.Series([20_000, day], dtype=pl.Int32).cast(pl.Date)
    assert f"row 2: column 't' is '{day}', expected a time such as" in refused(column)


def test_a_year_that_a_zone_carries_beyond_the_calendar_is_told() -> None:
    assert "a time such as" in refused(pl.Series(["9999-12-31 23:00:00"]), zone="America/New_York")
    assert times(pl.Series(["9999-12-31 23:59:59"])) == [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("%d.%m.%Y %H:%M", "1.2.2026 7:05", "2026-02-01T06:05:00+00:00"),
        ("%d.%m.%Y", "01.02.2026", "2026-01-31T23:00:00+00:00"),
        ("%m/%d/%Y %I:%M %p", "2/1/2026 11:05 PM", "2026-02-01T22:05:00+00:00"),
        ("%b %d, %Y", " Feb 1, 2026", "2026-01-31T23:00:00+00:00"),
        ("%Y%m%d%H%M%S", "20260201101112", "2026-02-01T09:11:12+00:00"),
        ("%d.%m.%y %H:%M:%S.%f", "01.02.26 10:00:00.25", "2026-02-01T09:00:00.25+00:00"),
        ("%d/%b/%Y:%H:%M:%S %z", "01/Feb/2026:10:00:00 +0530", "2026-02-01T04:30:00+00:00"),
        ("%d.%m.%Y %T", "01.02.2026 10:00:00", "2026-02-01T09:00:00+00:00"),
    ],
)
def test_texts_in_a_format(form: str, text: str, expected: str) -> None:
    assert times(pl.Series([text]), zone="Europe/Berlin", format=form) == [at(expected)]
    assert f"column 't' is 'x', expected a time in the format {form};" in refused(pl.Series(["x"]), format=form)


@pytest.mark.parametrize("text", ["1.2.26", "31.02.2026", "01.02.2026 10:00", "02/01/2026"])
def test_a_text_in_another_format_is_told(text: str) -> None:
    assert "in the format %d.%m.%Y" in refused(pl.Series([text]), format="%d.%m.%Y")


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ("%d.%m.%Q", "'%Q' is none of its parts"),
        ("%d.%m.%", "'%' is none of its parts"),
        ("%d.%m", "lacks the year"),
        ("%H:%M", "lacks the year"),
        ("%d.%m.%Y %H", "'%H' needs '%M'"),
        ("%d.%m.%Y %I:%M", "'%I' and '%p' stand together"),
        ("%d.%m.%Y %T%f", "'%f' follows a point"),
        ("%d.%m.%Y %y", "says a part of the time twice"),
        ("", "lacks the year"),
    ],
)
def test_a_format_that_says_no_whole_date(form: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"must be a format such as") as caught:
        Time(column="t", format=form)
    assert sentence in str(caught.value)


def test_a_format_and_a_unit_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="format reads texts and unit: ms numbers: leave one of them out"):
        Time(column="t", format="%d.%m.%Y", unit="ms")
    base = {"files": "e.csv", "user": "u", "item": "i", "feedback": {"click": "c"}}
    Config.model_validate(base | {"timestamp": {"column": "t", "format": "%d.%m.%Y"}})


def test_the_other_types_are_told() -> None:
    stamps = pl.Series([NOON])
    assert "column 't' is datetime" in refused(stamps, unit="s") and "no number since 1970" in refused(stamps, unit="s")
    assert "is int64, no time in text: say its unit" in refused(pl.Series([1]))
    assert "is list(string), no time in text" in refused(pl.Series([["2026-01-01"]]))
    assert "row 1: column 't' is empty (and 1 more rows), expected a time" in refused(pl.Series([None, None]))


def test_only_moments_of_the_impressions_may_lie_early_in_1970(read: Read) -> None:
    rows = [*ROWS, "u3,7,1970-01-01 00:00:42,x,,,"]
    frame, _ = read({"events.csv": csv(*rows)})
    assert len(frame) == 3
    users = csv("u1,30,1970-01-01 00:29:27.2256", header="uid,age,since")
    with pytest.raises(BadInputError, match=r"users.csv, row 1: column 'since' .* a later time"):
        read(
            {"events.csv": csv(*ROWS), "users.csv": users},
            users={"files": "users.csv", "key": "uid", "valid_from": "since", "columns": {"age": "int64"}},
        )


def test_dates_without_a_midnight_are_impressions(read: Read) -> None:
    window = Window(start=datetime(2026, 4, 1, tzinfo=UTC), end=datetime(2026, 5, 1, tzinfo=UTC))
    rows = csv("u1,1,2026-04-23,1,1,1,x", "u2,2,2026-04-24,0,1,1,x")
    frame, _ = read({"events.csv": rows}, window, timestamp={"column": "shown_at", "zone": "Africa/Cairo"})
    assert frame["event_timestamp"].to_list() == [at("2026-04-22T22:00:00+00:00"), at("2026-04-23T22:00:00+00:00")]


@pytest.mark.parametrize("zone", ["+05:30", "-03:30", "+02:00", "Asia/Kolkata", "dateutil/local"])
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_parquet_zone_without_a_name_is_an_offset_like_others(read: Read, zone: str, unit: str) -> None:
    stamps = pa.array([NOON, NOON + timedelta(days=1)], pa.timestamp("us", "UTC"))
    odd = stamps.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    nested = pa.StructArray.from_arrays([odd], ["at"])
    lists = pa.ListArray.from_arrays([0, 1, 2], odd)
    plain = {"uid": ["a", "b"], "article": [1, 2], "clicked": [1, 0]}
    for unread in ({"other": odd}, {"other": nested}, {"other": lists}, {}):
        # Read, and beside what is read.
        for shown in (odd, pa.array(["2026-01-01T12:00Z", "2026-01-02T12:00Z"])):
            sink = pa.BufferOutputStream()
            pq.write_table(pa.table({"shown_at": shown, **plain, **unread}), sink)
            frame, _ = read({"events.parquet": sink.getvalue().to_pybytes()})
            assert frame["event_timestamp"].to_list() == [NOON, NOON + timedelta(days=1)]
            assert frame["user_id"].to_list() == ["a", "b"]
