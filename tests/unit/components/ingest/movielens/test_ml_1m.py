"""Does MovieLens-1M, written in its own way, become the same table of impressions?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from components.ingest.ingest_movielens.component import events_schema, run
from components.ingest.ingest_movielens.config import Config
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from features.declaration import Window
from tests.ingesting import events_of

FILES = {
    "ml-1m.inter": (
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\r\n"
        "1m_2\tToy Story (1995)\t5\t978300200\r\n"
        "1m_1\tBug's Life, A (1998)\t4\t978300100\r\n"
        "1m_1\tToy Story (1995)\t3\t978300300\r\n"
    ),
    "ml-1m.user": (
        "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\r\n"
        "1m_1\t1\tF\t10\t48067\r\n"
        "1m_2\t25\tM\t16\t55455-0010\r\n"
    ),
    "ml-1m.item": (
        "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\r\n"
        "Toy Story (1995)\tToy Story\t1995\tAnimation Children's Comedy\r\n"
        "Unrated (1990)\tUnrated\t1990\tDrama\r\n"
        "Bug's Life, A (1998)\tBug's Life, A\t1998\tAnimation\r\n"
    ),
}
WINDOW = Window(start=datetime(2000, 12, 31, tzinfo=UTC), end=datetime(2001, 1, 1, tzinfo=UTC))
Events = Callable[[], pa.Table]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "home" / "data" / "ml-1m"
    found.mkdir(parents=True)
    for name, text in FILES.items():
        (found / name).write_bytes(text.encode())
    return found


@pytest.fixture
def events(folder: Path, context: Callable[[Window], RunContext]) -> Events:
    def make() -> pa.Table:
        return events_of(run, Config(release="ml-1m", verify=False, download=False), context(WINDOW))

    return make


def test_ids_codes_bands_and_labels(events: Events) -> None:
    table = events()
    assert table.schema.remove_metadata().equals(events_schema())
    columns = ["user_id", "item_id", "title", "rating", "like", "love", "age", "age_band", "occupation", "zip_code"]
    assert [tuple(row.values()) for row in table.select(columns).to_pylist()] == [
        (1, 3, "Bug's Life, A", 4, 1, 0, 1, "under_25", "10", "48067"),
        (2, 1, "Toy Story", 5, 1, 1, 25, "25_34", "16", "55455-0010"),
        (1, 1, "Toy Story", 3, 0, 0, 1, "under_25", "10", "48067"),
    ]
    assert table["genres"].to_pylist()[1] == ["Animation", "Children's", "Comedy"]
    assert table["release_year"].to_pylist() == [1998, 1995, 1995]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("ml-1m.inter", "Bug's", "Bugs", "ml-1m.inter:3: column 'item_id' is .*expected an entry of ml-1m.item"),
        ("ml-1m.inter", "1m_2", "2", "ml-1m.inter:2: column 'user_id' is '2', expected a number after '1m_'"),
        ("ml-1m.inter", "1m_2", "1m_x", "ml-1m.inter:2: column 'user_id' is '1m_x', expected a whole number"),
        ("ml-1m.user", "1m_2", "1m_1", "ml-1m.user:3: .*one line per user_id"),
        ("ml-1m.item", "Unrated (1990)", "Toy Story (1995)", "ml-1m.item:3: .*one line per item_id"),
        ("ml-1m.item", "genre:token", "class:token", "column 4 is 'class:token', expected 'genre:token'"),
    ],
)
def test_damaged_files(events: Events, folder: Path, name: str, old: str, new: str, expected: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(BadInputError, match=expected) as raised:
        events()
    assert "\n" not in str(raised.value)
