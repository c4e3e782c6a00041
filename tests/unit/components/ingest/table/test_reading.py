"""Do tables in any of the allowed forms become the impressions that they describe?"""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.declaration import Window
from tests.unit.components.ingest.table.conftest import HEADER, ROWS, WINDOW, Read, csv

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_csv_becomes_typed_impressions_in_order(read: Read) -> None:
    frame, notes = read(
        {"events.csv": csv(*reversed(ROWS))},
        feedback={"click": "clicked", "buy": "status == 'paid' and rating >= 4.5"},
        columns={"price": "float64", "state": {"column": "status", "type": "string"}},
    )
    assert frame["user_id"].to_list() == ["u1", "u2", "u2"]
    assert frame["item_id"].to_list() == [7, 8, 7] and frame["item_id"].dtype == pl.Int64
    assert frame["event_timestamp"][2] == datetime(2026, 1, 2, 23, 59, 59, 999_999, UTC)
    assert frame["created_timestamp"].equals(frame["event_timestamp"])
    assert (frame["click"].to_list(), frame["buy"].to_list()) == ([1, 0, 0], [0, 0, 1])
    assert frame["price"].to_list() == [9.5, 1.0, None]
    assert frame["state"].to_list() == ["paid", "open", "paid"]
    assert notes == ["3 impressions of 2 users, 2 items; click 33.3 %, buy 33.3 %"]


def parquet() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "uid": ["u1", "u2", "u2"],
            "article": [7, 8, 7],
            "shown_at": [NOON, NOON, NOON + timedelta(days=1)],
            "clicked": [True, False, False],
        }
    )


@pytest.mark.parametrize("kind", ["parquet", "gzip", "bom", "semicolon", "several", "mixed"])
def test_the_form_of_a_file_does_not_matter(read: Read, kind: str) -> None:
    rows = ["u1,7,2026-01-01T12:00Z,1", "u2,8,2026-01-01T12:00Z,0", "u2,7,2026-01-02T12:00Z,0"]
    header = "uid,article,shown_at,clicked"
    files: dict[str, Any] = {
        "parquet": {"events.parquet": parquet()},
        "gzip": {"events.csv.gz": gzip.compress(csv(*rows, header=header).encode())},
        "bom": {"events.csv": "\ufeff" + csv(*rows, header=header).replace("\n", "\r\n")},
        "semicolon": {"events.csv": csv(*rows, header=header).replace(",", ";")},
        "several": {
            "events1.csv": csv(*rows[:2], header=header),
            # Another order of columns, one more of them, and no line break at the end.
            "events2.csv": "clicked,note,uid,article,shown_at\n0,x,u2,7,2026-01-02T12:00Z",
        },
        "mixed": {"events1.parquet": parquet().head(2), "events2.csv": csv(rows[2], header=header)},
    }[kind]
    frame, _ = read(files, delimiter=";" if kind == "semicolon" else ",")
    expected, _ = read({"events_expected.csv": csv(*rows, header=header)}, files="events_expected.csv")
    assert frame.equals(expected) and len(frame) == 3


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_order_of_rows_and_files_changes_nothing(read: Read, data: st.DataObject) -> None:
    rows = [f"u{n % 3},{n % 2},2026-01-01 0{n % 4}:00,{n % 2},1,{n},s" for n in range(8)]
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, 8))
    one, _ = read({"events1.csv": csv(*rows), "events2.csv": csv()}, columns={"price": "float64"})
    two, _ = read(
        {"events1.csv": csv(*shuffled[cut:]), "events2.csv": csv(*shuffled[:cut])}, columns={"price": "float64"}
    )
    assert one.equals(two)


