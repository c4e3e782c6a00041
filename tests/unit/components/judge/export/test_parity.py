"""Is a graph that answers otherwise caught, whatever went wrong in it?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from components.judge.export_onnx.parity import compare, difference, require, spread
from components.platform.errors import ParityError
from registry.serving.model.contract import ParityReport
from registry.serving.model.session import open_session
from tests.unit.components.judge.export.conftest import Exported


def _compare(esmm: Exported, path: Path, tolerance: float = 1e-5) -> ParityReport:
    session = open_session(path, "cpu")
    return compare(esmm.ranker, session, esmm.schema.fields, esmm.tasks, esmm.test.padded(), tolerance)


def test_a_faithful_graph_passes_every_case(exported: Exported) -> None:
    report = _compare(exported, exported.graph)
    assert report.passed
    require(report, "")
    assert {(c.batch, c.history) for c in report.cases} == {(b, h) for b in (1, 7, 1000) for h in (0, 1, 8)}
    assert {c.output for c in report.cases} == {*exported.tasks, "hidden"}
    assert len(report.cases) == 36


def _weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Float initialisers that are no scalars, largest first."""
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims)]
    return sorted(floats, key=lambda t: -int(np.prod(t.dims)))


def _edit(source: Path, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(str(source))
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def _add(tensor: onnx.TensorProto, value: float) -> None:
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(value), tensor.name))


def test_every_perturbed_weight_is_caught(esmm: Exported, tmp_path: Path) -> None:
    count = len(_weights(onnx.load(str(esmm.graph))))
    assert count >= 13  # one fused table, two towers of three layers with biases
    for index in range(count):
        path = _edit(esmm.graph, tmp_path / "m.onnx", lambda model, i=index: _add(_weights(model)[i], 0.01))
        assert not _compare(esmm, path).passed, index


def test_the_error_names_output_batch_history_difference_and_tolerance(esmm: Exported, tmp_path: Path) -> None:
    path = _edit(esmm.graph, tmp_path / "m.onnx", lambda model: _add(_weights(model)[0], 0.5))
    with pytest.raises(ParityError) as error:
        require(_compare(esmm, path), "/kept/parity.json")
    message = str(error.value)
    assert "\n" not in message
    for part in ("at batch", "and history", "differs from torch by", "allowed are 1e-05", "/kept/parity.json"):
        assert part in message


def test_an_answer_that_is_no_number_fails(esmm: Exported, tmp_path: Path) -> None:
    path = _edit(esmm.graph, tmp_path / "m.onnx", lambda model: _add(_weights(model)[0], float("nan")))
    report = _compare(esmm, path, tolerance=1e30)
    assert not report.passed
    assert ParityReport.model_validate_json(report.model_dump_json()) == report
    with pytest.raises(ParityError, match="is not a number"):
        require(report, "")


def test_a_graph_without_history_fails_only_where_there_is_one(esmm: Exported, tmp_path: Path) -> None:
    """Outputs swapped between tasks: names are wired wrongly though every number is right somewhere."""

    def swap(model: onnx.ModelProto) -> None:
        names = {"like": "love", "love": "like"}
        for node in model.graph.node:
            node.output[:] = [names.get(n, n) for n in node.output]
            node.input[:] = [names.get(n, n) for n in node.input]

    report = _compare(esmm, _edit(esmm.graph, tmp_path / "m.onnx", swap))
    wrong = {c.output for c in report.cases if c.max_abs_difference > report.tolerance}
    assert wrong == {"like", "love"}


def test_difference_is_relative_for_large_values_and_never_passes_what_is_no_number() -> None:
    assert difference(np.array([0.5]), np.array([0.5001])) == pytest.approx(1e-4)
    assert difference(np.array([1000.0]), np.array([1001.0])) == pytest.approx(1e-3)
    assert difference(np.zeros((0, 3)), np.zeros((0, 3))) == 0.0
    nan = np.array([np.nan])
    for a, b in ((nan, nan), (np.ones(1), nan), (np.ones(1), np.ones(2)), (np.array([np.inf]), np.array([np.inf]))):
        assert difference(a, b) == sys.float_info.max


def test_small_batches_hold_the_longest_histories(esmm: Exported) -> None:
    seen = []

    class Spy:
        """Records what the graph is fed."""

        def __init__(self, session: onnxruntime.InferenceSession) -> None:
            self.session = session

        def run(self, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            seen.append(feed)
            return self.session.run(outputs, feed)

        def get_providers(self) -> list[str]:
            return self.session.get_providers()

    spy = Spy(open_session(esmm.graph, "cpu"))
    compare(esmm.ranker, spy, esmm.schema.fields, esmm.tasks, esmm.test.padded(), 1e-5)  # type: ignore[arg-type]  # a spy
    sizes = [(len(feed["user_id"]), feed["recent_items"].shape[1], feed["genres"].shape[1]) for feed in seen]
    assert sizes == [(b, h, min(h, 5)) for b in (1, 7, 1000) for h in (0, 1, 8)]
    assert (seen[2]["recent_items"] != 0).all()


def test_spread_covers_both_ends() -> None:
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(1000, 3).tolist() == [0, 499, 999]
    assert spread(1, 10).tolist() == [0]
