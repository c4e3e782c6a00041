"""Are the whole pipelines that the documentation shows right, for the editor's schema and for `validate`?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pipelines.language.check import load_plan
from pipelines.show.reference.schema import pipeline_schema

ROOT = Path(__file__).resolve().parents[3]
BLOCK = re.compile(r"^```(yaml|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# ([\w./]+)\n")
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if re.search(r"^stages:", path.read_text("utf-8"), re.M)]


def pipelines_of(path: Path) -> list[dict[str, Any]]:
    found = [yaml.safe_load(body) for kind, body in BLOCK.findall(path.read_text("utf-8")) if kind == "yaml"]
    return [value for value in found if isinstance(value, dict) and {"name", "stages"} <= {*value}]


def test_there_are_pipelines_in_the_docs() -> None:
    assert {"tutorial.md", "write-a-pipeline.md"} <= {path.name for path in PAGES}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_editor_finds_nothing_wrong_with_a_pipeline_of_a_page(path: Path) -> None:
    schema = pipeline_schema()
    for value in pipelines_of(path):
        jsonschema.validate(json.loads(json.dumps(value, default=str)), schema)


def test_the_pipeline_of_the_tutorial_is_right(tmp_path: Path) -> None:
    for _, body in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text("utf-8")):
        title = FILE.match(body)
        assert title is not None
        path = tmp_path / title[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(body, encoding="utf-8")
    assert len(load_plan(tmp_path / "hotel_search.yaml").stages) == 9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timestamp: searched_at", "timestamp: {column: searched_at, unit: hours}"),
        ("uses: ingest_table", "uses: ingest_tabel"),
    ],
)
def test_the_schema_notices_a_wrong_table(old: str, new: str) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    (body,) = [body for kind, body in BLOCK.findall(text) if kind == "yaml" and "stages:" in body]
    assert old in body
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(body.replace(old, new)), pipeline_schema())
