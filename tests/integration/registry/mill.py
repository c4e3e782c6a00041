"""How do tests put versions into a registry, by hand and by its two stages?"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.data.training_set import read_raw
from components.platform.approval import People
from components.platform.artifacts import Artifact, EvaluationReport, OnnxModel, TrainingSet
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.declaration import Window
from registry.champion.ledger import Ledger
from registry.evaluation import ALL, Cell, Evaluation, Interval
from registry.metrics import auc
from registry.serving.answers.answer import answer
from registry.serving.model.contract import RegisteredVersion
from registry.serving.model.served_model import ServedModel
from registry.versions.client import Registry

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


def put(registry: Registry, directory: Path, digest: str, model: str = "tiny_ranker") -> RegisteredVersion:
    return registry.register(directory, model, digest=digest, ranker_digest="r", report_digest="e", tags={"a.tag": "1"})


class Mill:
    """Publishes artifacts as earlier stages would, and runs the registry's two stages on them."""

    def __init__(self, settings: Settings, training_set: Path) -> None:
        self.settings = settings
        self.store = open_store(settings)
        self.training_set = training_set
        self.window = WINDOW
        self.dataset = self.publish(TrainingSet, training_set, "dataset")

    def publish(self, kind: type[Artifact], source: Path, name: str, **annotations: str) -> ArtifactRef:
        staged = self.settings.home / "staged" / name
        shutil.copytree(source, staged / name)
        record = self.store.publish(
            staged, {name: kind(uri=str(staged / name))}, component="made_by_hand", component_version="1", key=name,
            config_digest="", inputs={}, explanation={}, seconds=0.0, notes=[],
            annotations=annotations,
        )  # fmt: skip
        return record.outputs[name]

    def report(self, name: str, model: ArtifactRef, directory: Path) -> ArtifactRef:
        rows = read_raw(self.training_set, "test")
        scores = answer(ServedModel.open(directory, "cpu"), rows).tasks
        labels = {task: rows.column(task).to_numpy() for task in ("like", "love")}
        cells = tuple(
            Cell(task=task, domain=ALL, space="every impression", rows=rows.num_rows, positives=int(labels[task].sum()),
                 metrics={"auc": Interval(value=auc(labels[task], scores[task]))})
            for task in labels
        )  # fmt: skip
        evaluation = Evaluation(
            model_digest=model.digest, dataset_digest=self.dataset.digest, split="test", rows=rows.num_rows,
            window_start=None, window_end=None, confidence=0.95, resamples=0, provider="cpu", tasks=("like", "love"),
            domains=(), cells=cells, calibration=(),
        )  # fmt: skip
        folder = self.settings.home / "reports" / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(evaluation.model_dump_json())
        (folder / "report.html").write_text("<!doctype html><title>report</title>")
        return self.publish(EvaluationReport, folder, f"{name}_report")

    def run(
        self, component: str, config: dict[str, Any], run_id: str, people: People | None = None, **inputs: ArtifactRef
    ) -> StageResult:
        request = StageRequest(
            component=component, config=config, inputs=inputs, window=self.window, pipeline="nightly", stage=component,
            run_id=run_id,
        )  # fmt: skip
        return execute(request, self.settings, people)

    def register(self, name: str, directory: Path) -> ArtifactRef:
        if self.store.find("made_by_hand", name) is None:
            self.publish(OnnxModel, directory, name)
            self.report(name, self.ref(name), directory)
        result = self.run(
            "register_model", {"model": "tiny_ranker"}, name, model=self.ref(name), report=self.ref(f"{name}_report")
        )
        return result.outputs["model_version"]

    def ref(self, name: str) -> ArtifactRef:
        record = self.store.find("made_by_hand", name)
        assert record is not None
        return record.outputs[name]

    def promote(
        self,
        version: ArtifactRef,
        run_id: str,
        gate: dict[str, Any] | None = None,
        people: People | None = None,
        **more: Any,
    ) -> StageResult:
        config = {"gate": {"resamples": 100} | (gate or {}), "provider": "cpu", **more}
        return self.run("promote_model", config, run_id, people, version=version, dataset=self.dataset)

    def actions(self) -> list[tuple[str, int]]:
        found = Ledger(self.settings.ledger).entries("tiny_ranker")
        return [(entry.action, entry.version) for entry in found if entry.action != "promoting"]
