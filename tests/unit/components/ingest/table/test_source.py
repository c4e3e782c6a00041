"""Do files out of a wheel come when they are absent, and are other columns than the file's made as the config says?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import Config
from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from features.declaration import Window
from tests.unit.components.ingest.table.conftest import Read, csv

WINDOW = Window(start=datetime(1997, 11, 1, tzinfo=UTC), end=datetime(1997, 12, 1, tzinfo=UTC))
BASE: dict[str, Any] = {
    "files": "data://tiny/tiny.inter", "delimiter": "\t", "names_end_at": ":", "user": "user_id", "item": "item_id",
    "timestamp": {"column": "timestamp", "unit": "s"}, "feedback": {"like": "rating >= 4"},
}  # fmt: skip


def run(home: Path, index: Any, **changes: Any) -> StageResult:
    config = BASE | {"source": index.wanted.model_dump()} | changes
    return execute(StageRequest(component="ingest_table", config=config, window=WINDOW), Settings.at(home))


def test_absent_files_are_fetched_once_and_a_cached_result_needs_none(index: Any, tmp_path: Path) -> None:
    first = run(tmp_path / "home", index)
    folder = tmp_path / "home" / "data" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.inter", "tiny.item", "tiny.user"]
    (folder / "tiny.inter").unlink()
    again = run(tmp_path / "home", index)
    assert again.cached and again.outputs == first.outputs


def test_a_changed_file_is_refused_before_it_is_read(index: Any, tmp_path: Path) -> None:
    run(tmp_path / "home", index)
    (tmp_path / "home" / "data" / "tiny" / "tiny.inter").write_text("x")
    with pytest.raises(BadInputError, match=r"tiny\.inter was changed or cut off \(1 bytes\)"):
        run(tmp_path / "home", index, feedback={"like": "rating >= 5"})


def test_a_file_that_the_source_lacks_is_told_with_the_nearest(index: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"matches data://tiny/tiny.intre \(did you mean 'tiny.inter'\?\)"):
        run(tmp_path / "home", index, files="data://tiny/tiny.intre")


def test_a_source_that_no_table_reads_is_a_mistake(index: Any) -> None:
    with pytest.raises(ValidationError, match="source brings files into data://tiny/: name one of them in files"):
        Config.model_validate(BASE | {"source": index.wanted.model_dump(), "files": "data://other/x.csv"})
    with pytest.raises(ValidationError, match="source"):
        Config.model_validate(BASE | {"source": "ml-10m"})


def test_a_text_of_any_name_is_read_when_its_delimiter_is_said(read: Read) -> None:
    text = csv("u1;7;2026-01-01;1", header="uid;article;shown_at;clicked")
    with pytest.raises(BadInputError, match=r"events\.log is neither CSV nor Parquet .* or say its delimiter"):
        read({"events.log": text})
    frame, _ = read({"events.log": text}, delimiter=";")
    assert frame["user_id"].to_list() == ["u1"]


def test_bands_of_whole_numbers(read: Read) -> None:
    rows = [
        f"u{n},7,2026-01-01 10:00:00,1,4,{price},paid" for n, price in enumerate(["9", "10", "10.0", "11", "30", ""])
    ]
    band = {"type": "string", "column": "price", "bands": [10, 11, 25]}
    frame, _ = read({"events.csv": csv(*rows)}, columns={"band": band})
    assert frame["band"].to_list() == ["under_10", "10", "10", "11_24", "25_plus", None]
    with pytest.raises(BadInputError, match=r"row 1: column 'price' is '9\.5', expected a whole number"):
        read({"events.csv": csv("u1,7,2026-01-01,1,4,9.5,paid")}, columns={"band": band})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"type": "int64", "bands": [1]}, "say type: string beside them"),
        ({"type": "string", "bands": [35, 25, 25]}, r"bands must ascend, each number once: \[25, 35\]"),
        ({"type": "string", "bands": []}, "at least 1"),
        ({"type": "string", "bands": [-1]}, "greater than or equal to 0"),
    ],
)
def test_bands_that_are_none_are_refused(column: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(BASE | {"columns": {"band": column}})


def test_a_word_may_mean_missing_in_one_column_alone(read: Read) -> None:
    rows = ("u1,7,2026-01-01 10:00:00,1,4,none,none", "u2,7,2026-01-01 11:00:00,1,4, 5 ,paid")
    frame, _ = read(
        {"events.csv": csv(*rows)},
        columns={"status": "string", "price": {"type": "float64", "null_values": ["none "]}},
    )
    assert frame.select("status", "price").rows() == [("none", None), ("paid", 5.0)]


def test_ids_are_numbered_by_their_table(read: Read) -> None:
    users = {"files": "users.csv", "key": "uid", "columns": {"city": "string"}}
    files = {
        "events.csv": csv("b,7,2026-01-01 10:00:00,1,1,1,x", "a,7,2026-01-01 11:00:00,0,1,1,x"),
        "users.csv": "uid,city\nz,Ulm\nb,Bonn\na,Köln\n",
    }
    numbered = {"column": "uid", "type": "int64", "numbered": True}
    frame, _ = read(files, user=numbered, users=users)
    assert frame.select("user_id", "city").rows() == [(2, "Bonn"), (3, "Köln")]
    with pytest.raises(BadInputError, match="row 1: column 'uid' is 'b', expected an id that has a row in the table"):
        read(files | {"users.csv": "uid,city\na,Köln\n"}, user=numbered, users=users)
    with pytest.raises(ValidationError, match="the ids in 'uid' are numbered by their table: name it in users"):
        read(files, user=numbered)
    with pytest.raises(ValidationError, match="say type: int64 beside numbered"):
        read(files, user={"column": "uid", "numbered": True}, users=users)
