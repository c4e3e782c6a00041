"""Do score, explain and retrieve look at the rows that they are given in the same way?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.data.training_set import read_raw
from features.ground.errors import BadInputError, MissingError
from pipelines.cli.row_files import check_out
from registry.serving.answers.answer import answer
from registry.serving.answers.reasons import effects_of, groups_of
from registry.serving.answers.retrieval import nearest_items
from registry.serving.incoming import describe_unknown
from registry.serving.model.served_model import ServedModel
from tests.unit.components.judge.export.conftest import Exported


@pytest.fixture
def model(exporter: Callable[[str], Exported]) -> ServedModel:
    return replace(ServedModel.open(exporter("gnolr").directory, "cpu"), label="model shop v3")


@pytest.fixture
def rows(training_set_dir: Path) -> pa.Table:
    return read_raw(training_set_dir, "test").slice(0, 20)


def one_each(rows: pa.Table, name: str) -> pa.Table:
    first = np.unique(rows[name].to_numpy(), return_index=True)[1]
    return rows.take(pa.array(first))


def ask(how: str, model: ServedModel, rows: pa.Table) -> None:
    if how == "score":
        answer(model, rows)
    elif how == "explain":
        effects_of(model, rows, "like", groups_of(model.contract.schema_))
    else:
        nearest_items(model, rows, rows, k=1)


@pytest.mark.parametrize("how", ["score", "explain", "retrieve"])
def test_a_column_twice_and_every_missing_column_are_one_sentence(how: str, model: ServedModel, rows: pa.Table) -> None:
    rows = one_each(one_each(rows, "user_id"), "item_id")
    with pytest.raises(BadInputError, match="more than one column 'genres'"):
        ask(how, model, rows.append_column("genres", rows["genres"]))
    absent = ["recent_items", "recent_likes"]
    with pytest.raises(BadInputError, match="no column 'recent_items', 'recent_likes', which model shop v3 needs"):
        ask(how, model, rows.drop_columns(absent))


@pytest.mark.parametrize("how", ["score", "explain"])
def test_a_number_is_no_time_and_a_time_of_any_kind_is(
    how: str, exporter: Callable[[str], Exported], rows: pa.Table
) -> None:
    model = ServedModel.open(exporter("esmm").directory, "cpu")
    place = rows.column_names.index("event_timestamp")
    times = rows["event_timestamp"]
    millis = pc.cast(times.cast(pa.timestamp("ms", "UTC"), safe=False), pa.int64())
    with pytest.raises(BadInputError, match="'event_timestamp' is int64, no time"):
        ask(how, model, rows.set_column(place, "event_timestamp", millis))
    wanted = answer(model, rows).tasks["like"]
    nanos = pc.add(times.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()), 999).cast(pa.timestamp("ns", "UTC"))
    for same in (nanos, times.cast(pa.timestamp("us")), times.cast(pa.string())):  # finer digits are cut
        found = answer(model, rows.set_column(place, "event_timestamp", same)).tasks["like"]
        np.testing.assert_array_equal(found, wanted)


def test_retrieval_wants_ids_that_tell_rows_apart(model: ServedModel, rows: pa.Table) -> None:
    users, items = one_each(rows, "user_id"), one_each(rows, "item_id")
    nearest_items(model, users, items, k=1)
    with pytest.raises(BadInputError, match=r"^user \d+ has several rows"):
        nearest_items(model, pa.concat_tables([users, users.slice(0, 1)]), items, k=1)
    gone = pa.array([None, *items["item_id"].to_pylist()[1:]], pa.int64())
    with pytest.raises(BadInputError, match="1 item rows have no 'item_id'"):
        nearest_items(model, users, items.set_column(items.column_names.index("item_id"), "item_id", gone), k=1)


def test_what_the_model_did_not_know_is_counted(model: ServedModel, rows: pa.Table) -> None:
    ids = pa.array([10**9, *rows["user_id"].to_pylist()[1:]], pa.int64())
    odd = rows.set_column(rows.column_names.index("user_id"), "user_id", ids)
    known, unknown = answer(model, rows).unknown, answer(model, odd).unknown
    assert unknown["user_id"] - known["user_id"] in (0, 1)
    all_new = rows.set_column(
        rows.column_names.index("user_id"), "user_id", pa.array(range(10**9, 10**9 + rows.num_rows), pa.int64())
    )
    assert answer(model, all_new).unknown["user_id"] == rows.num_rows
    assert describe_unknown({"user_id": 5, "item_id": 0}, 20) == "not known: user_id 25.0%"
    assert describe_unknown({"user_id": 0}, 20) == "every value known"


def test_a_place_that_cannot_be_written_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no folder"):
        check_out(tmp_path / "absent" / "out.parquet")
    with pytest.raises(BadInputError, match="is a folder"):
        check_out(tmp_path)
    check_out(tmp_path / "out.parquet")
