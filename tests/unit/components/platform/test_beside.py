"""Are relative paths of a `with:` block found beside the pipeline, and nothing else touched?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from components.data.materialize_features.config import Config as Features
from components.ingest.ingest_table.config import Config as Table
from components.platform.contract import ComponentConfig
from components.platform.paths import Beside, DataFiles, DefinitionsFile, content_name, marked, rooted


class Inner(ComponentConfig):
    """A block."""

    files: DataFiles
    name: str = ""


class Outer(ComponentConfig):
    """Every place where a path may stand."""

    file: Annotated[str, Beside(strict=True)] | None = None
    one: Inner | None = None
    either: str | Inner = ""
    several: tuple[DataFiles, ...] = ()
    blocks: dict[str, Inner] = Field(default_factory=dict)
    text: str = ""


BLOCK = {
    "file": "a.py",
    "one": {"files": "b/*.csv", "name": "b"},
    "either": {"files": "c.csv"},
    "several": ["d.csv", "/abs/e.csv"],
    "blocks": {"x": {"files": "s3://bucket/f.csv"}, "y": {"files": "../g.csv"}},
    "text": "h.csv",
}


def test_marked_paths_and_only_they_start_at_the_folder(tmp_path: Path) -> None:
    assert rooted(Outer, BLOCK, tmp_path) == {
        "file": f"{tmp_path}/a.py",
        "one": {"files": f"{tmp_path}/b/*.csv", "name": "b"},
        "either": {"files": f"{tmp_path}/c.csv"},
        "several": [f"{tmp_path}/d.csv", "/abs/e.csv"],
        "blocks": {"x": {"files": "s3://bucket/f.csv"}, "y": {"files": f"{tmp_path}/../g.csv"}},
        "text": "h.csv",
    }
    assert BLOCK["one"] == {"files": "b/*.csv", "name": "b"}, "what was written stays"


def test_what_does_not_fit_the_model_is_left_alone(tmp_path: Path) -> None:
    wrong = {"file": 3, "one": "text", "several": "d.csv", "blocks": [1], "unknown": "x", "either": None}
    assert rooted(Outer, wrong, tmp_path) == wrong


def test_a_param_is_not_a_path(tmp_path: Path) -> None:
    assert rooted(Outer, {"file": "${params.x}"}, tmp_path) == {"file": "${params.x}"}


def test_places_are_told_with_their_mark() -> None:
    found = {place.where: place.mark.strict for place in marked(Outer, BLOCK)}
    assert found[("file",)] is True and found[("blocks", "y", "files")] is False and len(found) == 7


def test_ingest_table_marks_its_three_tables() -> None:
    columns = {"columns": {"age": "int64"}, "key": "u"}
    block = {"files": "a", "users": {"files": "b", **columns}, "items": {"files": "c", **columns}}
    assert {place.where for place in marked(Table, block)} == {("files",), ("users", "files"), ("items", "files")}


def test_a_key_holds_the_content_of_definitions_wherever_they_lie(tmp_path: Path) -> None:
    keys = []
    for folder, text in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        path = tmp_path / folder / "shop.py"
        path.parent.mkdir()
        path.write_text(text)
        config = Features(feature_service="shop", definitions=str(path))
        keys.append(config.model_dump(mode="json")["definitions"])
        assert config.definitions == str(path)
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].startswith("shop.py@") and str(tmp_path) not in keys[0]
    assert content_name(str(tmp_path / "gone.py")) == "gone.py@absent"


def test_definitions_are_python() -> None:
    class One(ComponentConfig):
        """One."""

        file: DefinitionsFile

    with pytest.raises(ValidationError, match="must be a Python file beside the pipeline"):
        One(file="shop.pickle")
