"""Do calibration, value and reasons, run as stages and commands, reach what is evaluated, registered and served?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from components.data.training_set import read_raw
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.errors import BadInputError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from registry.evaluation import Evaluation
from registry.metrics import pcoc
from registry.serving.answers.answer import answer
from registry.serving.evidence.golden import GOLDEN, ROWS, check_golden
from registry.serving.model.served_model import Batch, ServedModel
from registry.serving.scores.calibration import Calibration, Isotonic, Platt
from tests.homes import ready
from tests.stages import run_stage
from tests.trained import publish, write_ranker
from tests.worlds import BANDS, write_training_set

if TYPE_CHECKING:
    from tests.known_graphs import KnownGraphs

ENOUGH = {"min_rows": 100, "min_positives": 20}
VALUE = {"25_34": 100.0, "35_plus": 10.0, "under_25": 1.0}


@dataclass(frozen=True)
class Shop:
    """A store with a training set and exported rankers."""

    settings: Settings
    dataset_dir: Path
    dataset: ArtifactRef

    def run(self, component: str, config: dict[str, Any], cache: bool = True, **inputs: ArtifactRef) -> StageResult:
        return run_stage(self.settings, component, config, cache, **inputs)

    def calibrate(self, model: ArtifactRef, dataset: ArtifactRef | None = None, **config: Any) -> StageResult:
        return self.run("calibrate_ranker", ENOUGH | config, model=model, dataset=dataset or self.dataset)

    def folder(self, ref: ArtifactRef) -> Path:
        return open_store(self.settings).fetch(ref.load())

    def read(self, result: StageResult) -> Calibration:
        path = self.folder(result.outputs["onnx_model"]) / "calibration.json"
        return Calibration.model_validate_json(path.read_bytes())


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Shop:
    home = tmp_path_factory.mktemp("shop")
    settings = ready(home / "home", engines)
    dataset = write_training_set(home / "dataset", rows=8000)
    return Shop(settings=settings, dataset_dir=dataset, dataset=publish(settings, TrainingSet, dataset))


@pytest.fixture(scope="module")
def exported(shop: Shop, tmp_path_factory: pytest.TempPathFactory, graphs: KnownGraphs) -> dict[str, ArtifactRef]:
    """Three kinds of rankers; the linear one overestimates every probability, as after sampling of negatives."""
    made = {}
    for name in ("lr", "esmm", "gnolr"):
        directory = write_ranker(tmp_path_factory.mktemp(name), shop.dataset_dir, name, steps=60)
        if name == "lr":
            weights = load_file(str(directory / "weights.safetensors"))
            weights["bias"] += 0.9
            save_file(weights, str(directory / "weights.safetensors"))
        ranker = publish(shop.settings, Ranker, directory)
        with graphs.used():
            made[name] = shop.run("export_onnx", {}, ranker=ranker, dataset=shop.dataset).outputs["onnx_model"]
    return made


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@pytest.mark.parametrize("ranker", ["lr", "esmm", "gnolr"])
def test_every_ranker_is_calibrated_in_every_domain(
    shop: Shop, exported: dict[str, ArtifactRef], ranker: str, method: str
) -> None:
    result = shop.calibrate(exported[ranker], method=method)
    plain, folder = shop.folder(exported[ranker]), shop.folder(result.outputs["onnx_model"])
    names = {path.name for path in plain.iterdir()} - {"manifest.json"}
    assert {path.name for path in folder.iterdir()} - {"manifest.json"} == names | {"calibration.json"}
    # Golden rows are answered through the calibration.
    assert all((plain / name).read_bytes() == (folder / name).read_bytes() for name in names - {GOLDEN})
    assert check_golden(ServedModel.open(folder)) == 0

    calibration = shop.read(result)
    assert [stage.task for stage in calibration.stages] == ["like", "love_given_like"]
    kind = Platt if method == "platt" else Isotonic
    assert all(isinstance(c, kind) for s in calibration.stages for c in (s.pooled, *s.domains.values()))
    assert set(calibration.stages[0].domains) == set(BANDS)

    table = read_raw(shop.dataset_dir, "validation")
    model, graph = ServedModel.open(folder), ServedModel.open(plain)
    scores, raw = answer(model, table), answer(graph, table)
    bands, liked = np.array(table["age_band"].to_pylist()), table["like"].to_numpy() == 1
    for stage, label, judged in zip(calibration.stages, ("like", "love"), (liked | True, liked), strict=True):
        assert stage.domains
        for band in stage.domains:
            rows = (bands == band) & judged
            assert pcoc(table[label].to_numpy()[rows], scores.tasks[stage.task][rows]) == pytest.approx(1, abs=0.005)
    assert any(np.abs(scores.tasks[t] - raw.tasks[t]).max() > 0.01 for t in scores.tasks)
    assert (scores.tasks["love"] <= scores.tasks["like"]).all()
    np.testing.assert_array_equal(scores.hidden, raw.hidden)


def test_the_graph_scores_each_split_once(
    shop: Shop, exported: dict[str, ArtifactRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    run = ServedModel.run

    def counted(model: ServedModel, batch: Batch) -> Any:
        scored.append(len(next(iter(batch.values()))))
        return run(model, batch)

    monkeypatch.setattr(ServedModel, "run", counted)
    shop.run("calibrate_ranker", ENOUGH, cache=False, model=exported["lr"], dataset=shop.dataset)
    assert scored == [*(read_raw(shop.dataset_dir, split).num_rows for split in ("validation", "test")), ROWS]


def test_a_planted_overestimate_is_gone_on_test_and_the_evaluation_sees_it(
    shop: Shop, exported: dict[str, ArtifactRef]
) -> None:
    result = shop.calibrate(exported["lr"])
    cells = {(c.split, c.task, c.domain): c for c in shop.read(result).cells}
    assert len(cells) == 2 * 3 * 4
    for band in ("all", *BANDS):
        cell = cells["test", "like", band]
        before, after = (abs(np.log(value or 0)) for value in cell.pcoc)
        assert before > 0.2 and after < 0.35 * before, cell
        assert (cell.ece[1] or 1) < (cell.ece[0] or 0) and (cell.log_loss[1] or 1) < (cell.log_loss[0] or 0)
    report = shop.run(
        "evaluate_ranker", {"bootstrap": 0}, model=result.outputs["onnx_model"], dataset=shop.dataset
    ).outputs["report"]
    evaluation = Evaluation.model_validate_json((shop.folder(report) / "report.json").read_bytes())
    for band in ("all", *BANDS):
        assert evaluation.cell("love", band).metrics["pcoc"].value == pytest.approx(cells["test", "love", band].pcoc[1])
    assert result.notes[0] == "like: platt on every row; 3 of 3 domains have a curve of their own"
    assert any(note.startswith("test like: PCOC 1.") for note in result.notes)


@pytest.mark.parametrize(("split", "same"), [("train", True), ("test", True), ("validation", False)])
def test_the_curves_see_the_validation_split_only(
    shop: Shop, exported: dict[str, ArtifactRef], tmp_path: Path, split: str, same: bool
) -> None:
    """Labels of one split are turned round; only validation may change a curve."""
    changed = Path(shutil.copytree(shop.dataset_dir, tmp_path / "changed"))
    path = changed / "raw" / f"{split}.parquet"
    table = pq.read_table(path)
    zeros = pa.array(np.zeros(table.num_rows, np.int8))
    likes = pa.array(1 - table["like"].to_numpy())
    table = table.set_column(table.column_names.index("like"), "like", likes)
    pq.write_table(table.set_column(table.column_names.index("love"), "love", zeros), path)
    first = shop.read(shop.calibrate(exported["esmm"]))
    second = shop.read(shop.calibrate(exported["esmm"], publish(shop.settings, TrainingSet, changed)))
    assert (first.stages == second.stages) is same


def test_calibrating_again_starts_from_the_graph(shop: Shop, exported: dict[str, ArtifactRef]) -> None:
    once = shop.calibrate(exported["lr"])
    twice = shop.run("calibrate_ranker", ENOUGH, cache=False, model=once.outputs["onnx_model"], dataset=shop.dataset)
    assert twice.outputs["onnx_model"].digest == once.outputs["onnx_model"].digest
    assert once.outputs["onnx_model"].digest != exported["lr"].digest


def test_too_few_rows_share_the_pooled_curve(shop: Shop, exported: dict[str, ArtifactRef]) -> None:
    result = shop.calibrate(exported["esmm"], min_rows=100_000)
    stages = shop.read(result).stages
    assert all(stage.domains == {} and isinstance(stage.pooled, Platt) for stage in stages)
    assert result.notes[0] == "like: platt on every row; 0 of 3 domains have a curve of their own"


def test_what_cannot_be_calibrated_is_one_sentence(
    shop: Shop, exported: dict[str, ArtifactRef], tmp_path: Path
) -> None:
    for config, says in (
        ({"value": {"under_52": 1.0}}, "did you mean 'under_25'"),
        ({"value": {"under_25": 1.0}}, "no number for product '25_34'"),
    ):
        with pytest.raises(BadInputError, match=says):
            shop.calibrate(exported["esmm"], **config)
    other = publish(shop.settings, TrainingSet, write_training_set(tmp_path / "other", rows=400, users=20, items=10))
    with pytest.raises(BadInputError, match="encoded with other fields"):
        shop.calibrate(exported["esmm"], other)


def test_the_domain_is_needed_only_where_the_curves_differ_by_it(shop: Shop, exported: dict[str, ArtifactRef]) -> None:
    """The world's ranker reads the band itself, so a ranker that does not is played by its calibration alone."""
    model = ServedModel.open(shop.folder(shop.calibrate(exported["esmm"]).outputs["onnx_model"]))
    rows = read_raw(shop.dataset_dir, "test").slice(0, 3)
    unseen = rows.set_column(
        rows.column_names.index("age_band"), "age_band", pa.array(["new", None, "new"], pa.string())
    )
    calibration = model.calibration
    assert calibration is not None
    raw = answer(replace(model, calibration=None), unseen).tasks
    expected = calibration.stages[0].pooled.apply(raw["like"])
    np.testing.assert_array_equal(answer(model, unseen).tasks["like"], expected)


