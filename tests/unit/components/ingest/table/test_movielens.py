"""Do the shipped pipelines read both releases of MovieLens as promised, although each is written in its own way?"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, execute
from components.platform.settings import Settings
from features.declaration import Window
from tests.ingesting import MOVIELENS, events, with_of
from tests.unit.components.ingest.conftest import ITEMS, RATINGS, USERS

ONE_M = with_of("movielens_1m")
SMALL = {"ml-100k/ml-100k.inter": RATINGS, "ml-100k/ml-100k.user": USERS, "ml-100k/ml-100k.item": ITEMS}
SMALL_1M = {
    "ml-1m/ml-1m.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
        "1m_2\tToy Story (1995)\t5\t978300200\r\n"
        "1m_1\tBug's Life, A (1998)\t4\t978300100\r\n"
        "1m_1\tToy Story (1995)\t3\t978300300\r\n"
    ),
    "ml-1m/ml-1m.user": (
        "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n"
        "1m_1\t1\tF\t10\t48067\r\n"
        "1m_2\t25\tM\t16\t55455-0010\r\n"
    ),
    "ml-1m/ml-1m.item": (
        "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
        "Toy Story (1995)\tToy Story\t1995\tAnimation Children's Comedy\r\n"
        "Unrated (1990)\tUnrated\t1990\tDrama\r\n"
        "Bug's Life, A (1998)\tBug's Life, A\t1998\tAnimation\r\n"
    ),
}


def test_rows_columns_labels_and_order(tmp_path: Path) -> None:
    table, notes = events(tmp_path, MOVIELENS, SMALL)
    assert table.select("user_id", "item_id").rows() == [(1, 10), (1, 11), (2, 10), (3, 12), (1, 12), (2, 11)]
    moment = datetime.fromtimestamp(880000100, UTC)
    assert table.row(2, named=True) == {
        "user_id": 2, "item_id": 10, "rating": 5, "like": 1, "love": 1, "age": 25, "age_band": "25_34", "gender": "F",
        "event_timestamp": moment, "created_timestamp": moment,
        "occupation": "other", "zip_code": "0123A", "title": "Toy Story", "release_year": 1995,
        "genres": ["Animation", "Children's"],
    }  # fmt: skip
    bands = dict(table.select("user_id", "age_band").rows())
    assert bands == {1: "under_25", 2: "25_34", 3: "35_plus"}
    assert table["release_year"].null_count() == 2, "a year that is a word is unknown"
    assert table["title"].null_count() == 0, "but a title may be that word"
    assert notes == ["6 impressions of 3 users, 3 items; like 66.7 %, love 33.3 %"]


def test_ids_of_ml_1m_are_the_places_in_their_tables(tmp_path: Path) -> None:
    table, _ = events(tmp_path, ONE_M, SMALL_1M)
    columns = ["user_id", "item_id", "title", "rating", "like", "love", "age", "age_band", "occupation", "zip_code"]
    assert table.select(columns).rows() == [
        (1, 3, "Bug's Life, A", 4, 1, 0, 1, "under_25", "10", "48067"),
        (2, 1, "Toy Story", 5, 1, 1, 25, "25_34", "16", "55455-0010"),
        (1, 1, "Toy Story", 3, 0, 0, 1, "under_25", "10", "48067"),
    ]
    assert table["genres"].to_list()[1] == ["Animation", "Children's", "Comedy"]
    assert table["release_year"].to_list() == [1998, 1995, 1995]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("ml-100k.inter", "rating:float", "stars:float", "no column 'rating'"),
        ("ml-100k.inter", "2\t10\t5\t", "2\t10\tfive\t", "row 1: column 'rating' is 'five'"),
        ("ml-100k.user", "2\t25\t", "2\told\t", "row 2: column 'age' is 'old'"),
        ("ml-100k.user", "3\t35\t", "2\t35\t", "row 3: 'user_id' 2 has a row already"),
        ("ml-100k.item", "12\tStar Wars\t", "12\t", "row 3: 3 fields, expected 4"),
        ("ml-1m.inter", "Bug's", "Bugs", "row 2: column 'item_id' is .*, expected an id that has a row in the table"),
        ("ml-1m.inter", "1m_2", "1m_x", "row 1: column 'user_id' is '1m_x', expected an id that has a row"),
        ("ml-1m.item", "Unrated (1990)", "Toy Story (1995)", "row 2: 'item_id' 1 has a row already"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, old: str, new: str, expected: str) -> None:
    given, files = (ONE_M, SMALL_1M) if name.startswith("ml-1m") else (MOVIELENS, SMALL)
    path = f"{name.partition('.')[0]}/{name}"
    with pytest.raises(BadInputError, match=expected) as raised:
        events(tmp_path, given, files | {path: files[path].replace(old, new, 1)})
    assert name in str(raised.value) and "\n" not in str(raised.value)


def test_a_changed_file_of_the_release_is_an_error_and_stays(tmp_path: Path) -> None:
    events(tmp_path / "home" / "data", MOVIELENS, SMALL)
    window = Window(start=datetime(1997, 11, 1, tzinfo=UTC), end=datetime(1997, 12, 1, tzinfo=UTC))
    with pytest.raises(BadInputError, match=r"ml-100k\.inter was changed or cut off .* expected 4edb74e2"):
        execute(
            StageRequest(component="ingest_table", config=deepcopy(MOVIELENS), window=window),
            Settings.at(tmp_path / "home"),
        )
    assert (tmp_path / "home" / "data" / "ml-100k" / "ml-100k.inter").read_text() == RATINGS


def test_the_real_release(movielens_raw: Path, tmp_path: Path) -> None:
    table, notes = events(movielens_raw, MOVIELENS, {}, tmp_path)
    assert notes == ["100,000 impressions of 943 users, 1,682 items; like 55.4 %, love 21.2 %"]
    assert table["like"].sum() == 55_375  # ratings of 4 and 5 in the file, counted with awk
    assert table.equals(table.sort("event_timestamp", "user_id", "item_id"))
    assert table.filter(pl.col("age_band").is_null() | pl.col("title").is_null()).is_empty()
