"""Does the graph of a request answer as the ranker does on rows, and compute once what candidates share?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from components.data.training_set import read_schema
from components.judge.export_onnx.config import Config
from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.parity import compare, require
from components.judge.export_onnx.request import SplitLinear, request_fields, request_ranker
from components.platform.errors import BadInputError, MissingError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding.content import ContentVectors
from components.rankers.parts import RoutedTower
from components.rankers.tasks import tasks_of
from components.rankers.tower import Tower
from components.testing.ranker import example_batch, example_schema
from features.declaration import RankerSchema
from registry.serving.answers.answer import answer
from registry.serving.model.request_graph import REQUEST, REQUEST_CONTRACT, RequestContract, RequestGraph
from registry.serving.model.served_model import ServedModel
from registry.serving.model.session import open_session
from tests.registered import RANKERS
from tests.unit.components.judge.export.conftest import Exported

BLOCKS: list[dict[str, Any]] = [{"name": name} for name in sorted(RANKERS)] + [
    {"name": "esmm", "sequence": "tin", "newest": 4},
    {"name": "mmoe", "sequence": "transformer", "interaction": "mlp", "layers": 1},
    {"name": "ple", "sequence": "din", "embedding": "hashed", "buckets": 50},
    {"name": "adaptdhm", "sequence": "din"},
    {"name": "dnn", "sequence": "sdim", "attributes": "joined", "interaction": "mlcc"},
    {"name": "dnn", "interaction": "optinter", "memorise": [["user_id", "item_id"]], "cross_rows": 1000},
    {"name": "dnn", "sequence": "muse"},
    {
        "name": "mmoe",
        "sequence": {
            "recent_times": {"name": "searched", "keep": 3},
            "recent_likes": {"name": "tin", "positions": "both"},
        },
    },
]
"""Every ranker, and between them every part that can be divided: exports take seconds, so not every pair."""
TASKS = ("like", "love", "love_given_like")


def _ranker(block: dict[str, Any], schema: RankerSchema) -> RankerModule:
    """Return a ranker whose every weight is in its answers."""
    torch.manual_seed(0)
    small = {} if block["name"] == "lr" else {"hidden": (8, 4, 4) if block["name"] == "gnolr" else (8, 4)}
    ranker = build_ranker(RankerConfig.model_validate(small | block), schema).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    for held in (module for module in ranker.modules() if isinstance(module, ContentVectors)):
        held.take(torch.randn(held.size, held.wide), torch.ones(held.size))
    return ranker


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[RankerModule, Path]]:
    """Give a ranker, by its block as JSON, and the graph of its request."""

    def made(block: str) -> tuple[RankerModule, Path]:
        schema, path = example_schema("like", "love"), tmp_path_factory.mktemp("graph") / REQUEST
        ranker, once = _ranker(json.loads(block), schema), request_fields(schema, ())
        export_graph(request_ranker(ranker, schema, once), schema, TASKS, path, once)
        return ranker, path

    return cache(made)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "-".join(str(v) for v in block.values()))
def test_it_answers_as_rows_do(block: dict[str, Any], graph_of: Callable[[str], tuple[RankerModule, Path]]) -> None:
    schema = example_schema("like", "love")
    once = request_fields(schema, ())
    assert once == ("recent_items", "recent_likes", "recent_times", "taste", "user_id")
    ranker, path = graph_of(json.dumps(block))
    session = open_session(path, "cpu")
    shapes = {x.name: x.shape for x in session.get_inputs()}
    assert (shapes["user_id"], shapes["taste"], shapes["item_id"]) == ([1], [1, 3], ["batch"])
    rows = {name: values.numpy() for name, values in example_batch(300).items()}
    require(compare(ranker, session, schema.fields, TASKS, rows, 1e-5, once), "the differences")
    # Candidates differ in what they are told of the item, and requests in what they are told of the user.
    feed = {name: values[:1] if name in once else values for name, values in rows.items()}
    like = session.run(["like"], feed)[0]
    assert like.shape == (300,) and np.std(like) > 1e-3
    other = session.run(["like"], feed | {name: rows[name][7:8] for name in once})[0]
    assert np.abs(other - like).max() > 1e-3


def test_columns_of_the_wrong_side_would_be_found() -> None:
    """Negative control of the comparison: a weight of the request's share that is moved changes answers."""
    schema = example_schema("like", "love")
    ranker, once = _ranker({"name": "esmm"}, schema), request_fields(schema, ())
    divided = request_ranker(ranker, schema, once)
    batch = example_batch(20)
    feed = {name: values[:1] if name in once else values for name, values in batch.items()}
    repeated = {name: values[:1].expand_as(values) if name in once else values for name, values in batch.items()}
    with torch.inference_mode():
        torch.testing.assert_close(divided(feed)["love"], ranker(repeated)["love"], atol=1e-6, rtol=1e-5)
        for layer in (module for module in divided.modules() if isinstance(module, SplitLinear)):
            layer.shared.copy_(layer.shared.roll(1, dims=1))
        assert (divided(feed)["love"] - ranker(repeated)["love"]).abs().max() > 1e-3


