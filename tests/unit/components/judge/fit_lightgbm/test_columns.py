"""Do trees see the ranker's features, all of them, and nothing of test rows in how a value is coded?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.data.training_set import SPLITS, read_raw
from components.judge.fit_lightgbm import columns as module
from components.judge.fit_lightgbm.columns import Columns, columns_of
from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
DTYPES = {
    "city": "string", "price": "float64", "seen": "array<int64>", "times": "array<int64>", "vector": "array<float64>"
}  # fmt: skip
ENCODE = {
    "seen": FieldEncoding(kind="sequence", length=3),
    "times": FieldEncoding(kind="elapsed", length=3),
    "vector": FieldEncoding(kind="vector", length=2),
}


def micros(seconds: int) -> int:
    return int((NOON - timedelta(seconds=seconds)).timestamp() * 1e6)


def table(*rows: tuple[str | None, float | None, list[int], list[int], list[float]]) -> pa.Table:
    names = ("city", "price", "seen", "times", "vector")
    types = (pa.string(), pa.float64(), *([pa.list_(pa.int64())] * 2), pa.list_(pa.float64()))
    columns = {n: pa.array([row[at] for row in rows], types[at]) for at, n in enumerate(names)}
    return pa.table(columns | {"event_timestamp": pa.array([NOON] * len(rows), pa.timestamp("us", "UTC"))})


@pytest.fixture
def found() -> Columns:
    train = table(
        ("rome", 2.0, [7, 8], [micros(60), micros(90)], [0.5, -1.0]),
        ("rome", 3.0, [7], [micros(5)], [0.0, 1.0]),
        ("oslo", None, [], [], [1.0, 2.0]),
    )
    test = table(("oslo", 9.0, [8], [micros(1)], [3.0, 4.0]), ("bonn", 9.0, [7], [micros(1)], [0.0, 0.0]))
    test = pa.concat_tables([test, table(("bonn", None, [], [], [0.0, 0.0]))])
    return columns_of(Encoder.fit(train, DTYPES, ENCODE), {"train": train, "validation": train, "test": test})


def column(found: Columns, split: str, name: str) -> list[float]:
    values: list[float] = found.values[split][:, found.names.index(name)].tolist()
    return values


def test_every_feature_is_there_and_means_what_it_says(found: Columns) -> None:
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert found.names == ("city", "price", "seen_first", "seen_length", "times_first", "vector_0", "vector_1")
    assert [found.names[at] for at in found.categories] == ["city", "seen_first"]
    assert column(found, "train", "city") == [0.0, 0.0, 1.0], "the more frequent has the smaller code"
    assert column(found, "train", "price") == [2.0, 3.0, nan]
    assert column(found, "train", "seen_first") == [0.0, 0.0, nan]
    assert column(found, "train", "seen_length") == [2.0, 1.0, 0.0]
    assert column(found, "train", "times_first") == [60.0, 5.0, nan], "seconds since the newest event"
    assert column(found, "train", "vector_1") == [-1.0, 1.0, 2.0]


def test_codes_are_the_training_splits_though_test_counts_otherwise(found: Columns) -> None:
    """In test `bonn` is the most frequent city and `8` as frequent as `7`; neither moves a code."""
    nan = pytest.approx(float("nan"), nan_ok=True)
    assert column(found, "test", "city") == [1.0, nan, nan]
    assert column(found, "test", "seen_first") == [nan, 0.0, nan], "8 was never the newest one in training"


def test_a_value_among_many_is_told_by_its_frequency(monkeypatch: pytest.MonkeyPatch, training_set_dir: Path) -> None:
    encoder = read_encoder(training_set_dir)
    tables: dict[str, pa.Table] = {split: read_raw(training_set_dir, split) for split in SPLITS}
    monkeypatch.setattr(module, "FEW", 100)  # 200 users, 80 items
    found = columns_of(encoder, tables)
    users = np.asarray(tables["train"]["user_id"])
    wanted = np.array([(users == user).sum() for user in np.asarray(tables["test"]["user_id"])], dtype=float)
    seen = np.array(column(found, "test", "user_id"))
    assert np.array_equal(np.nan_to_num(seen), wanted)
    assert found.names.index("user_id") not in found.categories
    assert found.names.index("item_id") in found.categories


def test_order_of_rows_is_kept(training_set_dir: Path) -> None:
    encoder = read_encoder(training_set_dir)
    tables: dict[str, pa.Table] = {split: read_raw(training_set_dir, split) for split in SPLITS}
    found = columns_of(encoder, tables)
    for split in SPLITS:
        assert np.array_equal(column(found, split, "popularity"), np.asarray(tables[split]["popularity"]))


def test_the_newest_value_of_a_history_given_oldest_first_is_its_last() -> None:
    rows = table(
        ("rome", 1.0, [1, 7], [micros(90), micros(60)], [0.0, 0.0]),
        ("rome", 2.0, [2, 7], [micros(9), micros(5)], [0.0, 0.0]),
        ("oslo", 3.0, [7, 8], [micros(9), micros(5)], [0.0, 0.0]),
    )
    turned = {name: ENCODE[name].model_copy(update={"order": "oldest_first"}) for name in ("seen", "times")}
    encoder = Encoder.fit(rows, DTYPES, ENCODE | turned)
    told = columns_of(encoder, dict.fromkeys(("train", "validation", "test"), rows))
    assert column(told, "train", "seen_first") == [0.0, 0.0, 1.0], "two rows end with 7"
    assert column(told, "train", "times_first") == [60.0, 5.0, 5.0]
