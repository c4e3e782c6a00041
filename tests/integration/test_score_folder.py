"""Does `rankmill score` answer a folder file by file as one file, here and at an address, whole or not at all?"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.training_set import read_raw
from features.ground.errors import BadInputError, MissingError, RetryableError
from pipelines.cli.row_files import replacing
from pipelines.cli.row_places import DONE, destination, sources
from pipelines.cli.score import score_files, write_scores
from registry.serving.model.served_model import ServedModel
from registry.serving.scores.value import ValueTable
from tests.unit.registry.tiny_models import write_model

NOTHING = ValueTable()


@pytest.fixture(scope="module")
def model(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return ServedModel.open(write_model(tmp_path_factory.mktemp("tiny") / "model", training_set_dir), "cpu")


@pytest.fixture
def folder(training_set_dir: Path, tmp_path: Path) -> Path:
    """Two days of rows, one of them without any, and what is no file of rows."""
    rows = read_raw(training_set_dir, "test")
    for name, part in {"day=1/a": rows.slice(0, 150), "day=2/a": rows.slice(150), "empty": rows.slice(0, 0)}.items():
        path = tmp_path / "rows" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, path)
    for name in (".hidden.parquet", "_SUCCESS", "notes.txt", "_tmp/half.parquet"):
        path = tmp_path / "rows" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no rows")
    return tmp_path / "rows"


@pytest.fixture
def store() -> Iterator[str]:
    """An address of another store, empty before and after."""
    yield "memory://score"
    fsspec.filesystem("memory").rm("/score", recursive=True)


def test_a_folder_is_answered_as_one_file_is(
    model: ServedModel, folder: Path, training_set_dir: Path, tmp_path: Path
) -> None:
    read = sources(str(folder))
    assert [file.name for file in read.files] == ["day=1/a.parquet", "day=2/a.parquet", "empty.parquet"]
    assert read.rows == read_raw(training_set_dir, "test").num_rows
    with destination(str(tmp_path / "out"), folder=True) as to:
        unknown = score_files(model, None, NOTHING, read, to)
        assert not (tmp_path / "out").exists(), "it appears when it is whole"
    found = [pq.read_table(tmp_path / "out" / file.name, partitioning=None) for file in read.files]
    assert found[-1].num_rows == 0
    pq.write_table(read_raw(training_set_dir, "test"), tmp_path / "one.parquet")
    whole = write_scores(model, None, NOTHING, tmp_path / "one.parquet", tmp_path / "one")
    assert pa.concat_tables(found).combine_chunks().equals(pq.read_table(tmp_path / "one").combine_chunks())
    assert whole.unknown == unknown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "one.parquet", "out", "rows"]


def test_blocks_are_answered_as_the_whole_is(model: ServedModel, training_set_dir: Path, tmp_path: Path) -> None:
    """A split of a training set, whose rows lie in several parts."""
    path, told = training_set_dir / "raw" / "train.parquet", list[int]()
    write_scores(model, None, NOTHING, path, tmp_path / "whole")
    write_scores(model, None, NOTHING, path, tmp_path / "parts", told.append, block=1000)
    assert told == [1000, 1000, 1000, 200]
    whole, parts = (pq.read_table(tmp_path / name) for name in ("whole", "parts"))
    assert parts["row_id"].equals(whole["row_id"])
    np.testing.assert_allclose(parts["love"], whole["love"], rtol=1e-6)


def test_what_fails_leaves_nothing(model: ServedModel, folder: Path, tmp_path: Path) -> None:
    broken = pq.read_table(folder / "day=2" / "a.parquet", partitioning=None).drop_columns(["item_id"])
    pq.write_table(broken, folder / "day=2" / "a.parquet")
    left = tmp_path / ".out.partial" / "day=1"
    left.mkdir(parents=True)  # of a run that was killed
    (left / "old.parquet").write_text("half")
    with (
        pytest.raises(BadInputError, match=r"^day=2/a.parquet: rows have no column 'item_id'"),
        destination(str(tmp_path / "out"), folder=True) as to,
    ):
        score_files(model, None, NOTHING, sources(str(folder)), to)
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    with pytest.raises(KeyboardInterrupt), destination(str(tmp_path / "out"), folder=True) as to:
        (to.made / "a.parquet").write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(RetryableError, match=r"the disk of .*out is full: make room"), replacing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(BadInputError, match="is there already"), destination(str(tmp_path / "out"), folder=True):
        pass


def test_an_address_is_read_and_written(model: ServedModel, folder: Path, tmp_path: Path, store: str) -> None:
    fsspec.filesystem("memory").put(str(folder), "/score/rows", recursive=True)
    read = sources(f"{store}/rows")
    assert [file.name for file in read.files] == ["day=1/a.parquet", "day=2/a.parquet", "empty.parquet"]
    there = fsspec.filesystem("memory")
    with destination(f"{store}/out", folder=True) as to:
        score_files(model, None, NOTHING, read, to)
        assert there.exists("/score/out/empty.parquet") and not there.exists(f"/score/out/{DONE}"), "not whole yet"
    assert there.exists(f"/score/out/{DONE}")
    with destination(str(tmp_path / "out"), folder=True) as to:
        score_files(model, None, NOTHING, sources(str(folder)), to)
    for file in read.files:
        assert there.cat(f"/score/out/{file.name}") == (tmp_path / "out" / file.name).read_bytes()
    with pytest.raises(BadInputError, match="is there already"), destination(f"{store}/out", folder=True):
        pass
    one = sources(f"{store}/rows/day=1/a.parquet")
    assert not one.folder
    with destination(f"{store}/one.parquet", folder=False) as to:
        score_files(model, None, NOTHING, one, to)
    assert there.cat("/score/one.parquet") == (tmp_path / "out" / "day=1" / "a.parquet").read_bytes()
    with pytest.raises(MissingError, match="no file memory://score/nowhere"):
        sources(f"{store}/nowhere")


def test_histories_beside_a_file_come_along(model: ServedModel, tmp_path: Path, store: str) -> None:
    events = pa.table({"seen": ["a", "b", "c"]})
    rows = pa.table({"row_id": [1, 2], "events/0.parquet#start": [0, 1], "events/0.parquet#count": [1, 2]})
    (tmp_path / "rows" / "events").mkdir(parents=True)
    pq.write_table(events, tmp_path / "rows" / "events" / "0.parquet")
    pq.write_table(rows, tmp_path / "rows" / "test.parquet")
    fsspec.filesystem("memory").put(str(tmp_path / "rows"), "/score/rows", recursive=True)
    [file] = sources(f"{store}/rows").files
    assert file.name == "test.parquet" and file.rows == 2, "events are no rows"
    with file.local() as path:
        assert (path.parent / "events" / "0.parquet").is_file()
    assert not path.exists()


def test_a_request_in_two_files_is_one_sentence(model: ServedModel, folder: Path, tmp_path: Path) -> None:
    schema = model.contract.schema_
    declaration = schema.declaration.model_copy(update={"request": "session"})
    contract = model.contract.model_copy(update={"schema_": schema.model_copy(update={"declaration": declaration})})
    asked = replace(model, contract=contract)
    for day, first in ((1, 0), (2, 5)):
        path = folder / f"day={day}" / "a.parquet"
        rows = pq.read_table(path, partitioning=None)
        sessions = pa.array([None if at == 7 else f"s{first + at // 20}" for at in range(rows.num_rows)])
        pq.write_table(rows.append_column("session", sessions), path)
    (folder / "empty.parquet").unlink()
    with (
        pytest.raises(BadInputError, match=r"^day=2/a.parquet: 3 requests have rows in files before this one too"),
        destination(str(tmp_path / "out"), folder=True) as to,
    ):
        score_files(asked, None, NOTHING, sources(str(folder)), to)


def test_it_says_how_far_it_is(
    model: ServedModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.ground.pace.EVERY", 0.0)
    lines: list[str] = []
    with destination(str(tmp_path / "out"), folder=True) as to:
        score_files(model, None, NOTHING, sources(str(folder)), to, lines.append)
    assert lines[0].startswith("scoring: 150 of 400 rows, ") and lines[0].endswith(" left")
