"""Does the exported file have the names it promises, the same bytes each time, and nothing of this machine?"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from components.judge.export_onnx import graph as module
from components.judge.export_onnx.graph import OPSET, export_graph
from components.platform.errors import BadInputError
from features.declaration import FieldSpec, RankerSchema
from registry.serving.model.contract import axes_of
from tests.unit.components.judge.export.conftest import Exported


def test_inputs_outputs_and_axes_have_names(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(str(exported.graph), providers=["CPUExecutionProvider"])
    shapes = {x.name: x.shape for x in session.get_inputs()}
    assert shapes == {
        "age_band": ["batch"],
        "genres": ["batch", "bag_genres"],
        "item_id": ["batch"],
        "popularity": ["batch", 3],
        "recent_items": ["batch", "events_recent_times"],
        "recent_likes": ["batch", "events_recent_times"],
        "recent_times": ["batch", "events_recent_times"],
        "taste": ["batch", 3],
        "user_id": ["batch"],
    }
    assert [x.name for x in session.get_outputs()] == ["like", "love", "love_given_like", "hidden"]
    assert all(x.shape[0] == "batch" and x.type == "tensor(float)" for x in session.get_outputs())
    assert [len(x.shape) for x in session.get_outputs()] == [1, 1, 1, 2]


def test_the_file_is_valid_and_says_nothing_about_the_machine(exported: Exported) -> None:
    model = onnx.load(str(exported.graph))
    onnx.checker.check_model(model, full_check=True)
    assert [o.version for o in model.opset_import if o.domain == ""] == [OPSET]
    raw = exported.graph.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.cwd()).encode(), b"stack_trace"):
        assert trace not in raw
    assert not list(exported.directory.glob("*.data"))
    assert "+" not in model.producer_version


def test_the_same_weights_give_the_same_bytes_without_a_word(
    exported: Exported, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    once, again = tmp_path / "once.onnx", tmp_path / "again.onnx"
    for path in (once, again):  # `exported` may be of another process, and the exporter numbers what it has seen
        export_graph(exported.ranker, exported.schema, exported.tasks, path)
    assert again.read_bytes() == once.read_bytes()
    assert capfd.readouterr() == ("", "")


def _schema(esmm: Exported, *fields: FieldSpec) -> RankerSchema:
    return esmm.schema.model_copy(update={"fields": fields})


class _Reads(nn.Module):
    """A ranker that reads field `a` only."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        p = torch.sigmoid(batch["a"] * self.slope)
        return {"like": p, "love_logit": p, "hidden": torch.stack([p, p], dim=1)}


def test_operators_are_looked_up_once_and_others_get_a_table_of_their_own(
    esmm: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who exports beside us may add an operator to the table that they get."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    own, asked = ONNXRegistry.from_torchlib, []
    monkeypatch.setattr(module, "_operators", {})
    counted = classmethod(lambda cls, opset_version: (asked.append(opset_version), own(opset_version))[1])
    monkeypatch.setattr(ONNXRegistry, "from_torchlib", counted)
    for name in ("one", "two"):
        export_graph(esmm.ranker, esmm.schema, esmm.tasks, tmp_path / name)
    assert asked == [OPSET] and (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert ONNXRegistry.__dict__["from_torchlib"] is counted


def test_an_input_that_the_ranker_ignores_stays_an_input(esmm: Exported, tmp_path: Path) -> None:
    fields = (FieldSpec(name="a", kind="numeric"), FieldSpec(name="b", kind="categorical", size=9, table="b"))
    export_graph(_Reads(), _schema(esmm, *fields), ["like"], tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    assert {x.name: x.shape for x in session.get_inputs()} == {"a": ["batch"], "b": ["batch"]}
    assert [x.name for x in session.get_outputs()] == ["like", "hidden"]


class _Loops(nn.Module):
    """A ranker that looks at its values, which no graph with free shapes can."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        p = batch["a"] if float(batch["a"].sum()) > 0 else -batch["a"]
        return {"like": p, "hidden": p.unsqueeze(1)}


def test_a_ranker_that_cannot_be_exported_is_named_in_one_sentence(esmm: Exported, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="'_Loops' cannot be exported with dynamic batch") as error:
        export_graph(_Loops(), _schema(esmm, FieldSpec(name="a", kind="numeric")), ["like"], tmp_path / "m.onnx")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m.onnx").exists()


def test_weights_beyond_one_file_are_refused_before_any_work(
    esmm: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(BadInputError, match="beside its tables"):
        export_graph(esmm.ranker, esmm.schema, esmm.tasks, tmp_path / "m.onnx")


def _sequence(name: str, length: int, pooled: bool = False) -> FieldSpec:
    return FieldSpec(name=name, kind="sequence", size=5, table=name, length=length, pooled=pooled)


def test_parallel_histories_share_an_axis_and_bags_do_not() -> None:
    number = FieldSpec(name="n", kind="numeric")
    alike = axes_of([number, _sequence("items", 8), _sequence("ratings", 8), _sequence("genres", 8, pooled=True)])
    assert alike == {
        "n": ("batch",),
        "items": ("batch", "history"),
        "ratings": ("batch", "history"),
        "genres": ("batch", "bag_genres"),
    }
    assert axes_of([_sequence("long", 50), _sequence("short", 8)]) == {
        "long": ("batch", "history_50"),
        "short": ("batch", "history_8"),
    }
