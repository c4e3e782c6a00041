"""Do logs of one line per request become the rows that were shown, cell by cell, with YAML alone?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.hotel_search import HotelSearch, make_hotel_search
from tests.ingesting import events

HOTELS: dict[str, Any] = {
    "files": "data://searches.csv",
    "user": "user",
    "item": "impressions",
    "timestamp": "asked_at",
    "request": "session",
    "feedback": {"click": "reference == impressions"},
    "explode": {"columns": ["impressions", "prices"], "position": "place"},
    "columns": {"price": {"type": "float64", "column": "prices"}, "place": "int64", "device": "string"},
    "items": {"files": "data://hotels.csv", "key": "hotel", "columns": {"stars": "int64", "city": "string"}},
}


@pytest.fixture(scope="module")
def searches() -> HotelSearch:
    return make_hotel_search()


def test_exploded_logs_are_the_rows_that_were_shown(searches: HotelSearch, tmp_path: Path) -> None:
    searches.write(tmp_path)
    frame, notes = events(tmp_path, HOTELS, {})
    asked = searches.log.select(
        "session", "user", pl.col("asked_at").str.to_datetime(time_unit="us", time_zone="UTC"), "device"
    )
    truth = searches.long.join(asked, on="session").join(searches.hotels, on="hotel")
    names = {"session": "request_id", "user": "user_id", "hotel": "item_id", "asked_at": "event_timestamp"}
    wanted = truth.drop("probability").rename(names).sort("request_id", "place")
    assert frame.drop("created_timestamp").sort("request_id", "place").select(wanted.columns).equals(wanted)
    assert not any("warning" in note or "differ" in note for note in notes)


def test_the_world_holds_what_its_docstring_says(searches: HotelSearch) -> None:
    long = searches.long.join(searches.hotels, on="hotel")
    clicks = long.group_by("session").agg(pl.col("click").sum(), pl.col("probability").sum())
    assert clicks["click"].unique().to_list() == [1] and clicks["probability"].to_numpy() == pytest.approx(1)
    assert abs(long["click"].sum() - long["probability"].sum()) < 1e-6
    rates = long.group_by("place").agg(pl.col("click").mean()).sort("place")["click"].to_list()
    assert rates[0] > 2 * rates[9]
    assert 0.08 < long["price"].null_count() / len(long) < 0.12
    assert 0.1 < searches.hotels["stars"].null_count() / len(searches.hotels) < 0.3
    unrated = long.filter(pl.col("stars").is_null())
    assert unrated["click"].sum() / len(unrated) < 0.9 * long["click"].sum() / len(long)
    assert make_hotel_search(50).log.equals(make_hotel_search(50).log)
    assert not make_hotel_search(50).log.equals(make_hotel_search(50, seed=1).log)
