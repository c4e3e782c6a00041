"""Does a graph in float16 take and give what it did, answer nearly the same, and keep what needs more digits?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.judge.export_onnx.config import Config
from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.half import PRODUCTS, halved, write_halved
from components.judge.export_onnx.parity import compare, require
from components.judge.export_onnx.request import request_fields, request_ranker
from components.platform.errors import BadInputError, ParityError
from registry.serving.model.session import open_session
from tests.unit.components.judge.export.conftest import Exported

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
Nodes = Sequence[onnx.NodeProto]


def kinds(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    found = {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return found | {weight.name: weight.data_type for weight in graph.initializer}


def ports(path: Path) -> list[Any]:
    session = open_session(path, "cpu")
    return [(x.name, x.type, x.shape) for x in (*session.get_inputs(), *session.get_outputs())]


@pytest.fixture(scope="module")
def short_of(exporter: Callable[[str], Exported], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the float16 graph of a trained ranker by its name."""

    def made(name: str) -> Path:
        path = tmp_path_factory.mktemp("half") / "model.onnx"
        path.write_bytes(exporter(name).graph.read_bytes())
        write_halved(path, name)
        return path

    return made


@pytest.mark.parametrize("name", ["esmm", "fintrec", "gnolr"])
def test_it_answers_as_torch_does_within_its_tolerance(
    name: str, exporter: Callable[[str], Exported], short_of: Callable[[str], Path]
) -> None:
    ranker, path = exporter(name), short_of(name)
    assert ports(path) == ports(ranker.graph)
    session = open_session(path, "cpu")
    report = compare(
        ranker.ranker, session, ranker.schema.fields, ranker.tasks, ranker.test.padded(), 1e-2, precision="float16"
    )
    require(report, "")
    assert report.precision == "float16"
    assert max(case.max_abs_difference for case in report.cases) > 1e-5, "it is another graph"
    assert report.model_dump()["precision"] == "float16"


def test_tables_and_products_are_short_and_the_last_layer_is_not(short_of: Callable[[str], Path]) -> None:
    model = onnx.load(str(short_of("esmm")))
    of = kinds(model)
    weights = {w.name: w for w in model.graph.initializer}
    table = max(weights.values(), key=lambda weight: int(np.prod(weight.dims)))
    assert table.data_type == HALF
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    long = [node for node in products if of[node.output[0]] == FLOAT]
    assert len(products) > len(long) > 0
    assert all(weights[node.input[1]].dims[0] == 1 or weights[node.input[1]].dims[-1] == 1 for node in long), "heads"
    answers = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    assert answers and all(of[node.output[0]] == FLOAT for node in answers)


def test_the_same_graph_gives_the_same_bytes(esmm: Exported, tmp_path: Path) -> None:
    paths = [tmp_path / "once.onnx", tmp_path / "again.onnx"]
    for path in paths:
        path.write_bytes(esmm.graph.read_bytes())
        write_halved(path, "esmm")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(paths[0].read_bytes()) < 0.7 * len(esmm.graph.read_bytes())


def test_a_request_is_shortened_too(esmm: Exported, tmp_path: Path) -> None:
    once = request_fields(esmm.schema, ())
    path = tmp_path / "request.onnx"
    shared = request_ranker(esmm.ranker, esmm.schema, once)  # type: ignore[arg-type]  # a ranker
    export_graph(shared, esmm.schema, esmm.tasks, path, once)
    before = ports(path)
    write_halved(path, "esmm")
    assert ports(path) == before
    rows, session = esmm.test.padded(), open_session(path, "cpu")
    require(compare(esmm.ranker, session, esmm.schema.fields, esmm.tasks, rows, 1e-2, once, "float16"), "")


def test_a_ranker_without_products_is_refused_in_one_sentence(
    exporter: Callable[[str], Exported], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(exporter("lr").graph.read_bytes())
    with pytest.raises(BadInputError, match=r"'lr' cannot be exported in float16: no product .*; leave precision out"):
        write_halved(path, "lr")
    assert path.read_bytes() == exporter("lr").graph.read_bytes(), "the file is as it was"


def test_too_few_digits_are_a_sentence_of_their_own(esmm: Exported, short_of: Callable[[str], Path]) -> None:
    session = open_session(short_of("esmm"), "cpu")
    rows = esmm.test.padded()
    report = compare(esmm.ranker, session, esmm.schema.fields, esmm.tasks, rows, 1e-7, precision="float16")
    with pytest.raises(ParityError, match=r"in float16 differs from torch by .* leave precision out or raise") as error:
        require(report, "/kept/parity.json")
    assert "\n" not in str(error.value)


def test_the_tolerance_is_the_precisions_unless_it_is_named() -> None:
    assert (Config().allowed, Config(precision="float16").allowed) == (1e-5, 1e-2)
    assert Config(precision="float16", tolerance=1e-3).allowed == 1e-3


# --- graphs made by hand -----------------------------------------------------------------------------


def model_of(nodes: Nodes, weights: dict[str, np.ndarray[Any, Any]], **inputs: list[str | int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 1])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers_of(model: onnx.ModelProto, path: Path, **feed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    path.write_bytes(model.SerializeToString())
    found: np.ndarray[Any, Any] = open_session(path, "cpu").run(["y"], feed)[0]
    return found


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).normal(size=shape) * 0.3).astype(np.float32)


TOWER = [helper.make_node("MatMul", ["h", "w"], ["p"]), helper.make_node("MatMul", ["p", "v"], ["y"])]
"""A product that may be short, and the last one, which is not."""
WEIGHTS = {"w": weight(2, 4), "v": weight(4, 1)}


