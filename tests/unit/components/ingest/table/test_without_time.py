"""Are rows without a time at the window's start, whatever the window is, and is what needs an order refused?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import COMPONENT, Config
from components.platform.errors import BadInputError
from features.declaration import Window
from tests.unit.components.ingest.table.conftest import HEADER, ROWS, WINDOW, Read, csv

LATER = Window(start=WINDOW.end, end=WINDOW.end + timedelta(days=1))


@pytest.mark.parametrize("window", [WINDOW, LATER])
def test_every_row_stands_at_the_start(read: Read, window: Window) -> None:
    frame, notes = read({"events.csv": csv(*ROWS)}, window, timestamp="none", columns={"rating": "int64"})
    assert frame["event_timestamp"].to_list() == frame["created_timestamp"].to_list() == [window.start] * 3
    assert sorted(frame["rating"].to_list()) == [2, 4, 5]
    assert notes == ["3 impressions of 2 users, 2 items; click 33.3 %"]


def test_lists_are_rows_without_a_time_too(read: Read) -> None:
    rows = ("u1,7|8|9,x,1", "u2,,x,0")
    frame, notes = read(
        {"events.csv": csv(*rows, header="uid,article,shown_at,clicked")},
        timestamp="none",
        explode={"columns": ["article"]},
    )
    assert (
        frame["item_id"].to_list() == [7, 8, 9] and "1 rows of the files with empty lists gave no impression" in notes
    )


def test_a_table_without_rows_is_told(read: Read) -> None:
    with pytest.raises(BadInputError, match="holds no rows"):
        read({"events.csv": f"{HEADER}\n"}, timestamp="none")


def test_a_column_called_none_is_a_block(read: Read) -> None:
    table = {"events.csv": csv(*ROWS, header=HEADER.replace("shown_at", "none"))}
    frame, _ = read(table, timestamp={"column": "none"})
    assert frame["event_timestamp"].n_unique() == 3


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"created": "t"}, "created"),
        ({"logs": {"buys": {"files": "b.csv", "user": "u", "timestamp": "t"}}}, "logs"),
        ({"columns": {"hour": {"type": "int64", "moment": "hour"}}}, "columns.hour.moment"),
        ({"items": {"files": "i.csv", "key": "i", "valid_from": "t", "columns": {"x": "int64"}}}, "items.valid_from"),
    ],
)
def test_what_needs_a_time_is_refused(given: dict[str, Any], what: str) -> None:
    base = {"files": "x.csv", "user": "u", "item": "i", "timestamp": "none", "feedback": {"good": "good"}}
    assert COMPONENT.flow is not None
    assert not COMPONENT.flow.gives(Config.model_validate(base), {})["events"].timed
    with pytest.raises(ValidationError, match=f"rows have no time, and {what} needs one: leave either out"):
        Config.model_validate(base | given)
