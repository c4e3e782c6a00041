"""Is the stage cached as long as its files are the same, and only then; does it publish what it says?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.platform.errors import BadInputError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from tests.unit.components.ingest.table.conftest import ROWS, WINDOW, csv

Run = Callable[[], StageResult]
CONFIG = {"user": "uid", "item": "article", "timestamp": "shown_at", "feedback": {"click": "clicked"}}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    config = CONFIG | {"files": str(tmp_path / "*.csv")}
    return lambda: execute(
        StageRequest(component="ingest_table", config=config, window=WINDOW), Settings.at(tmp_path / "home")
    )


def table(result: StageResult) -> pa.Table:
    return pq.read_table(Path(result.outputs["events"].uri.removeprefix("file://")) / "events.parquet")


def test_it_publishes_a_table_of_the_promised_types(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    found = table(run())
    time = pa.timestamp("us", "UTC")
    assert found.schema.types == [pa.string(), pa.string(), time, time, pa.int8()]
    assert found.num_rows == 3


def change(path: Path) -> None:
    path.write_text(csv(*ROWS).replace("u1", "u3"))


def more(path: Path) -> None:
    (path.parent / "b.csv").write_text(csv("u5,1,2026-01-01,1,1,1,x"))


def touch(path: Path) -> None:
    path.write_text(csv(*ROWS))


@pytest.mark.parametrize(("event", "again"), [(change, True), (more, True), (touch, False)])
def test_changed_and_new_files_are_read_again(
    run: Run, tmp_path: Path, event: Callable[[Path], None], again: bool
) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    first = run()
    assert not first.cached and run().cached
    event(tmp_path / "a.csv")
    second = run()
    assert second.cached is not again
    assert (second.outputs["events"].digest != first.outputs["events"].digest) is again


def test_a_file_that_is_gone_is_noticed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    more(tmp_path / "a.csv")
    assert table(run()).num_rows == 4
    (tmp_path / "b.csv").unlink()
    again = run()
    assert (table(again).num_rows, again.cached) == (3, False)


def test_bad_input_publishes_nothing_and_loses_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    good = run()
    other: dict[str, Any] = CONFIG | {"files": str(tmp_path / "*.csv"), "columns": {"status": "int64"}}
    with pytest.raises(BadInputError, match="column 'status' is 'paid'"):
        execute(StageRequest(component="ingest_table", config=other, window=WINDOW), Settings.at(tmp_path / "home"))
    assert table(good).num_rows == 3 and run().cached
    assert len(list((tmp_path / "home" / "artifacts" / "ingest_table").glob("*/stage.json"))) == 1


def test_the_files_are_noted_by_what_the_pattern_leaves_open(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(csv(*ROWS))
    uri = run().outputs["events"].uri.removeprefix("file://")
    annotations = json.loads((Path(uri) / "manifest.json").read_text())["annotations"]
    assert list(annotations) == ["raw.events/a.csv"] and len(annotations["raw.events/a.csv"]) == 64
