"""Which wrong rows does training refuse, and does the encoder learn nothing from numbers that are none?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.data.training_set import EncodedSplit, read_encoded, read_schema, write_encoded
from components.platform.errors import BadInputError
from components.train.train_ranker.feed import open_split
from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder

Array = np.ndarray[Any, Any]


def altered(source: Path, folder: Path, features: dict[str, Array], labels: dict[str, Array]) -> Path:
    """Write the test split with some columns replaced."""
    schema = read_schema(source)
    rows = read_encoded(source, "test", schema)
    shutil.copy(source / "schema.json", folder / "schema.json")
    changed = EncodedSplit(rows.features | features, rows.labels | labels, rows.domain, rows.user)
    write_encoded(folder / "encoded" / "test.arrow", changed)
    return folder


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, np.nan])
def test_a_label_outside_zero_and_one_is_refused(value: float, training_set_dir: Path, tmp_path: Path) -> None:
    schema = read_schema(training_set_dir)
    love = read_encoded(training_set_dir, "test", schema).labels["love"].copy()
    love[[3, 5]] = value
    folder = altered(training_set_dir, tmp_path, {}, {"love": love})
    with pytest.raises(BadInputError, match="label 'love' of 2 rows of the test split is not 0 or 1: build"):
        open_split(folder, "test", schema)


@pytest.mark.parametrize(("name", "index"), [("item_id", 10**6), ("item_id", -1), ("recent_items", 10**6)])
def test_an_index_outside_its_table_is_refused(name: str, index: int, training_set_dir: Path, tmp_path: Path) -> None:
    schema = read_schema(training_set_dir)
    values = read_encoded(training_set_dir, "test", schema).padded()[name]
    values.reshape(-1)[4] = index
    folder = altered(training_set_dir, tmp_path, {name: values}, {})
    with pytest.raises(BadInputError, match=rf"field '{name}' of the test split holds index {index}, its table has"):
        open_split(folder, "test", schema)


@pytest.mark.parametrize("kind", ["normalise", "bin"])
def test_numbers_that_are_none_teach_the_encoder_nothing(kind: Any) -> None:
    clean = pa.table({"x": pa.array([1.0, 2.0, 3.0, 4.0])})
    dirty = pa.table({"x": pa.array([1.0, np.nan, 2.0, np.inf, 3.0, None, -np.inf, 4.0])})
    options = {"x": FieldEncoding(kind=kind, buckets=3)}
    assert Encoder.fit(dirty, {"x": "float64"}, options) == Encoder.fit(clean, {"x": "float64"}, options)
    encoded = Encoder.fit(dirty, {"x": "float64"}, options).encode(dirty)["x"]
    assert np.isfinite(encoded).all()
    assert (encoded[[1, 3, 5, 6]] == 0).all()
