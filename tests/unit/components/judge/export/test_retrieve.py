"""Do the vectors of a served model find the items that it would rank highest?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.ground.errors import BadInputError
from registry.serving.answer import answer
from registry.serving.retrieval import nearest_items
from registry.serving.served_model import ServedModel
from tests.unit.components.judge.export.conftest import Exported

ITEM_SIDE = ["genres", "item_id", "popularity"]


@pytest.fixture(scope="module")
def rows(training_set_dir: Path) -> pa.Table:
    return pq.read_table(training_set_dir / "raw" / "test.parquet").slice(0, 400)


def distinct(rows: pa.Table, key: str) -> pa.Table:
    first = np.unique(rows[key].to_numpy(), return_index=True)[1]
    return rows.take(pa.array(first))


def test_the_best_items_are_those_that_scoring_every_pair_finds(
    exporter: Callable[[str], Exported], rows: pa.Table
) -> None:
    model = ServedModel.open(exporter("gnolr").directory, "cpu")
    users = distinct(rows, "user_id").slice(0, 20).drop_columns(ITEM_SIDE)
    items = distinct(rows, "item_id").select(ITEM_SIDE)
    found = nearest_items(model, users, items, k=5)
    pairs = users.take(pa.array(np.repeat(np.arange(20), items.num_rows)))
    catalogue = items.take(pa.array(np.tile(np.arange(items.num_rows), 20)))
    for name in ITEM_SIDE:
        pairs = pairs.append_column(name, catalogue[name])
    scores = answer(model, pairs).tasks["love"].reshape(20, -1)
    best = np.sort(scores, axis=1)[:, ::-1][:, :5]
    columns = {item: i for i, item in enumerate(items["item_id"].to_pylist())}
    chosen = np.array([columns[item] for item in found["item_id"].to_pylist()]).reshape(20, 5)
    np.testing.assert_allclose(np.take_along_axis(scores, chosen, axis=1), best, rtol=1e-4)
    assert found["rank"].to_pylist()[:6] == [1, 2, 3, 4, 5, 1]
    assert found["user_id"].to_pylist()[::5] == users["user_id"].to_pylist()


def test_a_ranker_of_pairs_and_a_missing_column_are_one_sentence(
    exporter: Callable[[str], Exported], rows: pa.Table
) -> None:
    rows, items = distinct(rows, "user_id"), distinct(rows, "item_id").select(ITEM_SIDE)
    with pytest.raises(BadInputError, match=r"ranker 'esmm' scores pairs.*retrieve with a model of 'gnolr'"):
        nearest_items(ServedModel.open(exporter("esmm").directory, "cpu"), rows, items, k=1)
    model = ServedModel.open(exporter("gnolr").directory, "cpu")
    with pytest.raises(BadInputError, match="item rows have no column 'genres'"):
        nearest_items(model, rows, items.drop_columns(["genres"]), k=1)
    with pytest.raises(BadInputError, match="user rows have no column 'recent_items'"):
        nearest_items(model, rows.drop_columns(["recent_items"]), items, k=1)
    with pytest.raises(BadInputError, match="rows have no column 'user_id'"):
        nearest_items(model, rows.drop_columns(["user_id"]), items, k=1)
