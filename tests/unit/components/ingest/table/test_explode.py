"""Do lists in one row become rows of their own, every element in its place, and lists that do not fit none?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import COMPONENT, Config
from components.ingest.ingest_table.fields import as_time
from components.ingest.ingest_table.reading.files import sources
from components.ingest.ingest_table.reading.scan import scan
from components.ingest.ingest_table.typed import moment
from components.platform.errors import BadInputError
from features.declaration import Window
from tests.unit.components.ingest.table.conftest import Read, csv

HEADER = "session,uid,asked_at,reference,impressions,prices"
LOG = csv(
    "s1,u1,2026-01-01 10:00:00,b,a| b |c,90|| NULL",
    "s2,u1,2026-01-01 11:00:00,b,,",
    "s3,u2,2026-01-02 12:00:00,a,a,",
    "s4,u2,2026-01-02 13:00:00,c, b|c ,60|75",
    header=HEADER,
)
HOTELS: dict[str, Any] = {
    "item": "impressions",
    "timestamp": "asked_at",
    "request": "session",
    "feedback": {"click": "reference == impressions"},
    "explode": {"columns": ["impressions", "prices"], "position": "place"},
    "columns": {"price": {"type": "float64", "column": "prices"}, "place": "int64"},
    "null_values": ["NULL"],
}
ROWS = [
    ("s1", "u1", "a", 90.0, 1, 0), ("s1", "u1", "b", None, 2, 1), ("s1", "u1", "c", None, 3, 0),
    ("s3", "u2", "a", None, 1, 1), ("s4", "u2", "b", 60.0, 1, 0), ("s4", "u2", "c", 75.0, 2, 1),
]  # fmt: skip
SHOWN = ("request_id", "user_id", "item_id", "price", "place", "click")


def lists(prices: Any = None) -> pl.DataFrame:
    """Return the log as Parquet writes it, with a fixed number of items a request."""
    return pl.DataFrame(
        {
            "session": ["s1", "s2"],
            "uid": ["u1", "u2"],
            "asked_at": [datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC)],
            "reference": ["b", "d"],
            "impressions": [["a", " b"], ["c", "d"]],
            "prices": pl.Series([[90, None], [None, 60]], dtype=pl.List(pl.Int16)).cast(prices or pl.List(pl.Float64)),
        }
    )


def test_elements_become_rows_in_their_places(read: Read) -> None:
    frame, notes = read({"events.csv": LOG}, **HOTELS)
    assert frame.select(SHOWN).rows() == ROWS
    assert "1 rows of the files with empty lists gave no impression" in notes


@pytest.mark.parametrize("prices", [pl.List(pl.Float64), pl.Array(pl.Float64, 2), pl.List(pl.Int16)])
def test_lists_of_parquet_become_rows_as_texts_do(read: Read, prices: Any) -> None:
    frame, _ = read({"events.parquet": lists(prices)}, **HOTELS)
    assert frame.select(SHOWN).rows() == [
        ("s1", "u1", "a", 90.0, 1, 0), ("s1", "u1", "b", None, 2, 1),
        ("s2", "u2", "c", None, 1, 0), ("s2", "u2", "d", 60.0, 2, 1),
    ]  # fmt: skip


def test_lists_without_elements_are_counted_in_the_window_alone(read: Read) -> None:
    empty = lists().head(1).with_columns(impressions=pl.Series([[]], dtype=pl.List(pl.String)), prices=None)
    late = empty.with_columns(asked_at=datetime(2027, 1, 1, tzinfo=UTC))
    frame, notes = read({"events.parquet": pl.concat([empty, late, lists()], how="vertical_relaxed")}, **HOTELS)
    assert len(frame) == 4 and "1 rows of the files with empty lists gave no impression" in notes
    assert not any("outside the window" in note for note in notes)


def test_places_flags_and_texts_are_columns_like_any_other(read: Read) -> None:
    text = csv("s1,u1,2026-01-01,0;1,UK;DE", header="session,uid,asked_at,clicks,country")
    frame, _ = read(
        {"events.csv": text},
        **HOTELS | {
            "item": {"columns": ["session", "place"]},
            "explode": {"columns": ["clicks", "country"], "separator": ";", "position": "place"},
            "values": {"country": {"UK": "GB"}},
            "feedback": {"click": "clicks", "top": "place <= 1"},
            "columns": {"country": "string"},
        },
    )  # fmt: skip
    assert frame.select("item_id", "click", "top", "country").rows() == [
        ("s1-1", 0, 1, "GB"),
        ("s1-2", 1, 0, "DE"),
    ]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            "s5,u1,2026-01-01,a,a|b|c,9|8",
            "row 5: lists of one row differ in length, 'impressions' 3, 'prices' 2; write a missing element as an "
            "empty one",
        ),
        ("s5,u1,2026-01-01,a,a|b,", "row 5: lists of one row differ in length, 'impressions' 2, 'prices' 1; "),
        ("s5,u1,2026-01-01,a,a|b,9|x", "row 5: column 'prices' is 'x', expected a finite number; "),
        ("s5,u1,2026-01-01,a,|b,9|8", "row 5: column 'impressions' is empty, expected a text; "),
        ("s5,u1,2026-01-01,a,['a'|'b'],9|8", "row 5: a list of 'impressions' or 'prices' stands in brackets; "),
    ],
)
def test_errors_say_the_row_of_the_file(read: Read, row: str, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read({"events.csv": LOG + row + "\n"}, **HOTELS)
    assert f"events.csv, {said}" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"explode": {"columns": ["impressions", "uid"]}}, "column 'uid' is int64, and explode takes lists, or texts"),
        (
            {"explode": {"columns": ["impressions"], "position": "reference"}},
            "has column 'reference', and explode makes",
        ),
        ({"explode": {"columns": ["impressions", "day"]}}, "has 'day' in its path, which is no list"),
    ],
)
def test_columns_that_hold_no_lists_are_refused(read: Read, changes: dict[str, Any], said: str) -> None:
    table = lists().with_columns(uid=pl.Series([1, 2]))
    day = {"columns": {"day": "string", "reference": "string"}, "files": "day=1/events*"}
    with pytest.raises(BadInputError, match=said):
        read({"day=1/events.parquet": table}, **HOTELS | changes | day)


@pytest.mark.parametrize(
    ("explode", "said"),
    [
        ({"columns": []}, "columns"),
        ({"columns": ["impressions", "impressions"]}, "explode names 'impressions' twice"),
        ({"columns": ["impressions"], "position": "impressions"}, "explode names 'impressions' twice"),
        ({"columns": ["impressions", "stars"]}, "explode names 'stars', which nothing reads"),
        ({"columns": ["impressions"], "position": "rank"}, "explode names 'rank', which nothing reads"),
    ],
)
def test_what_explode_cannot_mean_is_refused_with_the_pipeline(explode: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate({"files": "x.csv", "user": "uid", **HOTELS, "explode": explode})


def test_rows_outside_the_window_are_elements_that_are_counted(read: Read) -> None:
    window = Window(start=datetime(2026, 1, 2, tzinfo=UTC), end=datetime(2026, 1, 3, tzinfo=UTC))
    frame, notes = read({"events.csv": LOG}, window, **HOTELS)
    assert frame.select(SHOWN).rows() == ROWS[3:]
    assert "3 rows outside the window left out" in notes and not any("empty lists" in note for note in notes)


def test_a_column_that_is_compared_with_the_item_decides_the_label() -> None:
    columns = {"reference": "string", "impressions": "string", "place": "int64", "prices": "float64"}
    config = Config.model_validate({"files": "x.csv", "user": "uid", **HOTELS, "columns": columns})
    assert COMPONENT.flow is not None
    known = COMPONENT.flow.gives(config, {})["events"].known
    roles = {name: known[name].role for name in columns}
    assert roles == {"reference": "feedback", "impressions": "other", "place": "other", "prices": "other"}


def test_columns_of_a_file_may_have_the_names_that_are_used_inside(read: Read) -> None:
    text = LOG.replace("impressions", "__row").replace("prices", "__place") + "s9,u1,x,a,a,9\n"
    given = HOTELS | {
        "item": "__row",
        "explode": {"columns": ["__row", "__place"], "position": "__at"},
        "feedback": {"click": "reference == __row"},
        "columns": {"price": {"type": "float64", "column": "__place"}, "place": {"type": "int64", "column": "__at"}},
    }
    with pytest.raises(BadInputError, match="row 5: column 'asked_at' is 'x'"):
        read({"events.csv": text}, **given)
    frame, _ = read({"events.csv": text.replace(",x,", ",2027-01-01,")}, **given)
    assert frame.select(SHOWN).rows() == ROWS


def test_rows_outside_the_window_stay_lists(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(LOG)
    given = HOTELS | {"files": str(tmp_path / "events.csv"), "user": "uid"}
    config = Config.model_validate(given | {"timestamp": {"column": "asked_at", "unit": "ms"}})
    (source,) = sources(config, tmp_path)["events"]
    file = scan(source, config.read, config, tmp_path, explode=config.explode)
    time = moment("event_timestamp", as_time(config.timestamp), file)
    plan = file.rows.filter(time.value > datetime(2026, 1, 1, tzinfo=UTC)).explain()
    assert 0 < plan.index("EXPLODE") < plan.rindex("FILTER")
