"""Does a training run that somebody deleted in MLflow hold up what was trained in it?"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.platform.artifacts import OnnxModel
from components.platform.contract import MLFLOW_RUN_ID
from components.platform.settings import Settings
from registry.versions.client import Registry
from registry.versions.tracking import experiment
from tests.integration.registry.mill import Mill

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("gone", ["deleted", "of another tracker"])
def test_a_cached_model_is_evaluated_and_registered_without_it(
    mill: Mill, home: Settings, registry: Registry, models: dict[str, Path], gone: str
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(registry.tracking_uri)
    run = "0" * 32
    if gone == "deleted":
        run = client.create_run(experiment(home.tracking_uri, "training", home.mlflow_artifacts)).info.run_id
        client.delete_run(run)
    model = mill.publish(OnnxModel, models["good"], "good", **{MLFLOW_RUN_ID: run})
    done = mill.run("evaluate_ranker", {"bootstrap": 10, "provider": "cpu"}, "x", model=model, dataset=mill.dataset)
    [said] = [note for note in done.notes if note.startswith("not in MLflow: ")]
    assert run in said and ("was deleted: restore it" if gone == "deleted" else "has no run") in said
    done = mill.run("register_model", {"model": "tiny_ranker"}, "x", model=model, report=done.outputs["report"])
    assert done.notes == ["tiny_ranker v1 is challenger"]
    assert [listed.run_id for listed in registry.versions("tiny_ranker")] == [""]
    version = done.outputs["model_version"]
    assert mill.promote(version, "x").outputs["promotion"]
    assert mill.actions() == [("promoted", 1)]


def test_the_figures_reach_a_run_that_lives(mill: Mill, home: Settings, models: dict[str, Path]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(home.tracking_uri)
    run = client.create_run(experiment(home.tracking_uri, "training", home.mlflow_artifacts)).info.run_id
    model = mill.publish(OnnxModel, models["good"], "good", **{MLFLOW_RUN_ID: run})
    done = mill.run("evaluate_ranker", {"bootstrap": 10, "provider": "cpu"}, "x", model=model, dataset=mill.dataset)
    assert not any(note.startswith("not in MLflow") for note in done.notes)
    assert "test/like/auc" in client.get_run(run).data.metrics
