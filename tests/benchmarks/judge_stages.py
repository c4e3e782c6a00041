"""What does a stage that judges hold of its rows? Each run alone, on a ranker that nobody trained.

An untrained ranker answers as slowly, and as much, as a trained one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

JUDGES = ("calibrate", "evaluate", "gate", "memory")
RESAMPLES = 20
"""Of users behind an interval; more take time, and no more memory."""


def prepared(folder: str) -> Iterator[None]:
    """Export a ranker of the training set that the stages of `stage_memory` made in this folder."""
    from components.platform.artifacts import Ranker
    from components.platform.settings import Settings
    from components.platform.store.publish import open_store
    from features.declaration import Window
    from pipelines.language.check import load_plan
    from tests.benchmarks.stage_memory import DAYS, START
    from tests.stages import run_before, run_stage
    from tests.trained import publish, write_ranker

    settings, window = Settings.at(Path(folder) / "home"), Window(start=START, end=START + timedelta(days=DAYS))
    done = run_before(load_plan(Path(folder) / "stage_memory.yaml"), "", settings, window)
    yield
    dataset = done["dataset"].outputs["training_set"]
    made = write_ranker(Path(folder) / "ranker", open_store(settings).fetch(dataset.load()), "dnn", steps=0)
    ranker = publish(settings, Ranker, made)
    model = run_stage(settings, "export_onnx", {}, ranker=ranker, dataset=dataset).outputs["onnx_model"]
    refs = {"dataset": dataset.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    (Path(folder) / "judged.json").write_text(json.dumps(refs), encoding="utf-8")
    yield


def judged(folder: str, stage: str) -> Iterator[None]:
    """Run one of `JUDGES`. Returns the highest memory of the process."""
    from components.platform.settings import Settings
    from components.platform.store.publish import open_store
    from components.platform.store.records import ArtifactRef
    from tests.benchmarks.child import memory
    from tests.stages import run_stage

    settings = Settings.at(Path(folder) / "home")
    found = json.loads((Path(folder) / "judged.json").read_text(encoding="utf-8"))
    given = {name: ArtifactRef.model_validate(ref) for name, ref in found.items()}
    dataset, model = (open_store(settings).fetch(given[name].load()) for name in ("dataset", "model"))
    yield
    if stage == "calibrate":
        run_stage(settings, "calibrate_ranker", {}, cache=False, **given)
    elif stage == "evaluate":
        run_stage(settings, "evaluate_ranker", {"bootstrap": RESAMPLES}, cache=False, **given)
    elif stage == "gate":
        _gate(dataset, model)
    else:
        _memory(dataset, model, Path(folder))
    yield
    return {"whole": memory("VmHWM")}  # type: ignore[return-value]  # tests.benchmarks.child reads it


def _gate(dataset: Path, model: Path) -> None:
    from components.release.promote_model.rows import score_both
    from registry.gate.decide import decide
    from registry.gate.policy import GatePolicy

    pair, _ = score_both(dataset, model, model, "the champion", "cpu")
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    decide(pair, GatePolicy(), model="shop", challenger=2, champion=1, dataset_digest="", decided_at=moment)


def _memory(dataset: Path, model: Path, folder: Path) -> None:
    from components.memory.refresh_error_memory.component import replayed
    from components.memory.refresh_error_memory.config import Config
    from registry.serving.model.contract import RegisteredVersion
    from registry.serving.model.served_model import ServedModel

    version = RegisteredVersion(
        model="shop", version=1, digest="d", model_uri="", ranker_digest="r", report_digest="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    context: Any = SimpleNamespace(local=lambda one: one, progress=lambda text: None, scratch=folder)
    inputs: Any = SimpleNamespace(dataset=dataset)
    replayed(inputs, Config(model="shop"), context, version, ServedModel.open(model, "cpu"))