def test_a_pair_of_the_request_and_a_candidate_is_multiplied_for_each() -> None:
    schema = example_schema("like", "love")
    once = request_fields(schema, ())
    block = {"name": "dnn", "interaction": "optinter", "factorise": [["user_id", "item_id"]]}
    ranker, batch = _ranker(block, schema), example_batch(20)
    feed = {name: values[:1] if name in once else values for name, values in batch.items()}
    repeated = {name: values[:1].expand_as(values) if name in once else values for name, values in batch.items()}
    with torch.inference_mode():
        found, expected = request_ranker(ranker, schema, once)(feed)["love"], ranker(repeated)["love"]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_the_share_of_a_request_is_computed_for_one_row() -> None:
    """Rows that reach each linear layer and the history's encoder."""
    schema = example_schema("like", "love")
    once = request_fields(schema, ())
    divided: Any = request_ranker(_ranker({"name": "esmm", "sequence": "mean"}, schema), schema, once)
    seen: dict[str, tuple[int, int]] = {}

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if isinstance(module, SplitLinear):
            seen["layer"] = (len(args[0].shared), len(args[0].own))
        elif module is divided.histories["recent_items"]:
            seen["history"] = (len(args[0]), 0)

    for module in divided.modules():
        module.register_forward_pre_hook(look)
    divided({name: values[:1] if name in once else values for name, values in example_batch(20).items()})
    assert seen == {"layer": (1, 20), "history": (1, 0)}