@pytest.fixture
def rankmill(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run one command in the shop's home and return what it printed; errors pass through."""
    from pipelines.cli.main import app

    monkeypatch.setenv("RANKMILL_HOME", str(shop.settings.home))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.output

    return run


@pytest.mark.engine
def test_a_registered_version_carries_its_calibration_scores_by_value_and_explains(
    shop: Shop, exported: dict[str, ArtifactRef], rankmill: Callable[..., str], tmp_path: Path
) -> None:
    from registry.versions.client import Registry
    from registry.versions.database import initialise
    from registry.versions.seal import check_seal

    settings = shop.settings
    initialise(settings.tracking_uri, settings.mlflow_artifacts)
    calibrated = shop.calibrate(exported["esmm"], value=VALUE).outputs["onnx_model"]
    for model in (exported["esmm"], calibrated):
        report = shop.run("evaluate_ranker", {"bootstrap": 0}, model=model, dataset=shop.dataset).outputs["report"]
        shop.run("register_model", {"model": "shop_ranker"}, model=model, report=report)
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    assert len(registry.versions("shop_ranker")) == 2, "a calibrated model is another version"

    found = registry.download("shop_ranker", 2, tmp_path / "v2")
    expected = (shop.folder(calibrated) / "calibration.json").read_bytes()
    assert (found / "calibration.json").read_bytes() == expected
    [seal] = [v.tags["rankmill.seal"] for v in registry.versions("shop_ranker") if v.version.version == 2]
    (found / "calibration.json").write_bytes(expected + b" ")
    with pytest.raises(BadInputError, match=r"calibration.json of it was changed"):
        check_seal(found, seal, "it")

    rows = tmp_path / "rows.parquet"
    table = read_raw(shop.dataset_dir, "test").slice(0, 200)
    pq.write_table(table, rows)
    out = tmp_path / "scores.parquet"
    assert "calibrated" in rankmill("score", "shop_ranker", rows, out, "--which", 2)
    scores = pq.read_table(out)
    worth = np.array([VALUE[band] for band in table["age_band"].to_pylist()])
    np.testing.assert_array_equal(
        scores["love"], answer(ServedModel.open(shop.folder(calibrated)), table).tasks["love"]
    )
    np.testing.assert_allclose(scores["expected_value"], scores["love"].to_numpy() * worth)
    rankmill("score", "shop_ranker", rows, out, "--which", 2, "--value", "under_25=7")
    changed = np.where(worth == 1, 7, worth)
    np.testing.assert_allclose(pq.read_table(out)["expected_value"], scores["love"].to_numpy() * changed)
    assert "calibrated" not in rankmill("score", "shop_ranker", rows, out, "--which", 1)
    plain = pq.read_table(out)
    assert plain["expected_value"] == plain["love"]
    for wrong, says in (
        ("under_52=1", "did you mean 'under_25'"),
        ("under_25=-1", "at least 0"),
        ("7", "PRODUCT=NUMBER"),
    ):
        with pytest.raises(BadInputError, match=says):
            rankmill("score", "shop_ranker", rows, out, "--which", 2, "--value", wrong)

    reasons = tmp_path / "reasons.json"
    shown = rankmill("explain", "shop_ranker", rows, "--which", 2, "--task", "like", "--top", 2, "--out", reasons)
    assert "200 answers of shop_ranker v2 for like explained by 5 groups" in shown
    assert shown.count("attributes") >= 10
    told = json.loads(reasons.read_text())
    assert len(told) == 200 and set(told[0]) == {
        *("row_id", "user_id", "item_id", "probability", "reason_1", "effect_1", "reason_2", "effect_2")
    }
    np.testing.assert_allclose([row["probability"] for row in told], scores["like"])
    assert all(abs(row["effect_1"]) >= abs(row["effect_2"] or 0) for row in told)
    shown = rankmill("explain", "shop_ranker", rows, "--which", 2, "--by", "recent_likes", "--shown", 0,
                     "--out", tmp_path / "reasons.parquet")  # fmt: skip
    assert "for love explained by 7 groups" in shown
    assert pq.read_table(tmp_path / "reasons.parquet").num_rows == 200
    shared = ("--which", 2, "--method", "shapley", "--top", 9, "--out", tmp_path / "shared.parquet")
    assert "explained by 5 groups, shapley, 32 passes of the graph" in rankmill("explain", "shop_ranker", rows, *shared)
    by_group = pq.read_table(tmp_path / "shared.parquet").to_pandas()
    effects = by_group[[name for name in by_group.columns if name.startswith("effect_")]].sum(axis=1)
    # Effects below 1e-5 are no reasons and are not written.
    np.testing.assert_allclose(effects, by_group["logit"] - by_group["reference_logit"], atol=1e-4)
    shown = rankmill("explain", "shop_ranker", rows, "--by", "feature", "--group", "who=user_id,age_band", *shared)
    assert "8 groups, shapley" in shown and "who" in {
        *pq.read_table(tmp_path / "shared.parquet")["reason_1"].to_pylist()
    }
    for wrong in ("who", "=user_id"):
        with pytest.raises(BadInputError, match="write NAME=FEATURE,FEATURE"):
            rankmill("explain", "shop_ranker", rows, "--which", 2, "--group", wrong)
    with pytest.raises(BadInputError, match=r"suffix .parquet or .json"):
        rankmill("explain", "shop_ranker", rows, "--out", tmp_path / "x.csv")
