"""Does a model answer raw rows as its encoder and graph say, and refuse what it cannot answer?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from components.data.training_set import read_raw
from features.encoding.files import FILES, read_encoder, write_encoder
from features.encoding.vocabularies import Vocabulary
from features.ground.errors import BadInputError, MissingError
from features.joins.histories import view
from registry.serving.answers.answer import answer
from registry.serving.model.request_graph import RequestGraph
from registry.serving.model.served_model import ServedModel
from tests.unit.components.judge.export.conftest import Exported


@pytest.fixture(scope="module")
def model(esmm: Exported) -> ServedModel:
    return ServedModel.open(esmm.directory, "cpu")


@pytest.fixture(scope="module")
def rows(training_set_dir: Path) -> pa.Table:
    return read_raw(training_set_dir, "test")


def test_raw_rows_get_torchs_answers(exported: Exported, rows: pa.Table) -> None:
    scores = answer(ServedModel.open(exported.directory), rows)
    with torch.inference_mode():
        expected = exported.ranker({n: torch.from_numpy(v) for n, v in exported.test.padded().items()})
    assert tuple(scores.tasks) == exported.tasks
    for name, values in scores.tasks.items():
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, expected[name].numpy(), atol=1e-6)
    assert scores.hidden.dtype == np.float32
    np.testing.assert_allclose(scores.hidden, expected["hidden"].numpy(), atol=1e-5)


def test_the_funnel_holds_in_every_answer(model: ServedModel, rows: pa.Table) -> None:
    tasks = answer(model, rows).tasks
    assert (tasks["love"] <= tasks["like"]).all()
    np.testing.assert_allclose(tasks["like"] * tasks["love_given_like"], tasks["love"], rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 400])
def test_chunks_change_nothing(model: ServedModel, rows: pa.Table, chunk: int) -> None:
    """Chunks cut histories to their own longest row; the answer must not notice."""
    some = rows.slice(0, 120)
    whole, parts = answer(model, some), answer(model, some, chunk=chunk)
    for name in whole.tasks:
        np.testing.assert_allclose(parts.tasks[name], whole.tasks[name], atol=1e-6)
    np.testing.assert_allclose(parts.hidden, whole.hidden, atol=1e-5)


def test_rows_that_share_the_events_of_their_histories_get_the_same_answers(model: ServedModel, rows: pa.Table) -> None:
    shared = rows
    for name in ("recent_items", "recent_likes", "recent_times"):
        lists = rows[name].combine_chunks()
        starts, counts = pa.array(lists.offsets[:-1]), pc.list_value_length(lists)
        shared = shared.set_column(rows.column_names.index(name), name, view(starts, counts, lists.values))
    expected, found = answer(model, rows, chunk=50), answer(model, shared, chunk=50)
    assert all((found.tasks[name] == expected.tasks[name]).all() for name in expected.tasks)


def test_the_same_rows_get_the_same_bits(model: ServedModel, rows: pa.Table) -> None:
    first, second = answer(model, rows), answer(model, rows)
    assert all((first.tasks[name] == second.tasks[name]).all() for name in first.tasks)
    assert (first.hidden == second.hidden).all()


def test_other_columns_and_their_order_are_ignored(model: ServedModel, rows: pa.Table) -> None:
    plain = answer(model, rows)
    shuffled = rows.select(rows.column_names[::-1]).append_column("extra", pa.nulls(rows.num_rows))
    features = rows.select(model.encoder.columns)
    for table in (shuffled, features):
        assert (answer(model, table).tasks["love"] == plain.tasks["love"]).all()


def test_a_missing_column_is_named(model: ServedModel, rows: pa.Table) -> None:
    with pytest.raises(BadInputError, match="no column 'recent_items'"):
        answer(model, rows.drop_columns(["recent_items"]))


def test_a_column_of_the_wrong_type_is_named(model: ServedModel, rows: pa.Table) -> None:
    index = rows.column_names.index("user_id")
    wrong = rows.set_column(index, "user_id", pa.array(["who?"] * rows.num_rows))
    with pytest.raises(BadInputError, match="'user_id'"):
        answer(model, wrong)


def test_strange_values_still_get_a_probability(model: ServedModel, rows: pa.Table) -> None:
    some = rows.slice(0, 4)
    strange = {
        "popularity": pa.array([np.nan, np.inf, -np.inf, 1e300]),
        "user_id": pa.array([None, 10**12, -1, 0], pa.int64()),
        "age_band": pa.array([None, "", "new", "25_34"]),
        "genres": pa.array([None, [], ["new"], [None]], pa.list_(pa.string())),
        "recent_items": pa.array([None, [], list(range(1000)), [None, 1]], pa.list_(pa.int64())),
    }
    for name, values in strange.items():
        some = some.set_column(some.column_names.index(name), name, values)
    for values in answer(model, some).tasks.values():
        assert ((values > 0) & (values < 1)).all()


def test_no_rows_get_no_answers(model: ServedModel, rows: pa.Table) -> None:
    nothing = answer(model, rows.slice(0, 0))
    assert {len(values) for values in nothing.tasks.values()} == {0}
    assert nothing.hidden.shape == (0, model.contract.hidden)


def test_a_graph_that_breaks_its_contract_is_refused(copy: Path) -> None:
    contract = json.loads((copy / "contract.json").read_text())
    for change, says in (
        ({"tasks": ["like", "love"]}, "output love_given_like is .* promised absent"),
        ({"hidden": 99}, r"output hidden is .*32.* promised .*99"),
    ):
        (copy / "contract.json").write_text(json.dumps(contract | change))
        with pytest.raises(BadInputError, match=says):
            ServedModel.open(copy, "cpu")
    schema = contract["schema"]
    fields = [field for field in schema["fields"] if field["name"] != "popularity"]
    (copy / "contract.json").write_text(json.dumps(contract | {"schema": schema | {"fields": fields}}))
    with pytest.raises(BadInputError, match=r"input popularity is .* promised absent"):
        ServedModel.open(copy, "cpu")


def test_an_encoder_of_another_model_is_refused(copy: Path) -> None:
    encoder = read_encoder(copy)
    grown = Vocabulary.sorted([*encoder.vocabularies["user_id"], 10**9])
    write_encoder(replace(encoder, vocabularies={**encoder.vocabularies, "user_id": grown}), copy)
    with pytest.raises(BadInputError, match="makes other inputs"):
        ServedModel.open(copy, "cpu")


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", *FILES, "calibration.json"])
def test_a_broken_file_of_a_version_is_told_by_name_and_version(copy: Path, name: str) -> None:
    """The folder is a temporary one that is gone when the sentence is read."""
    path = copy / name
    path.write_bytes(path.read_bytes()[:40] if path.exists() else b"{")
    with pytest.raises(BadInputError, match=rf"{name} of model shop v3 (cannot be read|is not a readable)") as error:
        ServedModel.open(copy, "cpu", label="model shop v3")
    assert str(copy) not in str(error.value) and "\n" not in str(error.value)
    if name != "calibration.json":
        path.unlink()
        with pytest.raises(MissingError, match=f"^model shop v3 has no {name}: "):
            ServedModel.open(copy, "cpu", label="model shop v3")


def test_a_version_that_disagrees_with_itself_or_with_rows_is_told_by_name(copy: Path, rows: pa.Table) -> None:
    model = ServedModel.open(copy, "cpu", label="model shop v3")
    with pytest.raises(BadInputError, match="which model shop v3 needs"):
        answer(model, rows.drop_columns(["recent_items"]))
    with pytest.raises(MissingError, match=r"^model shop v3 has no request\.onnx"):
        RequestGraph.open(model)
    (copy / "contract.json").write_text(json.dumps(json.loads((copy / "contract.json").read_text()) | {"hidden": 99}))
    with pytest.raises(BadInputError, match=r"^model\.onnx of model shop v3 does not keep its contract: output hidden"):
        ServedModel.open(copy, "cpu", label="model shop v3")


@pytest.mark.parametrize("name", ["model.onnx", "contract.json", *FILES])
def test_a_missing_or_damaged_file_is_one_sentence(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError) as error:
        ServedModel.open(copy, "cpu")
    assert str(copy) in str(error.value)
    assert "\n" not in str(error.value)
    (copy / name).unlink()
    with pytest.raises(MissingError, match=f"has no {name}"):
        ServedModel.open(copy, "cpu")


def test_answers_that_are_no_numbers_are_refused(copy: Path, rows: pa.Table) -> None:
    graph = onnx.load(str(copy / "model.onnx"))
    table = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    table.raw_data = np.full(tuple(table.dims), np.nan, np.float32).tobytes()
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(BadInputError, match="with no number"):
        answer(ServedModel.open(copy, "cpu"), rows)
