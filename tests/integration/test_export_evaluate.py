"""Do export and evaluation, run as stages, publish what they promise, and nothing when they must not?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from components.data.training_set import read_encoded, read_schema
from components.platform.artifacts import OnnxModel, Ranker, TrainingSet
from components.platform.errors import BadInputError, ParityError, RetryableError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.ranker_files import load_ranker
from features.encoding.files import FILES
from registry.evaluation import Evaluation
from registry.metrics import auc
from registry.serving.answers.answer import answer
from registry.serving.model.contract import ModelContract, ParityReport
from registry.serving.model.request_graph import RequestGraph
from registry.serving.model.served_model import ServedModel
from tests.homes import ready
from tests.stages import run_stage
from tests.trained import publish, write_ranker

Writes = Callable[[Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]], None]


@dataclass(frozen=True)
class Shop:
    """A store with a trained ranker and its training set."""

    settings: Settings
    dataset_dir: Path
    ranker_dir: Path
    dataset: ArtifactRef
    ranker: ArtifactRef

    def run(self, component: str, cache: bool = True, **inputs: ArtifactRef) -> StageResult:
        config: dict[str, Any] = {"bootstrap": 50} if component == "evaluate_ranker" else {}
        return run_stage(self.settings, component, config, cache, **inputs)

    def folder(self, ref: ArtifactRef) -> Path:
        return open_store(self.settings).fetch(ref.load())


@pytest.fixture(scope="module")
def shop(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    settings = ready(home / "home", engines)
    ranker_dir = write_ranker(home / "ranker", training_set_dir, steps=80)
    return Shop(
        settings=settings,
        dataset_dir=training_set_dir,
        ranker_dir=ranker_dir,
        dataset=publish(settings, TrainingSet, training_set_dir),
        ranker=publish(settings, Ranker, ranker_dir),
    )


@pytest.fixture(scope="module")
def exported(shop: Shop) -> StageResult:
    return shop.run("export_onnx", ranker=shop.ranker, dataset=shop.dataset)


@pytest.fixture(scope="module")
def evaluated(shop: Shop, exported: StageResult) -> StageResult:
    return shop.run("evaluate_ranker", model=exported.outputs["onnx_model"], dataset=shop.dataset)


def test_the_model_holds_what_its_type_promises(shop: Shop, exported: StageResult) -> None:
    folder = shop.folder(exported.outputs["onnx_model"])
    names = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert names == {"model.onnx", "contract.json", *FILES, "schema.json", "parity.json", "golden.parquet"}
    contract = ModelContract.model_validate_json((folder / "contract.json").read_text())
    assert contract.ranker_digest == shop.ranker.digest
    assert contract.schema_ == read_schema(shop.ranker_dir)
    assert contract.tasks == ("like", "love", "love_given_like")
    assert all((folder / name).read_bytes() == (shop.ranker_dir / name).read_bytes() for name in FILES)
    parity = ParityReport.model_validate_json((folder / "parity.json").read_text())
    assert parity.passed and len(parity.cases) == 36
    train = read_encoded(shop.dataset_dir, "train", contract.schema_)
    with torch.inference_mode():
        hidden = load_ranker(shop.ranker_dir)({n: torch.from_numpy(v) for n, v in train.padded().items()})
    np.testing.assert_allclose(contract.hidden_mean, hidden["hidden"].mean(dim=0).numpy(), atol=1e-5)


def test_a_request_has_a_graph_of_its_own_beside_the_same_model(shop: Shop, exported: StageResult) -> None:
    asked = {"shape": "request", "context": ["age_band"]}
    result = run_stage(shop.settings, "export_onnx", asked, True, ranker=shop.ranker, dataset=shop.dataset)
    folder, plain = (shop.folder(stage.outputs["onnx_model"]) for stage in (result, exported))
    added = {"request.onnx", "request.json", "request_parity.json"}
    assert {path.name for path in folder.iterdir()} == {path.name for path in plain.iterdir()} | added
    for name in ("model.onnx", "contract.json", "parity.json"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    parity = ParityReport.model_validate_json((folder / "request_parity.json").read_text())
    assert parity.passed and len(parity.cases) == 36
    graph = RequestGraph.open(ServedModel.open(folder, "cpu"), "cpu")
    assert {"user_id", "age_band"} <= set(graph.once) and "item_id" not in graph.once


def test_a_graph_in_float16_says_so_and_is_half_as_large(shop: Shop, exported: StageResult) -> None:
    asked = {"precision": "float16", "shape": "request", "context": ["age_band"]}
    result = run_stage(shop.settings, "export_onnx", asked, True, ranker=shop.ranker, dataset=shop.dataset)
    folder, plain = (shop.folder(stage.outputs["onnx_model"]) for stage in (result, exported))
    for name in ("parity.json", "request_parity.json"):
        told = json.loads((folder / name).read_text())
        assert (told["passed"], told["precision"], told["tolerance"]) == (True, "float16", 1e-2)
    assert "precision" not in json.loads((plain / "parity.json").read_text())
    assert "in float16" in result.notes[0]
    assert (folder / "model.onnx").stat().st_size < 0.7 * (plain / "model.onnx").stat().st_size
    model, other = ServedModel.open(folder, "cpu"), ServedModel.open(plain, "cpu")
    rows = pq.read_table(shop.dataset_dir / "raw" / "test.parquet").slice(0, 50)
    short, long = answer(model, rows, value=model.value), answer(other, rows, value=other.value)
    for task, values in short.tasks.items():
        np.testing.assert_allclose(values, long.tasks[task], atol=1e-2)
    RequestGraph.open(model, "cpu")


def test_the_same_ranker_gives_the_same_artifacts(shop: Shop, exported: StageResult, evaluated: StageResult) -> None:
    again = shop.run("export_onnx", cache=False, ranker=shop.ranker, dataset=shop.dataset)
    assert again.outputs["onnx_model"].digest == exported.outputs["onnx_model"].digest
    report = shop.run("evaluate_ranker", cache=False, model=again.outputs["onnx_model"], dataset=shop.dataset)
    assert report.outputs["report"].digest == evaluated.outputs["report"].digest
    assert shop.run("evaluate_ranker", model=again.outputs["onnx_model"], dataset=shop.dataset).cached


def test_the_reported_auc_is_torchs_on_the_same_rows(shop: Shop, evaluated: StageResult) -> None:
    """What training measures on encoded rows is what evaluation measures from raw rows through ONNX."""
    report = _report(shop, evaluated)
    split = read_encoded(shop.dataset_dir, "test", read_schema(shop.dataset_dir))
    with torch.inference_mode():
        answers = load_ranker(shop.ranker_dir)({n: torch.from_numpy(v) for n, v in split.padded().items()})
    liked = split.labels["like"] == 1
    for task, label, rows in (
        ("like", "like", slice(None)),
        ("love", "love", slice(None)),
        ("love_given_like", "love", liked),
    ):
        expected = auc(split.labels[label][rows], answers[task].numpy()[rows])
        assert report.cell(task).metrics["auc"].value == pytest.approx(expected, abs=5e-5)
        assert expected is not None and expected > 0.55


def _report(shop: Shop, evaluated: StageResult) -> Evaluation:
    folder = shop.folder(evaluated.outputs["report"])
    return Evaluation.model_validate_json((folder / "report.json").read_text())


def test_the_report_holds_every_cell_and_the_page_stands_alone(
    shop: Shop, exported: StageResult, evaluated: StageResult
) -> None:
    folder, report = shop.folder(evaluated.outputs["report"]), _report(shop, evaluated)
    assert report.model_digest == exported.outputs["onnx_model"].digest
    assert report.dataset_digest == shop.dataset.digest
    assert (report.rows, report.split, report.resamples) == (400, "test", 50)
    assert len(report.cells) == 3 * 4
    for cell in report.cells:
        assert cell.metrics["auc"].low is not None
        assert set(cell.metrics) == {"auc", "gauc", "log_loss", "normalised_entropy", "ece", "pcoc"}
    assert sum(b.rows for b in report.calibration if (b.task, b.domain) == ("love", "all")) == 400
    page = (folder / "report.html").read_text()
    assert "under_25" in page and "http" not in page
    assert len(list((folder / "plots").glob("*.png"))) == 5
    assert [note.split(" AUC")[0] for note in evaluated.notes[:3]] == ["like", "love", "love_given_like"]


def test_the_predictions_are_those_of_the_served_model(
    shop: Shop, exported: StageResult, evaluated: StageResult
) -> None:
    table = pq.read_table(shop.folder(evaluated.outputs["report"]) / "predictions.parquet")
    raw = pq.read_table(shop.dataset_dir / "raw" / "test.parquet")
    scores = answer(ServedModel.open(shop.folder(exported.outputs["onnx_model"])), raw)
    assert table["row_id"].to_pylist() == raw["row_id"].to_pylist()
    assert table["user"].to_pylist() == raw["user_id"].to_pylist()
    assert table["label_love"].to_pylist() == raw["love"].to_pylist()
    np.testing.assert_array_equal(table["predicted_love"].to_numpy(), scores.tasks["love"])


@pytest.fixture
def writes(shop: Shop, exported: StageResult, monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Let the exporter, which takes seconds, write its earlier graph with weights changed by a function."""
    from components.judge.export_onnx import graph

    known = onnx.load(str(shop.folder(exported.outputs["onnx_model"]) / "model.onnx"))

    def use(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> None:
        def write(ranker: object, schema: object, tasks: object, path: Path, tables: object) -> None:
            other = onnx.ModelProto.FromString(known.SerializeToString())
            for weight in other.graph.initializer:
                values = onnx.numpy_helper.to_array(weight)
                if values.dtype == np.float32:
                    weight.CopyFrom(onnx.numpy_helper.from_array(change(values), weight.name))
            path.write_bytes(other.SerializeToString(deterministic=True))

        monkeypatch.setattr(graph, "export_graph", write)

    return use


def test_a_graph_that_answers_otherwise_is_not_published(shop: Shop, writes: Writes) -> None:
    """The exporter writes a graph of slightly other weights: the stage must notice and publish nothing."""
    writes(lambda values: values + np.float32(0.01) if values.ndim == 2 else values)
    published = sorted(Path(shop.settings.home / "artifacts").rglob("stage.json"))
    with pytest.raises(ParityError, match="nothing was published"):
        shop.run("export_onnx", cache=False, ranker=shop.ranker, dataset=shop.dataset)
    assert sorted(Path(shop.settings.home / "artifacts").rglob("stage.json")) == published
    kept = json.loads((shop.settings.runs / "shop" / "manual" / "export_onnx" / "parity.json").read_text())
    assert kept["passed"] is False


def test_weights_that_are_no_numbers_fail_parity(shop: Shop, tmp_path: Path, writes: Writes) -> None:
    broken = Path(shutil.copytree(shop.ranker_dir, tmp_path / "broken"))
    weights = load_file(str(broken / "weights.safetensors"))
    save_file({name: value * float("nan") for name, value in weights.items()}, str(broken / "weights.safetensors"))
    ranker = publish(shop.settings, Ranker, broken)
    writes(lambda values: values * np.float32("nan"))
    with pytest.raises(ParityError, match="is not a number"):
        shop.run("export_onnx", ranker=ranker, dataset=shop.dataset)


def test_a_data_set_of_another_ranker_is_refused(shop: Shop, tmp_path: Path) -> None:
    from tests.worlds import write_training_set

    other = publish(shop.settings, TrainingSet, write_training_set(tmp_path / "other", rows=400, users=20, items=10))
    with pytest.raises(BadInputError, match="encoded with other fields"):
        shop.run("export_onnx", ranker=shop.ranker, dataset=other)


def test_a_tampered_model_is_refused(shop: Shop, exported: StageResult, tmp_path: Path) -> None:
    source = shop.folder(exported.outputs["onnx_model"])
    tampered = tmp_path / "tampered"
    tampered.mkdir()
    for path in source.iterdir():
        if path.name != "manifest.json":
            (tampered / path.name).write_bytes(path.read_bytes())
    (tampered / "model.onnx").write_bytes((source / "model.onnx").read_bytes()[:3000])
    model = publish(shop.settings, OnnxModel, tampered)
    with pytest.raises(BadInputError, match="not a readable ONNX graph"):
        shop.run("evaluate_ranker", model=model, dataset=shop.dataset)


@pytest.mark.engine
def test_figures_and_page_reach_the_run_of_the_training(shop: Shop, writes: Writes) -> None:
    from mlflow import MlflowClient

    (shop.settings.home / "mlflow").mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=shop.settings.tracking_uri)
    experiment = client.create_experiment("shop", artifact_location=shop.settings.mlflow_artifacts)
    run_id = client.create_run(experiment).info.run_id
    ranker = publish(shop.settings, Ranker, shop.ranker_dir, {"mlflow_run_id": run_id})
    writes(lambda values: values)
    # The annotation is no part of the digest, so the cache would take the export without it.
    model = shop.run("export_onnx", cache=False, ranker=ranker, dataset=shop.dataset).outputs["onnx_model"]
    result = shop.run("evaluate_ranker", cache=False, model=model, dataset=shop.dataset)
    report = _report(shop, result)
    logged = client.get_run(run_id).data.metrics
    assert logged["test/love/auc"] == report.cell("love").metrics["auc"].value
    assert logged["test/like/under_25/pcoc"] == report.cell("like", "under_25").metrics["pcoc"].value
    assert {f.path for f in client.list_artifacts(run_id, "evaluation")} == {
        "evaluation/plots",
        "evaluation/report.html",
    }

    gone = publish(shop.settings, OnnxModel, shop.folder(model), {"mlflow_run_id": "0" * 32})
    elsewhere = shop.run("evaluate_ranker", cache=False, model=gone, dataset=shop.dataset)
    assert any("not in MLflow" in note and f"has no run {'0' * 32}" in note for note in elsewhere.notes)


@pytest.mark.engine
def test_a_tracker_that_does_not_answer_is_worth_a_retry(
    shop: Shop, exported: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.judge.evaluate_ranker.publish import log_evaluation
    from registry.versions.tracking import TrackedRun, run_of_training

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    evaluated = shop.run("evaluate_ranker", model=exported.outputs["onnx_model"], dataset=shop.dataset)
    folder = shop.folder(evaluated.outputs["report"])
    for uri in ("http://ada:secret@127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"):
        with pytest.raises(RetryableError, match=r"does not answer|cannot be written") as error:
            log_evaluation(TrackedRun(uri, "0" * 32), _report(shop, evaluated), folder)
        assert "\n" not in str(error.value) and "secret" not in str(error.value)
        with pytest.raises(RetryableError, match=r"does not answer|cannot be written"):
            run_of_training(uri, "0" * 32)
