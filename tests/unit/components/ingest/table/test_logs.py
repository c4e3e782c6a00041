"""Is a further log read and checked as the impressions are, in any order of its rows, and told where it is wrong?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.component import read_events
from components.ingest.ingest_table.config import Config
from components.ingest.ingest_table.logs import read_logs
from components.ingest.ingest_table.reading.files import sources
from components.platform.errors import BadInputError, MissingError
from features.declaration import Window
from tests.unit.components.ingest.table.conftest import ROWS, WINDOW, csv

HEADER = "who,what,paid_at,stored_at,price"
BUYS = (
    "u1,7|8,2026-01-01 12:00,2026-01-01 12:05,5|9",
    "u1,7|8,2026-01-01 12:00,2026-01-01 12:05,5|9",
    "u2,9,2026-01-02 12:00,2026-01-05 12:05,",
    "u2,9,2026-01-03 00:00,2026-01-03 12:05,1",
)
LOG: dict[str, Any] = {
    "user": "who",
    "item": "what",
    "timestamp": "paid_at",
    "created": "stored_at",
    "explode": {"columns": ["what", "price"]},
    "columns": {"price": "float64", "cheap": {"type": "int64", "rule": "price < 6"}},
}


def config(folder: Path, logs: dict[str, Any], **changes: Any) -> Config:
    base = {
        "files": "events.csv",
        "user": "uid",
        "item": {"column": "article", "type": "int64"},
        "timestamp": "shown_at",
    }
    given = base | {"feedback": {"click": "clicked"}} | changes
    (folder / "events.csv").write_text(csv(*ROWS))
    tables = {name: log | {"files": str(folder / f"{name}.csv")} for name, log in logs.items()}
    return Config.model_validate(given | {"files": str(folder / given["files"]), "logs": tables})


def read(folder: Path, *rows: str, **changes: Any) -> tuple[pl.DataFrame, list[str]]:
    (folder / "buys.csv").write_text(csv(*rows, header=HEADER))
    made = config(folder, {"buys": LOG | changes})
    frames, notes = read_logs(sources(made, folder), made, WINDOW, folder / "scratch", lambda line: None)
    assert frames["buys"].columns == list(made.types_of(made.logs["buys"]))
    return frames["buys"], notes


def test_a_log_is_its_rows_of_the_window_in_one_order(tmp_path: Path) -> None:
    frame, notes = read(tmp_path, *BUYS)
    again, _ = read(tmp_path, *reversed(BUYS))
    assert frame.equals(again)
    assert frame.columns == ["user_id", "item_id", "event_timestamp", "created_timestamp", "price", "cheap"]
    assert frame.drop("event_timestamp", "created_timestamp").rows() == [
        ("u1", 7, 5.0, 1), ("u1", 8, 9.0, 0), ("u2", 9, None, None),
    ]  # fmt: skip
    assert notes == [
        "log 'buys': 3 rows of 2 users, 3 items",
        "log 'buys': 1 rows outside the window left out",
        "log 'buys': 2 repeated rows dropped",
    ]


def test_days_one_by_one_are_the_days_together(tmp_path: Path) -> None:
    whole, _ = read(tmp_path, *BUYS)
    made, days = config(tmp_path, {"buys": LOG}), []
    for start in (WINDOW.start, WINDOW.start + timedelta(days=1)):
        day = Window(start=start, end=start + timedelta(days=1))
        frames, _ = read_logs(sources(made, tmp_path), made, day, tmp_path / "scratch", lambda line: None)
        days.append(frames["buys"])
    assert pl.concat(days).equals(whole) and min(map(len, days)) > 0


def test_a_log_knows_late_rows_and_an_empty_window(tmp_path: Path) -> None:
    frame, notes = read(tmp_path, *BUYS, late_hours=24)
    assert len(frame) == 2 and any("rows stored at 2026-01-04" in line for line in notes)
    frame, notes = read(tmp_path, BUYS[-1])
    assert frame.is_empty() and frame["price"].dtype == pl.Float64
    assert notes[0] == (
        "warning: log 'buys' has no row in the window: its files cover 2026-01-03 00:00 to 2026-01-03 00:00 UTC"
    )


def test_a_field_of_a_log_is_told_as_one_of_the_impressions(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"buys\.csv, row 1: column 'what' is 'x', expected a whole number"):
        read(tmp_path, "u1,x,2026-01-01 12:00,2026-01-01 12:00,5")
    with pytest.raises(BadInputError, match=r"2 rows of .*buys\.csv repeat another one, first user u1, item 7 at"):
        read(tmp_path, *BUYS, duplicates="refuse")
    with pytest.raises(BadInputError, match=r"buys\.csv has no column 'paid'.*write 'paid' in quotes"):
        read(tmp_path, *BUYS, columns={"cheap": {"type": "int64", "rule": "who == paid"}}, explode=None)
    made = config(tmp_path, {"views": LOG})
    with pytest.raises(MissingError, match=r"no file matches .*views\.csv: put the rows of log 'views' there"):
        sources(made, tmp_path)


def test_impressions_are_the_same_beside_a_log(tmp_path: Path) -> None:
    (tmp_path / "buys.csv").write_text(csv(*BUYS, header=HEADER))
    found = []
    for logs in ({}, {"buys": LOG}):
        made = config(tmp_path, logs)
        found.append(read_events(sources(made, tmp_path), made, WINDOW, tmp_path / "scratch", lambda line: None))
    assert found[0][0].whole().equals(found[1][0].whole()) and found[0][1] == found[1][1]


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ({"window": LOG}, "'window' is a file of every events table: give the log another name"),
        ({"buys": LOG | {"user": None, "item": None}}, "say whose rows these are"),
        ({"buys": LOG | {"columns": {"user_id": "string", "price": "float64"}}}, "would publish 'user_id' twice"),
        ({"buys": LOG | {"columns": {}}}, "explode names 'price', which nothing reads"),
        ({"buys": LOG | {"created": None, "late_hours": 1}}, "late_hours compares when rows were stored"),
        ({"buys": LOG | {"item": {"columns": ["what", "price"]}}}, "joins its item ids to a text"),
        ({"buys": LOG | {"columns": {"price": {"type": "float64", "outcome": True}}}}, "leave outcome out"),
    ],
)  # fmt: skip
def test_a_log_that_means_nothing_is_refused(tmp_path: Path, logs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(tmp_path, logs)
