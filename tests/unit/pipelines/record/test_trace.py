"""Does a logged answer lead to the version, the artifacts, the runs and the code that it came from?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from components.platform.artifacts import Artifact, ErrorMemory, OnnxModel, Ranker, TrainingSet
from components.platform.errors import MissingError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.ground.files import write_durably
from pipelines.cli import main as cli
from pipelines.record import runs
from pipelines.record.runs import RunStart
from pipelines.record.trace import trace
from registry.serving.log.segments import PLACE, SERVED, segments_of

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Mill:
    """Publishes artifacts, records runs and logs answers as a pipeline and a service would."""

    def __init__(self, home: Path) -> None:
        self.settings, self.scratch = Settings.at(home), home / "staged"

    def make(self, stage: str, kind: type[Artifact], text: str, window: str = "", **inputs: str) -> ArtifactRef:
        draft = self.scratch / f"{stage}-{text}" / "out"
        draft.mkdir(parents=True)
        (draft / "file.txt").write_text(text)
        parts = {f"input.{name}": digest for name, digest in inputs.items()} | ({"window": window} if window else {})
        record = open_store(self.settings).publish(
            draft.parent, {"out": kind(uri=str(draft))}, component=stage, component_version="2", key=f"{stage}-{text}",
            config_digest="", inputs=inputs, explanation=parts, seconds=3.0, notes=[], annotations={},
            made_by=f"shop.{stage}", rows=7,
        )  # fmt: skip
        return record.outputs["out"]

    def run(self, run_id: str, *keys: str, cached: bool = False) -> None:
        stages = tuple(key.partition("-")[0] for key in keys)
        start = RunStart(
            pipeline="shop", run_id=run_id, moment=NOON, started_at=NOON, stages=stages, commit=f"commit-of-{run_id}"
        )
        runs.write_start(self.settings, start)
        for stage, key in zip(stages, keys, strict=True):
            result = StageResult(stage=stage, component=stage, key=key, cached=cached, seconds=1, outputs={}, notes=[])
            write_durably(run_folder(self.settings, "shop", run_id) / f"{stage}.json", result.model_dump_json())

    def answer(
        self, request: str, model: ArtifactRef, at: datetime = NOON, service: str = "web", role: str = "champion",
        memory: str = "", candidates: int = 3,
    ) -> None:  # fmt: skip
        told = {
            "request": request, "at": at, "version": 4, "digest": model.digest, "memory": memory, "role": role,
            "propensity": 1.0, "degraded": ["features"],
        }  # fmt: skip
        columns = {f"{SERVED}{name}": [value] * candidates for name, value in told.items()}
        place = pa.array(range(candidates), pa.int32())
        segments_of(self.settings.artifacts, service)[0].write(pa.table(columns | {PLACE: place}), at)


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    return Mill(tmp_path / "home")


def test_the_chain_leads_to_the_rows_and_the_code(mill: Mill) -> None:
    rows = mill.make("dataset", TrainingSet, "rows", window="[a, b)")
    ranker = mill.make("train", Ranker, "weights", dataset=rows.digest)
    model = mill.make("export", OnnxModel, "graph", ranker=ranker.digest, dataset=rows.digest)
    memory = mill.make("memory", ErrorMemory, "errors", dataset=rows.digest)
    mill.run("night", "dataset-rows", "train-weights", "export-graph")
    mill.run("morning", "dataset-rows", "train-weights", "export-graph", cached=True)
    mill.answer("q1", model, memory=f"{memory.digest}+37")
    found = trace(mill.settings, "q1")
    assert [(one.kind, one.run_id, one.commit) for one in found.chain] == [
        (kind, "night", "commit-of-night") for kind in ("onnx_model", "ranker", "training_set")
    ], "the run that made it is named, not the one that found it in the store"
    assert (found.chain[-1].window, found.chain[-1].rows, found.chain[-1].made_by) == ("[a, b)", 7, "shop.dataset")
    assert [one.kind for one in found.memory] == ["error_memory"], "the rows stand in the chain already"
    assert (found.answers[0].version, found.answers[0].candidates) == (4, 3)
    assert any("taught the memory 37 slots" in remark for remark in found.remarks)


def test_the_answer_that_was_heard_comes_first_and_a_shadow_is_told_too(mill: Mill) -> None:
    model, other = mill.make("export", OnnxModel, "one"), mill.make("export", OnnxModel, "two")
    mill.answer("q1", other, NOON - timedelta(seconds=1) + timedelta(hours=1), role="shadow")
    mill.answer("q1", model, NOON + timedelta(hours=1))
    mill.answer("q2", other, NOON + timedelta(days=40))
    found = trace(mill.settings, "q1")
    assert [(one.role, one.digest) for one in found.answers] == [("champion", model.digest), ("shadow", other.digest)]
    assert [one.digest for one in found.chain] == [model.digest]


def test_what_is_not_there_is_said(mill: Mill) -> None:
    gone = ArtifactRef(kind="onnx_model", uri="", digest="f" * 64)
    mill.answer("q1", gone, memory="e" * 64)
    found = trace(mill.settings, "q1", day=NOON.replace(hour=0))
    said = " ".join(found.remarks)
    assert found.chain == () and "no stage in the store made this version" in said
    assert "error memory" in said and "registry" in said
    for asked in ({"service": "web"}, {"day": NOON + timedelta(days=1)}):
        with pytest.raises(MissingError, match="question 'q2' is not in"):
            trace(mill.settings, "q2", **asked)  # type: ignore[arg-type]
    with pytest.raises(MissingError, match="did you mean 'web'"):
        trace(mill.settings, "q1", service="wep")


def test_the_command_fits_on_a_screen(mill: Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(mill.settings.home))
    model = mill.make("export", OnnxModel, "graph")
    mill.answer("q1", model)
    shown = CliRunner().invoke(cli.app, ["trace", "q1"]).output
    assert (
        "v4" in shown and model.digest[:12] in shown and "without: features" in shown and len(shown.splitlines()) < 24
    )
    told = json.loads(CliRunner().invoke(cli.app, ["trace", "q1", "--json", "--at", "2026-03-01"]).output)
    assert told["answers"][0]["degraded"] == ["features"] and told["chain"][0]["digest"] == model.digest