def test_seconds_keep_their_digits_until_they_meet_a_weight(tmp_path: Path) -> None:
    """A year is 500 times more than float16 holds; what tells its hour needs every digit."""
    nodes = [
        helper.make_node("Div", ["seconds", "day"], ["days"]),
        helper.make_node("Floor", ["days"], ["whole"]),
        helper.make_node("Sub", ["days", "whole"], ["h"]),
        *TOWER,
    ]
    model = model_of(nodes, WEIGHTS | {"day": np.float32(86400).reshape(1)}, seconds=["batch", 2])
    short = halved(model)
    given = np.array([[3.15e7, 3.1536e7 + 43_200], [5.0, 80_000.0]], dtype=np.float32)
    expected, found = (answers_of(each, tmp_path / "m.onnx", seconds=given) for each in (model, short))
    np.testing.assert_allclose(found, expected, atol=2e-3)
    of = kinds(short)
    assert (of["days"], of["h"], of["p"], of["y"]) == (FLOAT, FLOAT, HALF, FLOAT)


def test_squares_of_small_vectors_keep_their_digits(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Mul", ["a", "a"], ["square"]),
        helper.make_node("ReduceMean", ["square", "axes"], ["mean"], keepdims=1),
        helper.make_node("Add", ["mean", "least"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["size"]),
        helper.make_node("Div", ["a", "size"], ["h"]),
        *TOWER,
    ]
    held = WEIGHTS | {
        "u": np.eye(2, dtype=np.float32),
        "axes": np.array([1]),
        "least": np.array([1e-12], dtype=np.float32),
    }
    model = model_of(nodes, held, x=["batch", 2])
    short = halved(model)
    given = np.array([[2e-4, -3e-4], [0.0, 0.0], [1.0, 2.0]], dtype=np.float32)
    expected, found = (answers_of(each, tmp_path / "m.onnx", x=given) for each in (model, short))
    np.testing.assert_allclose(found, expected, atol=3e-3)
    of = kinds(short)
    assert (of["a"], of["mean"], of["size"], of["h"]) == (HALF, FLOAT, FLOAT, HALF)


def test_whole_numbers_that_decide_are_added_up_exactly(tmp_path: Path) -> None:
    """400 squared is more than float16 holds, and one more of it would be lost."""
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Round", ["a"], ["whole"]),
        helper.make_node("Mul", ["whole", "along"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axes"], ["sum"], keepdims=1),
        helper.make_node("Greater", ["sum", "least"], ["more"]),
        helper.make_node("Where", ["more", "whole", "none"], ["h"]),
        *TOWER,
    ]
    held = WEIGHTS | {
        "u": np.eye(2, dtype=np.float32),
        "along": np.array([400, 1], dtype=np.float32),
        "axes": np.array([1]),
        "least": np.array([160_001], dtype=np.float32),
        "none": np.zeros(1, np.float32),
    }
    model = model_of(nodes, held, x=["batch", 2])
    given = np.array([[400, 1], [400, 2]], dtype=np.float32)
    expected, found = (answers_of(each, tmp_path / "m.onnx", x=given) for each in (model, halved(model)))
    assert expected[0] == 0 and found[0] == 0 and found[1] != 0
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_numbers_that_float16_does_not_hold_are_its_largest_and_never_infinite(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Where", ["there", "a", "never"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["h"]),
        *TOWER,
    ]
    held = WEIGHTS | {
        "u": np.eye(2, dtype=np.float32),
        "never": np.array([-1e30], dtype=np.float32),
        "there": np.array([True, False]),
    }
    model = model_of(nodes, held, x=["batch", 2])
    given = np.array([[1e6, -1e6], [0.5, 1.0]], dtype=np.float32)
    expected, found = (answers_of(each, tmp_path / "m.onnx", x=given) for each in (model, halved(model)))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_an_output_that_others_read_keeps_its_name_and_type(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["hidden"]), helper.make_node("MatMul", ["hidden", "v"], ["y"])]
    model = model_of(nodes, WEIGHTS, x=["batch", 2])
    model.graph.output.append(helper.make_tensor_value_info("hidden", FLOAT, ["batch", 4]))
    short = halved(model)
    of = kinds(short)
    assert (of["hidden"], of["hidden_float16"]) == (FLOAT, HALF)
    answers_of(short, tmp_path / "m.onnx", x=weight(3, 2))


def test_a_mask_is_short_without_being_cut_off(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["there"]),
        helper.make_node("Cast", ["there"], ["flat"], to=FLOAT),
        helper.make_node("Reshape", ["flat", "shape"], ["mask"]),
        helper.make_node("MatMul", ["x", "u"], ["a"]),
        helper.make_node("Mul", ["a", "mask"], ["h"]),
        *TOWER,
    ]
    held = WEIGHTS | {
        "u": np.eye(2, dtype=np.float32),
        "zero": np.zeros(1, dtype=np.float32),
        "shape": np.array([-1, 2]),
    }
    model = model_of(nodes, held, x=["batch", 2])
    short = halved(model)
    assert [n.input[0] for n in short.graph.node if n.op_type == "Clip"] == ["x"]
    given = weight(5, 2)
    expected, found = (answers_of(each, tmp_path / "m.onnx", x=given) for each in (model, short))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_branch_is_refused() -> None:
    inner = helper.make_graph([], "then", [], [helper.make_tensor_value_info("x", FLOAT, None)])
    node = helper.make_node("If", ["there"], ["y"], then_branch=inner, else_branch=inner)
    model = model_of([node], {"there": np.array(True)}, x=["batch"])
    with pytest.raises(BadInputError, match="has a branch or a loop"):
        halved(model)
