"""Is it told when two tables do not meet, and what of the rows was left out or contradicts?"""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import HEADER, ROWS, Read, csv

USERS = {"files": "users.csv", "key": "uid", "columns": {"age": "int64"}}
AGES = csv("u1,30", header="uid,age")


@pytest.mark.parametrize(
    ("here", "there"),
    [("12.0", "12"), ("0108775015", "108775015"), ("abc", "ABC"), ("caf\u00e9", "cafe\u0301"), ("x", "y")],
)
def test_not_one_impression_finds_its_row(read: Read, here: str, there: str) -> None:
    rows = csv(*(row.replace("u2", here) for row in ROWS[1:]), "zz" + ROWS[0][2:])
    with pytest.raises(BadInputError) as caught:
        read({"events.csv": rows, "users.csv": csv("aa,1", f"{there},3", header="uid,age")}, users=USERS)
    pair = (here, there) if there != "y" else ("x", "aa")
    assert f"user_id is written {pair[0]!r} in the impressions and {pair[1]!r} in the table" in str(caught.value)
    assert "not one of 3 impressions finds its row in" in str(caught.value)


def test_not_one_impression_finds_its_item(read: Read) -> None:
    items = {"files": "items.csv", "key": "id", "columns": {"colour": "string"}}
    with pytest.raises(BadInputError, match=r"item_id is written 7 in the impressions and 107 in the table"):
        read({"events.csv": csv(*ROWS), "items.csv": csv("107,red", header="id,colour")}, items=items)
    with pytest.raises(BadInputError, match=r"items.csv: the table holds no rows; write it again"):
        read({"events.csv": csv(*ROWS), "items.csv": csv(header="id,colour")}, items=items)


def test_rows_that_all_hold_too_late(read: Read) -> None:
    table = csv("u1,30,2027-01-01", "u2,40,2026-01-02 23:59:59.999999", header="uid,age,since")
    users = USERS | {"valid_from": "since"}
    with pytest.raises(BadInputError, match=r"rows of user_id 'u1', as all others, hold only since .* valid_from"):
        read({"events.csv": csv(*ROWS), "users.csv": table}, users=users)
    frame, _ = read({}, users=users | {"unmatched": {"at_most": 1}})
    assert frame["age"].to_list() == [None] * 3


@pytest.mark.parametrize(
    ("unmatched", "expected"),
    [
        ({}, "warning: 2 impressions (66.7%) of users without a row in their table, such as user_id 'u2'"),
        ({"warn_above": 0.7}, "2 impressions (66.7%) of users without a row in their table, such as user_id 'u2'"),
        (
            {"at_most": 0.5},
            "2 of 3 impressions (66.7%) find no row in {}, such as user_id 'u2', and unmatched.at_most is 0.5",
        ),
    ],
)
def test_how_many_may_lack_their_row_can_be_set(read: Read, unmatched: dict[str, Any], expected: str) -> None:
    files = {"events.csv": csv(*ROWS), "users.csv": AGES}
    if "at_most" in unmatched:
        with pytest.raises(BadInputError, match=re.escape(expected.partition("{}")[2])):
            read(files, users=USERS | {"unmatched": unmatched})
        return
    assert read(files, users=USERS | {"unmatched": unmatched})[1][1:] == [expected]


def test_rows_outside_the_window_are_counted(read: Read) -> None:
    outside = [ROWS[0].replace("2026-01-01", day) for day in ("2025-12-31", "2026-01-03", "2027-01-01")]
    _, notes = read({"events1.csv": csv(*ROWS, *outside[:2]), "events2.csv": csv(outside[2])})
    assert notes[1:] == ["3 rows outside the window left out"]


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_rows_that_contradict_are_counted(read: Read, duplicates: str) -> None:
    other = ROWS[0].replace(",1,4", ",0,4")
    _, notes = read({"events.csv": csv(*ROWS, ROWS[0], other)}, duplicates=duplicates)
    assert "1 rows differ from another one of the same user, item and time" in notes
    assert not [
        note for note in read({"events.csv": csv(*ROWS, ROWS[0])}, duplicates=duplicates)[1] if "differ" in note
    ]


def test_rows_that_contradict_within_a_request_are_counted(read: Read) -> None:
    later = ROWS[0].replace("10:00:00", "10:00:01")
    rows = csv(f"{ROWS[0]},r1", f"{later},r1", f"{ROWS[1]},r1", f"{ROWS[2]},r2", header=f"{HEADER},request")
    assert read({"events.csv": rows}, request="request")[1][1:] == [
        "1 rows differ from another one of the same request and item"
    ]