def _computed(path: Path, folder: Path) -> Callable[[int, int], int]:
    """Return how many numbers a graph computes for some candidates of a request with some events."""
    model = onnx.load(str(path))
    names = [name for node in model.graph.node for name in node.output if name]
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    (folder / "all.onnx").write_bytes(model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(folder / "all.onnx", options, providers=["CPUExecutionProvider"])
    once = request_fields(example_schema("like", "love"), ())

    def numbers(candidates: int, events: int) -> int:
        rows = {name: values.numpy() for name, values in example_batch(candidates, history=events).items()}
        feed = {name: values[:1] if name in once else values for name, values in rows.items()}
        return sum(values.size for values in session.run(None, feed))

    return numbers


@pytest.mark.parametrize(
    ("block", "most"),
    [
        ({"name": "ple", "sequence": "din", "embedding": "hashed", "buckets": 50}, 200),
        ({"name": "dnn", "sequence": "sdim", "attributes": "joined", "interaction": "mlcc"}, 0),
        ({"name": "esmm", "sequence": "tin"}, 8),
        ({"name": "mmoe", "sequence": "transformer", "interaction": "mlp", "layers": 1}, 20),
        ({"name": "dnn", "sequence": "muse"}, 16),
        (BLOCKS[-1], 110),
    ],
    ids=lambda value: str(value.get("sequence")) if isinstance(value, dict) else "",
)
def test_a_graph_computes_of_a_history_only_what_a_candidate_decides(
    block: dict[str, Any], most: int, graph_of: Callable[[str], tuple[RankerModule, Path]], tmp_path: Path
) -> None:
    """Numbers per candidate and event. Read for each candidate they are 278, 470, 119, 258, 33 and 231."""
    numbers = _computed(graph_of(json.dumps(block))[1], tmp_path)
    mixed = numbers(20, 50) - numbers(10, 50) - numbers(20, 30) + numbers(10, 30)
    assert mixed / (10 * 20) <= most


def test_the_graph_holds_each_weight_once(graph_of: Callable[[str], tuple[RankerModule, Path]]) -> None:
    ranker, path = graph_of(json.dumps({"name": "esmm"}))
    held = sum(int(np.prod(x.dims)) for x in onnx.load(str(path)).graph.initializer)
    assert held <= sum(p.numel() for p in ranker.parameters()) + 100  # and some constants


@pytest.mark.parametrize(("name", "rows"), [("gnolr", 1), ("dcnv2", 20), ("star", 20), ("fintrec", 20)])
def test_what_lies_before_the_meeting_is_computed_for_one_row(name: str, rows: int) -> None:
    """Rows of the user's network of GNOLR; of the others rows that reach the head, and one that was embedded."""
    schema = example_schema("like", "love")
    once = request_fields(schema, ())
    request: Any = request_ranker(_ranker({"name": name}, schema), schema, once)
    seen: dict[str, int] = {}

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if name == "gnolr" and module is request.ranker.user:
            seen["user"] = len(args[0])
        elif module is getattr(request, "shared", None):
            seen["embedded"] = len(args[0]["user_id"])
        elif name != "gnolr" and isinstance(module, Tower | RoutedTower):
            seen["head"] = len(args[0])

    for module in request.modules():
        module.register_forward_pre_hook(look)
    request({key: values[:1] if key in once else values for key, values in example_batch(20).items()})
    assert seen.pop("embedded", 1) == 1
    assert [*seen.values()] == [rows]


def test_context_is_what_its_author_says() -> None:
    schema = example_schema("like", "love")
    unsaid = schema.model_copy(update={"sides": {k: v for k, v in schema.sides.items() if k != "taste"}})
    assert "taste" not in request_fields(unsaid, ())
    assert "taste" in request_fields(unsaid, ("taste",))
    with pytest.raises(BadInputError, match="'hour', which the ranker does not read"):
        request_fields(schema, ("hour",))
    with pytest.raises(BadInputError, match="'item_id', which describes the item"):
        request_fields(schema, ("item_id",))
    with pytest.raises(ValueError, match="context is read by shape: request"):
        Config.model_validate({"context": ["hour"]})


@pytest.mark.parametrize("name", ["dnn", "lr"])
@pytest.mark.parametrize(("side", "says"), [("user", "do not differ"), ("item", "belongs to the request")])
def test_one_sided_fields_are_refused(side: str, says: str, name: str) -> None:
    schema = example_schema("like", "love")
    every = {field.name: side for field in schema.fields}
    declaration = schema.declaration.model_copy(update={"domain": None})
    schema = schema.model_copy(update={"sides": every, "declaration": declaration})
    with pytest.raises(BadInputError, match=says):
        request_ranker(_ranker({"name": name}, schema), schema, request_fields(schema, ()))


@pytest.fixture(scope="module")
def served(esmm: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = Path(shutil.copytree(esmm.directory, tmp_path_factory.mktemp("request") / "model"))
    schema = read_schema(directory)
    once = request_fields(schema, ())
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    assert isinstance(esmm.ranker, RankerModule)
    export_graph(request_ranker(esmm.ranker, schema, once), schema, tasks, directory / REQUEST, once)
    (directory / REQUEST_CONTRACT).write_text(RequestContract(once=once).model_dump_json())
    return directory


def test_a_request_is_scored_from_raw_rows_as_the_model_scores_them(served: Path, training_set_dir: Path) -> None:
    model = ServedModel.open(served, "cpu")
    graph = RequestGraph.open(model, "cpu")
    rows = pq.read_table(training_set_dir / "raw" / "test.parquet").slice(0, 12)
    time = model.contract.schema_.declaration.time
    for place, name in enumerate(rows.column_names):
        if name in graph.once or name == time:
            first = rows.schema.field(name), rows[name].combine_chunks().take(pa.array([0] * 12))
            rows = rows.set_column(place, *first)
    batch = model.encoder.encode(rows.select(model.encoder.columns))
    expected, found = model.run(batch), graph.run(batch)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    shortened = {name: values[:1] if name in graph.once else values for name, values in batch.items()}
    assert (graph.run(shortened)["love"] == found["love"]).all()
    by_row, once = answer(model, rows, value=model.value), answer(model, rows, value=model.value, request=graph)
    assert (once.tasks["love"] == found["love"].astype(np.float64)).all()
    np.testing.assert_allclose(once.expected_value, by_row.expected_value, atol=1e-5)
    shared = {*graph.once, time}
    told = answer(model, rows, value=model.value, request=graph, shared=shared)
    assert all((told.tasks[name] == values).all() for name, values in once.tasks.items()), "the same to the bit"
    assert told.unknown == by_row.unknown
    divided = model.encoder.encode(rows.select(model.encoder.columns), model.encoder.made_of(shared))
    assert {name: len(values) for name, values in divided.items()} == {
        name: 1 if name in graph.once else 12 for name in batch
    }


def test_what_hangs_on_another_column_is_not_made_of_fewer(served: Path) -> None:
    encoder = ServedModel.open(served, "cpu").encoder
    timed = {field.name: field for field in encoder.fitted if field.timed_by or field.request_time}
    assert timed, "a history with times"
    columns = {*encoder.columns}
    for field in timed.values():
        for needed in {field.name, field.timed_by, field.request_time} - {None}:
            assert field.name not in encoder.made_of(columns - {str(needed)})
    assert encoder.made_of(columns) == {field.name for field in encoder.fitted}


def test_rows_of_two_requests_and_missing_files_are_refused(served: Path, tmp_path: Path, esmm: Exported) -> None:
    graph = RequestGraph.open(ServedModel.open(served, "cpu"), "cpu")
    users = esmm.test.padded()["user_id"]
    two = [0, int(np.flatnonzero(users != users[0])[0])]
    with pytest.raises(BadInputError, match="by themselves"):
        graph.run({name: values[two] for name, values in esmm.test.padded().items()})
    with pytest.raises(BadInputError, match="no value of"):
        graph.run({name: values[:0] for name, values in esmm.test.padded().items()})
    with pytest.raises(MissingError, match="export it with shape: request"):
        RequestGraph.open(ServedModel.open(esmm.directory, "cpu"), "cpu")
    broken = Path(shutil.copytree(served, tmp_path / "broken"))
    (broken / REQUEST_CONTRACT).write_text('{"once": ["user_id"]}')
    with pytest.raises(BadInputError, match="has other inputs than"):
        RequestGraph.open(ServedModel.open(broken, "cpu"), "cpu")
    (broken / REQUEST_CONTRACT).write_text("{")
    with pytest.raises(BadInputError, match="cannot be read"):
        RequestGraph.open(ServedModel.open(broken, "cpu"), "cpu")
