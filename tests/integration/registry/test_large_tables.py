"""Does a model whose tables lie beside its graphs go the whole way: exported, registered, pulled, followed, asked?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.data.training_set import read_encoded, read_raw, read_schema
from components.judge.export_onnx import tables
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.train.ranker_files import load_ranker
from features.ground import files
from pipelines.run.service.versions import StoredVersions
from registry.serving.answers.answer import answer
from registry.serving.live.follow import Follower
from registry.serving.model.served_model import ServedModel
from registry.serving.model.session import outside
from registry.serving.wire.config import ServingConfig
from registry.versions.client import Registry
from registry.versions.seal import Seal
from tests.integration.registry.mill import put
from tests.stages import run_stage
from tests.trained import publish

pytestmark = pytest.mark.engine
TABLE = "embedding.weight.safetensors"


@dataclass(frozen=True)
class Exported:
    """What the stages published, and of what."""

    ranker: Path
    graph: Path
    calibrated: Path


@pytest.fixture(scope="module")
def exported(initialised: Settings, training_set_dir: Path, model_of: Any) -> Iterator[Exported]:
    """Both graphs of ESMM, exported and calibrated by their stages, where a few kilobytes are a large table."""
    trained = model_of("esmm")  # others use it too: it is made before anything is patched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "ABOVE", 0)
        patch.setattr(tables, "LEAST", 4096)
        patch.setattr(files, "LINKED", 4096)
        dataset = publish(initialised, TrainingSet, training_set_dir)
        ranker = publish(initialised, Ranker, trained)
        shape = {"shape": "request"}
        made = run_stage(initialised, "export_onnx", shape, True, ranker=ranker, dataset=dataset).outputs["onnx_model"]
        curves = run_stage(initialised, "calibrate_ranker", {}, True, model=made, dataset=dataset)
        store = open_store(initialised)
        yield Exported(trained, store.fetch(made.load()), store.fetch(curves.outputs["onnx_model"].load()))


class Told:
    """An observer that only listens."""

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: None


def follower(home: Settings) -> Follower:
    config: Any = {"name": "shop", "model": "tiny_ranker", "memory": {"use": False}, "provider": "cpu"}
    return Follower(StoredVersions(home, ServingConfig.model_validate(config)), 1.0, Told())


def test_the_stages_carry_the_tables_on(exported: Exported, training_set_dir: Path) -> None:
    for folder in (exported.graph, exported.calibrated):
        assert TABLE in outside(folder / "model.onnx")
        assert TABLE in outside(folder / "request.onnx")
        assert TABLE in (folder / "manifest.json").read_text()
    assert (exported.graph / TABLE).samefile(exported.calibrated / TABLE), "one copy of one table"
    ranker, rows = load_ranker(exported.ranker), read_encoded(training_set_dir, "test", read_schema(training_set_dir))
    with torch.inference_mode():
        expected = ranker({name: torch.from_numpy(values) for name, values in rows.padded().items()})
    found = answer(ServedModel.open(exported.graph, "cpu"), read_raw(training_set_dir, "test"))
    for task, values in found.tasks.items():
        np.testing.assert_allclose(values, expected[task].numpy(), atol=1e-5)


def test_a_version_with_tables_is_followed_and_a_damaged_one_is_not(
    exported: Exported,
    home: Settings,
    registry: Registry,
    models: dict[str, Path],
    training_set_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import mlflow

    from registry.versions.database import default_store

    monkeypatch.setattr(files, "LINKED", 4096)
    put(registry, models["good"], "d1")
    version = put(registry, exported.calibrated, "d2")
    assert TABLE in Seal.of(exported.calibrated).files
    registry.set_alias("tiny_ranker", "champion", 1)
    service = follower(home)
    service.look()
    assert service.live is not None and service.live.pointed.version == 1

    [stored] = (home.home / "mlflow" / "artifacts").rglob(TABLE)
    assert not stored.samefile(exported.calibrated / TABLE), "what the registry keeps is its own"
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    registry.set_alias("tiny_ranker", "champion", 2)
    with caplog.at_level(logging.WARNING, logger="rankmill.serving"):
        service.look()
    assert service.live.pointed.version == 1
    sentence = (
        f"{TABLE} of tiny_ranker v2 was changed after registration: register the model again from its pipeline; "
        "tiny_ranker v1 goes on answering"
    )
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == [sentence]

    stored.write_bytes(whole)
    service.look()
    assert service.live.pointed.version == 2 and service.live.graph is not None
    rows = read_raw(training_set_dir, "test")
    here, there = answer(ServedModel.open(exported.calibrated, "cpu"), rows), answer(service.live.model, rows)
    assert all(np.array_equal(here.tasks[task], there.tasks[task]) for task in here.tasks)

    plain = ServedModel.open(exported.graph, "cpu")
    with default_store(registry.tracking_uri):
        told = mlflow.pyfunc.load_model(version.model_uri).predict(plain.encoder.encode(plain.rows(rows)))
    np.testing.assert_allclose(told["love"], answer(plain, rows).tasks["love"], atol=1e-6)
