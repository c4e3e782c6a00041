"""Do the rows that travel with a model tell a machine that answers otherwise?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.training_set import read_raw
from features.ground.errors import BadInputError
from features.joins.row_file import RowFile
from registry.serving.evidence.golden import ANSWER, GOLDEN, ROWS, check_golden, golden_rows, write_golden
from registry.serving.model.served_model import ServedModel


@pytest.fixture
def model(model_of: Callable[[str], Path], tmp_path: Path) -> ServedModel:
    shutil.copytree(model_of("esmm"), tmp_path / "model")
    return ServedModel.open(tmp_path / "model", "cpu")


def filed(rows: pa.Table, folder: Path) -> RowFile:
    pq.write_table(rows, folder / "rows.parquet")
    return RowFile(folder / "rows.parquet")


@pytest.fixture
def rows(training_set_dir: Path) -> pa.Table:
    return read_raw(training_set_dir, "test")


def test_the_rows_that_ask_the_most_are_among_them(model: ServedModel, rows: pa.Table, tmp_path: Path) -> None:
    strange = rows["item_id"].to_pylist()
    strange[100] = 12345
    gap = rows["popularity"].to_pylist()
    gap[200] = None
    place = rows.column_names.index
    rows = rows.set_column(place("item_id"), "item_id", pa.array(strange, pa.int64()))
    rows = rows.set_column(place("popularity"), "popularity", pa.array(gap, pa.float64()))
    chosen = golden_rows(model, filed(rows, tmp_path))
    assert chosen.num_rows == ROWS
    assert 12345 in chosen["item_id"].to_pylist() and None in chosen["popularity"].to_pylist()
    longest = max(len(events) for events in rows["recent_items"].to_pylist())
    assert longest in {len(events) for events in chosen["recent_items"].to_pylist()}
    assert "like" not in chosen.column_names


def test_they_are_answered_alike_and_written_alike(model: ServedModel, rows: pa.Table, tmp_path: Path) -> None:
    write_golden(model, golden_rows(model, filed(rows, tmp_path)), model.directory)
    first = (model.directory / GOLDEN).read_bytes()
    assert check_golden(model) == 0
    write_golden(model, pq.read_table(model.directory / GOLDEN), model.directory)
    assert (model.directory / GOLDEN).read_bytes() == first


def test_another_answer_is_a_sentence(model: ServedModel, rows: pa.Table, tmp_path: Path) -> None:
    write_golden(model, golden_rows(model, filed(rows, tmp_path)), model.directory)
    table = pq.read_table(model.directory / GOLDEN)
    place = table.column_names.index(f"{ANSWER}love")
    moved = table[f"{ANSWER}love"].to_numpy() + 2e-5
    pq.write_table(table.set_column(place, f"{ANSWER}love", pa.array(moved)), model.directory / GOLDEN)
    with pytest.raises(BadInputError, match="answers its golden rows with other numbers"):
        check_golden(model)


def test_a_few_rows_are_enough_and_none_ask_nothing(model: ServedModel, rows: pa.Table, tmp_path: Path) -> None:
    assert golden_rows(model, filed(rows.slice(0, 3), tmp_path)).num_rows == 3
    assert check_golden(model) == 0, "a model made before has none"
