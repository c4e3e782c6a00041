"""Do ratings become the promised impressions, and does bad input become one sentence?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.ingest.ingest_movielens.component import events_schema, run
from components.ingest.ingest_movielens.config import Config
from components.platform.contract import NoInputs, RunContext
from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window
from tests.ingesting import events_of

OWN: dict[str, Any] = {"verify": False, "download": False}
Make = Callable[[Window], RunContext]


def events(make: Make, window: Window, **config: Any) -> tuple[pa.Table, RunContext]:
    context = make(window)
    return events_of(run, Config(**OWN, **config), context), context


def test_rows_columns_labels_and_order(raw: Any, context: Make, window: Window) -> None:
    table, made = events(context, window)
    assert table.schema.remove_metadata().equals(events_schema())
    assert table.select(["user_id", "item_id"]).to_pylist() == [
        {"user_id": user, "item_id": item} for user, item in [(1, 10), (1, 11), (2, 10), (3, 12), (1, 12), (2, 11)]
    ]
    first = table.slice(2, 1).to_pylist()[0]
    moment = datetime.fromtimestamp(880000100, UTC)
    assert first == {
        "user_id": 2, "item_id": 10, "rating": 5, "like": 1, "love": 1, "age": 25, "age_band": "25_34", "gender": "F",
        "event_timestamp": moment, "created_timestamp": moment,
        "occupation": "other", "zip_code": "0123A", "title": "Toy Story", "release_year": 1995,
        "genres": ["Animation", "Children's"],
    }  # fmt: skip
    bands = dict(zip(table["user_id"].to_pylist(), table["age_band"].to_pylist(), strict=True))
    assert bands == {1: "under_25", 2: "25_34", 3: "35_plus"}
    assert table["release_year"].null_count == 2, "a year that is a word is unknown"
    assert made.notes == ["6 impressions of 3 users, 3 items; like 66.7 %, love 33.3 %"]


def test_thresholds_make_a_nested_funnel(raw: Any, context: Make, window: Window) -> None:
    for like_at in range(1, 6):
        for love_at in range(like_at, 6):
            table = pl.from_arrow(events(context, window, like_at=like_at, love_at=love_at)[0])
            assert isinstance(table, pl.DataFrame)
            assert (table["love"] <= table["like"]).all()
            assert table["like"].to_list() == (table["rating"] >= like_at).cast(pl.Int8).to_list()


def test_love_below_like_is_refused() -> None:
    with pytest.raises(ValidationError, match="love_at is 3, below like_at 4"):
        Config(love_at=3)


def test_window_is_half_open(raw: Any, context: Make) -> None:
    start, end = datetime.fromtimestamp(880000100, UTC), datetime.fromtimestamp(880172800, UTC)
    table, made = events(context, Window(start=start, end=end))
    assert table["user_id"].to_pylist() == [1, 2, 3]
    kept = Window.model_validate_json((made.scratch / "outputs" / "events" / "window.json").read_text())
    assert kept == Window(start=start, end=end)


def test_empty_window_names_the_data_s_own_range(raw: Any, context: Make) -> None:
    empty = Window(start=datetime(2020, 1, 1, tzinfo=UTC), end=datetime(2020, 2, 1, tzinfo=UTC))
    with pytest.raises(BadInputError, match="covers 1997-11-20 04:26 to 1997-11-22 04:26 UTC; move the window"):
        events(context, empty)


def test_same_input_same_bytes_whatever_the_order_of_lines(raw: Any, context: Make, window: Window) -> None:
    _, first = events(context, window)
    raw.edit("ml-100k.inter", lambda text: "\n".join([text.split("\n")[0], *sorted(text.split("\n")[1:-1]), ""]))
    _, second = events(context, window)
    one, two = (made.scratch / "outputs" / "events" / "events.parquet" for made in (first, second))
    assert one.read_bytes() == two.read_bytes()


def test_users_and_items_without_attributes_keep_their_rows(raw: Any, context: Make, window: Window) -> None:
    raw.edit("ml-100k.user", lambda text: text.replace("3\t35\tF\twriter\t00501\n", ""))
    raw.edit("ml-100k.item", lambda text: text.replace("11\tunknown\tunkonwn\tunknown\n", ""))
    table, made = events(context, window)
    assert table.num_rows == 6
    assert table["age_band"].null_count == 1
    assert table["title"].null_count == 2
    assert made.notes[1:] == ["1 impressions without a user's age", "2 impressions without an item's title"]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("ml-100k.inter", "rating:float", "stars:float", "ml-100k.inter:1: column 3 is 'stars:float'"),
        ("ml-100k.inter", "2\t10\t5\t", "2\t10\tfive\t", "ml-100k.inter:2: column 'rating' is 'five'"),
        ("ml-100k.user", "2\t25\t", "2\told\t", "ml-100k.user:3: column 'age' is 'old'"),
        (
            "ml-100k.user",
            "3\t35\t",
            "2\t35\t",
            "ml-100k.user:4: column 'user_id' is '2', expected one line per user_id",
        ),
        ("ml-100k.item", "12\tStar Wars\t", "12\t", "ml-100k.item:4: the last line"),
    ],
)
def test_damaged_files(raw: Any, context: Make, window: Window, name: str, old: str, new: str, expected: str) -> None:
    raw.edit(name, lambda text: text.replace(old, new))
    with pytest.raises(BadInputError) as caught:
        events(context, window)
    assert expected in str(caught.value)


def test_absent_file_without_download(raw: Any, context: Make, window: Window) -> None:
    (raw.folder / "ml-100k.user").unlink()
    with pytest.raises(MissingError, match=r"ml-100k\.user is missing and download is off"):
        events(context, window)


def test_own_files_of_another_content_are_read_again(raw: Any, tmp_path: Path, window: Window) -> None:
    request = StageRequest(component="ingest_movielens", config=OWN, window=window)
    settings = Settings.at(tmp_path / "home")
    first = execute(request, settings)
    assert execute(request, settings).cached
    raw.edit("ml-100k.inter", lambda text: text.replace("2\t10\t5", "2\t10\t4"))
    again = execute(request, settings)
    assert not again.cached
    assert again.outputs["events"].digest != first.outputs["events"].digest


def test_a_changed_file_of_the_release_is_an_error_and_stays(raw: Any, tmp_path: Path, window: Window) -> None:
    before = (raw.folder / "ml-100k.inter").read_text()
    with pytest.raises(BadInputError, match=r"ml-100k\.inter is truncated .* sha256 is .*, expected 4edb74e2"):
        execute(StageRequest(component="ingest_movielens", window=window), Settings.at(tmp_path / "home"))
    assert (raw.folder / "ml-100k.inter").read_text() == before


def test_the_real_release(movielens_raw: Path, context: Make) -> None:
    made = context(Window(start=datetime(1997, 8, 27, tzinfo=UTC), end=datetime(1998, 4, 24, tzinfo=UTC)))
    link = made.settings.data
    link.parent.mkdir(parents=True)
    link.symlink_to(movielens_raw)
    outputs = run(NoInputs(), Config(download=False), made)
    table = pl.read_parquet(Path(outputs.events.uri) / "events.parquet")
    assert made.notes == ["100,000 impressions of 943 users, 1,682 items; like 55.4 %, love 21.2 %"]
    assert table["like"].sum() == 55_375  # ratings of 4 and 5 in the file, counted with awk
    assert table.equals(table.sort("event_timestamp", "user_id", "item_id"))
    assert table.filter(pl.col("age_band").is_null() | pl.col("title").is_null()).is_empty()