@pytest.mark.parametrize(
    ("text", "time", "expected"),
    [
        ("2026-01-01", "shown_at", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01 12:30", "shown_at", datetime(2026, 1, 1, 12, 30, tzinfo=UTC)),
        ("2026-01-01T12:30:00.25", "shown_at", datetime(2026, 1, 1, 12, 30, 0, 250_000, UTC)),
        ("2026-01-01 12:30:00+01:00", "shown_at", datetime(2026, 1, 1, 11, 30, tzinfo=UTC)),
        ("2026-01-01T12:30-0130", "shown_at", datetime(2026, 1, 1, 14, 0, tzinfo=UTC)),
        ("2026-01-01 12:30:00 UTC", "shown_at", datetime(2026, 1, 1, 12, 30, tzinfo=UTC)),
        ("2026-01-01 12:30", {"column": "shown_at", "zone": "Asia/Shanghai"}, datetime(2026, 1, 1, 4, 30, tzinfo=UTC)),
        # A text with an offset says itself where it is.
        (
            "2026-01-01T12:30Z",
            {"column": "shown_at", "zone": "Asia/Shanghai"},
            datetime(2026, 1, 1, 12, 30, tzinfo=UTC),
        ),
        ("1767268800", {"column": "shown_at", "unit": "s"}, NOON),
        ("1767268800000", {"column": "shown_at", "unit": "ms"}, NOON),
        ("1767268800000001", {"column": "shown_at", "unit": "us"}, NOON + timedelta(microseconds=1)),
    ],
)
def test_times_are_read_in_their_unit_and_zone(read: Read, text: str, time: Any, expected: datetime) -> None:
    frame, _ = read({"events.csv": csv(f"u1,7,{text},1,4,1,x")}, timestamp=time)
    assert frame["event_timestamp"].to_list() == [expected]


def test_the_hour_that_comes_twice_is_the_first_one(read: Read) -> None:
    window = Window(start=datetime(2025, 10, 1, tzinfo=UTC), end=datetime(2025, 11, 1, tzinfo=UTC))
    rows = csv("u1,7,2025-10-26 02:30,1,4,1,x")
    frame, _ = read({"events.csv": rows}, window, timestamp={"column": "shown_at", "zone": "Europe/Berlin"})
    assert frame["event_timestamp"].to_list() == [datetime(2025, 10, 26, 0, 30, tzinfo=UTC)]


@pytest.mark.parametrize("naive", [True, False])
def test_timestamps_of_parquet_files(read: Read, naive: bool) -> None:
    frame = parquet().with_columns(pl.col("shown_at").dt.convert_time_zone("Europe/Berlin").dt.cast_time_unit("ns"))
    if naive:
        frame = frame.with_columns(pl.col("shown_at").dt.replace_time_zone(None))
    got, _ = read({"events.parquet": frame}, timestamp={"column": "shown_at", "zone": "Europe/Berlin"})
    assert got["event_timestamp"].to_list() == [NOON, NOON, NOON + timedelta(days=1)]


def test_a_date_is_its_midnight_in_the_zone(read: Read) -> None:
    frame = parquet().with_columns(pl.lit(date(2026, 1, 2)).alias("shown_at"))
    got, _ = read({"events.parquet": frame}, timestamp={"column": "shown_at", "zone": "Asia/Shanghai"})
    assert set(got["event_timestamp"]) == {datetime(2026, 1, 1, 16, tzinfo=UTC)}


def test_the_window_is_half_open_and_what_lies_outside_need_not_be_right(read: Read) -> None:
    rows = [
        "u1,1,2025-12-31 23:59:59.999999,x,,,",
        "u1,2,2026-01-01 00:00:00,1,4,1,x",
        "u1,3,2026-01-02 23:59:59.999999,0,4,1,x",
        "u1,4,2026-01-03 00:00:00,x,,,",
    ]
    frame, _ = read({"events.csv": csv(*rows)})
    assert frame["item_id"].to_list() == [2, 3]


def test_every_type_of_column(read: Read) -> None:
    header = f"{HEADER},member,tags,codes"
    rows = [f"{ROWS[0]},TRUE,a| b||c,1|2", f"{ROWS[1]},0,,", f"{ROWS[2]},,x,3"]
    names = {"member": "bool", "tags": "array<string>", "codes": "array<int64>", "rating": "int64"}
    frame, _ = read({"events.csv": csv(*rows, header=header)}, columns=names)
    assert frame["member"].to_list() == [True, False, None]
    assert frame["tags"].to_list() == [["a", "b", "c"], [], ["x"]]
    assert frame["codes"].to_list() == [[1, 2], [], [3]]
    assert frame["rating"].to_list() == [4, 2, 5]


def test_roles_with_a_name_of_their_own(read: Read) -> None:
    header = f"{HEADER},country,request,p,stored"
    rows = [f"{row},DE,r{n},0.{n + 1},2026-01-03 0{n}:00" for n, row in enumerate(ROWS)]
    frame, _ = read(
        {"events.csv": csv(*rows, header=header)},
        **{"domain": "country", "request": "request", "propensity": "p", "created": "stored"},
    )
    assert frame["domain"].to_list() == ["DE"] * 3 and frame["request_id"].to_list() == ["r0", "r1", "r2"]
    assert frame["propensity"].to_list() == [0.1, 0.2, 0.3]
    assert frame["created_timestamp"][1] == datetime(2026, 1, 3, 1, tzinfo=UTC)


def test_rows_stored_late_are_left_out_so_that_a_backfill_gives_the_same(read: Read) -> None:
    header = f"{HEADER},stored"
    early = [f"{row},2026-01-03 02:00" for row in ROWS]
    late = f"{ROWS[0].replace('u1', 'u9')},2026-01-03 06:00"
    changes: dict[str, Any] = {"created": "stored", "late_hours": 6}
    that_day, _ = read({"events.csv": csv(*early, header=header)}, **changes)
    backfill, notes = read({"events.csv": csv(*early, late, header=header)}, **changes)
    assert backfill.equals(that_day)
    assert "1 rows stored at 2026-01-03 06:00:00+00:00 or later left out" in notes
    everything, _ = read({"events.csv": csv(*early, late, header=header)}, created="stored")
    assert len(everything) == len(that_day) + 1


@pytest.mark.parametrize(("known_until", "late_hours", "users"), [(5, None, 2), (7, None, 3), (5, 9, 2), (7, 6, 2)])
def test_a_window_that_is_known_until_a_moment_holds_no_row_stored_then(
    read: Read, known_until: int, late_hours: float | None, users: int
) -> None:
    header = f"{HEADER},stored"
    late = [f"{row},2026-01-03 02:00" for row in ROWS] + [f"{ROWS[0].replace('u1', 'u9')},2026-01-03 06:00"]
    until = datetime(2026, 1, 3, known_until, tzinfo=UTC)
    window = WINDOW.model_copy(update={"known_until": until})
    frame, _ = read({"events.csv": csv(*late, header=header)}, window, created="stored", late_hours=late_hours)
    assert frame["user_id"].n_unique() == users


def test_duplicates(read: Read) -> None:
    header = f"{HEADER},stored"
    rows = [f"{ROWS[0]},2026-01-02", f"{ROWS[0]},2026-01-02", f"{ROWS[0].replace(',1,4', ',0,4')},2026-01-04"]
    files = {"events.csv": csv(*rows, header=header)}
    labels = {
        rule: read(files, created="stored", duplicates=rule)[0]["click"].to_list()
        for rule in ("drop", "latest", "keep")
    }
    assert labels == {"drop": [1, 0], "latest": [0], "keep": [1, 1, 0]}


USERS = csv("u1,30,2025-12-31", "u1,31,2026-01-02 23:59:59.999999", "u2,40,2026-01-01 11:00", header="uid,age,since")


def test_attributes_that_hold_from_the_beginning(read: Read) -> None:
    users = {"files": "users.csv", "key": "uid", "columns": {"age": "int64"}}
    items = {"files": "items.parquet", "key": "id", "columns": {"tags": "array<string>"}}
    table = pl.DataFrame({"id": [7], "tags": [["a", "b"]]})
    one_each = csv("u1,30", header="uid,age")
    frame, notes = read(
        {"events.csv": csv(*ROWS), "users.csv": one_each, "items.parquet": table}, users=users, items=items
    )
    assert frame["age"].to_list() == [30, None, None]
    assert frame["tags"].to_list() == [["a", "b"], None, ["a", "b"]]
    assert notes[1:] == [
        "warning: 2 impressions (66.7%) of users without a row in their table, such as user_id 'u2'",
        "warning: 1 impressions (33.3%) of items without a row in their table, such as item_id 8",
    ]


def test_an_attribute_reaches_only_impressions_after_its_time(read: Read) -> None:
    users = {"files": "users.csv", "key": "uid", "valid_from": "since", "columns": {"age": "int64"}}
    rows = (*ROWS, "u1,9,2026-01-02 23:59:59.999999,0,1,1,x")
    frame, _ = read({"events.csv": csv(*rows), "users.csv": USERS}, users=users)
    ages = {(row["user_id"], row["item_id"]): row["age"] for row in frame.iter_rows(named=True)}
    # u2's row is as old as its first impression, u1's second as old as its second: neither may see it.
    assert ages == {("u1", 7): 30, ("u2", 8): None, ("u2", 7): 40, ("u1", 9): 30}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=12),
    rows=st.sets(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=12),
)
def test_the_join_is_the_newest_row_strictly_before(read: Read, events: Any, rows: Any) -> None:
    def at(hour: int) -> str:
        return (WINDOW.start + timedelta(hours=hour)).isoformat()

    log = csv(*(f"u{user},{n},{at(hour)},0,1,1,x" for n, (user, hour) in enumerate(events)))
    users = csv(*(f"u{user},{hour},{at(hour)}" for user, hour in sorted(rows)), header="uid,age,since")
    frame, _ = read(
        {"events.csv": log, "users.csv": users},
        users={
            "files": "users.csv",
            "key": "uid",
            "valid_from": "since",
            "columns": {"age": "int64"},
            "unmatched": {"at_most": 1},
        },
    )
    for row in frame.iter_rows(named=True):
        user, hour = events[row["item_id"]]
        earlier = [since for key, since in rows if key == user and since < hour]
        assert row["age"] == max(earlier, default=None)


def test_a_remote_store_is_read_through_fsspec(read: Read, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/shop/day1/events.csv", csv(*ROWS[:2]).encode())
    memory.pipe("/shop/day2/events.csv", csv(*ROWS[2:]).encode())
    try:
        frame, _ = read({}, files="memory://shop/*/events.csv")
        assert len(frame) == 3
    finally:
        memory.rm("/shop", recursive=True)


def test_the_data_folder_has_a_short_name(read: Read) -> None:
    frame, _ = read({"data/shop/events.csv": csv(*ROWS)}, files="data://shop/*.csv")
    assert len(frame) == 3
