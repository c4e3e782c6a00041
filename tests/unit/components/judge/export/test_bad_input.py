"""What does a served model answer to rows that are wrong? A defined answer, equal to that of the row it is read as."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.data.training_set import read_raw
from registry.serving.answers.answer import answer
from registry.serving.model.served_model import ServedModel
from tests.unit.components.judge.export.conftest import Exported
from tests.worlds import DTYPES

ARROW = {
    "int64": pa.int64(),
    "string": pa.string(),
    "float64": pa.float64(),
    "array<string>": pa.list_(pa.string()),
    "array<int64>": pa.list_(pa.int64()),
    "array<float32>": pa.list_(pa.float32()),
}
NOW = datetime(2024, 2, 1, 12, tzinfo=UTC)
HISTORY = ("recent_items", "recent_likes", "recent_times")


@pytest.fixture
def model(exported: Exported) -> ServedModel:
    return ServedModel.open(exported.directory, "cpu")


@pytest.fixture
def row(training_set_dir: Any) -> dict[str, Any]:
    """One row of the test split as plain values."""
    first: dict[str, Any] = read_raw(training_set_dir, "test").slice(0, 1).to_pylist()[0]
    return {name: first[name] for name in DTYPES}


def micros(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def answers(model: ServedModel, *rows: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return float64 ``[rows, tasks]``."""
    columns = {name: pa.array([r[name] for r in rows], ARROW[dtype]) for name, dtype in DTYPES.items()}
    columns["event_timestamp"] = pa.array([NOW] * len(rows), pa.timestamp("us", "UTC"))
    scores = answer(model, pa.table(columns))
    return np.stack(list(scores.tasks.values()), axis=1)


def same(model: ServedModel, *rows: dict[str, Any]) -> bool:
    """Return whether all rows get the answer of the first; every answer is a probability."""
    found = answers(model, *rows)
    assert ((found > 0) & (found < 1)).all()
    return bool(np.allclose(found, found[0], atol=1e-7))


def test_a_number_that_is_none_is_the_middle_of_training(model: ServedModel, row: dict[str, Any]) -> None:
    """Training missed none, so nothing was learned of a missing one."""
    field = next(field for field in model.encoder.fitted if field.name == "popularity")
    missing = [row | {"popularity": x} for x in (None, np.nan, np.inf, -np.inf)]
    middle = float(np.interp(0.0, field.scores, field.edges))
    assert same(model, *missing)
    known = [row | {"popularity": x} for x in (middle, field.mean)]
    assert np.allclose(answers(model, *known, *missing), answers(model, missing[0]), atol=0.02)
    assert not same(model, row | {"popularity": field.mean}, row | {"popularity": field.mean + 5})


def test_a_vector_with_no_number_in_a_place_has_zero_there(model: ServedModel, row: dict[str, Any]) -> None:
    assert same(model, *(row | {"taste": [1.0, x, 0.5]} for x in (0.0, np.nan, np.inf)))
    assert same(model, *(row | {"taste": x} for x in ([0.0, 0.0, 0.0], None)))
    assert not same(model, *(row | {"taste": [x, 0.0, 0.0]} for x in (0.0, 3.0)))


@pytest.mark.parametrize("name", ["user_id", "item_id"])
def test_an_id_beyond_the_table_is_an_unseen_one(name: str, model: ServedModel, row: dict[str, Any]) -> None:
    assert same(model, *(row | {name: x} for x in (10**12, -1, 2**62)))
    answers(model, row | {name: None})


def test_a_domain_that_training_never_saw_is_an_unseen_one(model: ServedModel, row: dict[str, Any]) -> None:
    assert same(model, *(row | {"age_band": x} for x in ("new", "newer", "")))


def test_an_empty_history_is_empty_however_it_is_written(model: ServedModel, row: dict[str, Any]) -> None:
    assert same(model, *(row | dict.fromkeys(HISTORY, x) for x in ([], None, [None])))
    assert same(model, *(row | {"genres": x} for x in ([], None, [None])))


def with_event(row: dict[str, Any], at: datetime) -> dict[str, Any]:
    return row | {"recent_items": [row["item_id"]], "recent_likes": [1], "recent_times": [micros(at)]}


def test_an_event_after_the_request_is_not_there(model: ServedModel, row: dict[str, Any]) -> None:
    """The control: the same event just before the request is."""
    nothing = row | {name: [] for name in HISTORY}
    tick = timedelta(microseconds=1)
    assert same(model, nothing, with_event(row, NOW + tick), with_event(row, NOW + timedelta(days=9)))
    assert not same(model, nothing, with_event(row, NOW - tick))
    later = {"recent_items": [3, 4], "recent_likes": [1, 0], "recent_times": [micros(NOW - tick), micros(NOW + tick)]}
    once = {"recent_items": [3], "recent_likes": [1], "recent_times": [micros(NOW - tick)]}
    assert same(model, row | once, row | later)


def test_rows_of_one_moment_and_in_any_order_are_scored_alike(model: ServedModel, row: dict[str, Any]) -> None:
    rows = [row | {"item_id": item} for item in range(1, 9)]
    np.testing.assert_allclose(answers(model, *rows[::-1])[::-1], answers(model, *rows), atol=1e-7)
