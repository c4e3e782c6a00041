"""Does a graph that tests take from another ranker hold this one's weights, and only where it answers as it does?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.train.ranker_files import load_ranker
from tests.exports import agreement
from tests.known_graphs import KnownGraphs
from tests.unit.components.judge.export.conftest import Exported


def test_another_ranker_of_the_shape_is_not_exported_again(
    esmm: Exported, training_set_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, other = KnownGraphs(tmp_path / "graphs"), load_ranker(esmm.directory)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    calls = []
    monkeypatch.setattr("tests.known_graphs._export", lambda *given: calls.append(_copied(esmm, given[3])))
    for ranker in (esmm.ranker, other):
        graphs.export(ranker, esmm.schema, esmm.tasks, tmp_path / "m.onnx")
        agreement(ranker, training_set_dir, tmp_path / "m.onnx")
    assert len(calls) == 1
    graphs.export(other, esmm.schema, esmm.tasks[:1], tmp_path / "m.onnx")  # other outputs are another graph
    assert len(calls) == 2


def test_a_graph_that_answers_otherwise_is_exported_again(
    esmm: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, calls = KnownGraphs(tmp_path / "graphs"), []
    monkeypatch.setattr("tests.known_graphs._export", lambda *given: calls.append(_copied(esmm, given[3])))

    class Doubled(type(esmm.ranker)):  # type: ignore[misc]  # a class made of another
        def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {name: values * 0.5 for name, values in super().forward(batch).items()}

    graphs.export(esmm.ranker, esmm.schema, esmm.tasks, tmp_path / "m.onnx")
    other = load_ranker(esmm.directory)
    Doubled.__name__ = type(other).__name__
    other.__class__ = Doubled
    graphs.export(other, esmm.schema, esmm.tasks, tmp_path / "m.onnx")
    assert len(calls) == 2


def _copied(esmm: Exported, path: Path) -> None:
    path.write_bytes(esmm.graph.read_bytes())
