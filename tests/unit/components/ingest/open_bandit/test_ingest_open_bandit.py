"""Does a bandit log become impressions with true propensities, and does bad input become one sentence?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.ingest.ingest_open_bandit.component import events_schema, run
from components.ingest.ingest_open_bandit.config import Config
from components.platform.errors import BadInputError, MissingError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window
from features.definitions import load_definitions
from features.tables import compute_table
from tests.ingesting import context_at, events_of

WINDOW = Window(start=datetime(2019, 11, 24, tzinfo=UTC), end=datetime(2019, 11, 25, tzinfo=UTC))
A, B = "a" * 32, "b" * 32
HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3,"
    "user-item_affinity_0,user-item_affinity_1"
)
MEN = [
    f"0,2019-11-24 00:00:17.004101+00:00,1,2,0,0.087125,{A},{B},{A},{B},0.0,1.0",
    f"1,2019-11-24 09:00:00.500000+09:00,0,3,1,4.5e-05,{A},{A},{A},{A},0.0,0.0",  # midnight and a half second, UTC
    f"2,2019-11-25 00:00:00.000000+00:00,0,1,0,0.5,{A},{A},{A},{A},0.0,0.0",  # on the window's end
]
ALL = [f"0,2019-11-24 00:00:17.004101+00:00,1,1,0,1,{B},{B},{B},{B},0.0,0.0"]
ITEMS = (
    ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n"
    f"0,0,-0.5,{A},{B},{A}\n1,1,0.25,{B},{B},{B}\n"
)
CONFIG: dict[str, Any] = {"policy": "bts", "campaigns": ("men", "all"), "verify": False, "download": False}
Make = Callable[..., tuple[pa.Table, list[str]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "home" / "data" / "open-bandit"
    for campaign, rows in {"men": MEN, "all": ALL, "women": ALL}.items():
        for policy in ("bts", "random"):
            place = found / policy / campaign
            place.mkdir(parents=True)
            (place / f"{campaign}.csv").write_text("\n".join([HEADER, *rows, ""]))
            (place / "item_context.csv").write_text(ITEMS)
    return found


@pytest.fixture
def events(folder: Path, tmp_path: Path) -> Make:
    def make(window: Window = WINDOW, **config: Any) -> tuple[pa.Table, list[str]]:
        context = context_at(tmp_path / "home", window)
        return events_of(run, Config(**(CONFIG | config)), context), context.notes

    return make


def test_rows_are_typed_sorted_named_by_campaign_and_half_open(events: Make) -> None:
    table, notes = events()
    assert table.schema.remove_metadata().equals(events_schema())
    columns = ["product_id", "campaign", "policy", "position", "click", "propensity", "product_feature_0", "segment"]
    a, b = "a" * 8, "b" * 8
    assert [tuple(row.values()) for row in table.select(columns).to_pylist()] == [
        ("men/0", "men", "bts", 3, 1, 4.5e-05, -0.5, f"{a}-{a}-{a}-{a}"),
        ("men/1", "men", "bts", 2, 0, 0.087125, 0.25, f"{a}-{b}-{a}-{b}"),
        ("everyone/1", "everyone", "bts", 1, 0, 1.0, 0.25, f"{b}-{b}-{b}-{b}"),
    ]
    assert table["event_timestamp"].to_pylist()[:2] == [
        WINDOW.start + timedelta(seconds=0.5), WINDOW.start + timedelta(seconds=17, microseconds=4101),
    ]  # fmt: skip
    assert table["user_feature_1"].to_pylist()[1] == B
    assert notes == [
        "bts in campaign everyone: 1 impressions of 1 products, 0 clicks (0.00 %)",
        "bts in campaign men: 2 impressions of 2 products, 1 clicks (50.00 %)",
    ]


def test_the_feature_tables_hold_attributes_before_the_first_impression(events: Make) -> None:
    import polars as pl

    table, _ = events()
    frame = pl.DataFrame(table).lazy()
    recipes = load_definitions().recipes
    products = compute_table(recipes["open_bandit_product_profile"], frame, WINDOW)
    segments = compute_table(recipes["open_bandit_segment_profile"], frame, WINDOW)
    assert products["product_id"].to_list() == ["everyone/1", "men/0", "men/1"]
    assert products["event_timestamp"].min() == WINDOW.start + timedelta(seconds=0.5) - timedelta(microseconds=1)
    assert len(segments) == 3


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("bts/men/men.csv", "17.004101+00:00", "17.004101", ":2: column 'timestamp' is .*expected a time such as"),
        ("bts/men/men.csv", ",0,0.087125,", ",2,0.087125,", ":2: column 'click' is '2'.*0 or 1"),
        ("bts/men/men.csv", "0.087125", "often", ":2: column 'propensity_score' is 'often', expected a number"),
        ("bts/men/men.csv", "0.087125", "nan", ":2: column 'propensity_score' is 'nan', expected a number"),
        ("bts/men/men.csv", "propensity_score", "pscore", ":1: column 'propensity_score' is missing"),
        ("bts/men/item_context.csv", "\n1,1,", "\n1,0,", ":3: .*one line per item_id"),
        ("bts/men/item_context.csv", "0.25", "", ":3: column 'item_feature_0' is ''"),
    ],
)
def test_a_damaged_file_is_one_sentence(
    events: Make, folder: Path, name: str, old: str, new: str, message: str
) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInputError, match=message) as raised:
        events()
    assert "\n" not in str(raised.value)


def test_absent_files_and_empty_windows(events: Make, folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"no impression lies in the window .* covers 2019-11-24 00:00 to"):
        events(Window(start=WINDOW.end + timedelta(days=1), end=WINDOW.end + timedelta(days=2)))
    (folder / "bts" / "men" / "men.csv").unlink()
    with pytest.raises(MissingError, match=r"men\.csv is missing and download is off"):
        events()


def test_changed_files_of_the_read_policy_are_read_again(folder: Path, tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    request = StageRequest(component="ingest_open_bandit", config=CONFIG, window=WINDOW)
    assert not execute(request, settings).cached
    other = folder / "random" / "men" / "men.csv"
    other.write_text(other.read_text().replace("0.5", "0.6"))
    assert execute(request, settings).cached
    mine = folder / "bts" / "men" / "men.csv"
    mine.write_text(mine.read_text().replace("0.087125", "0.087"))
    assert not execute(request, settings).cached
