"""Does the baseline learn what is there, judge itself as rankers are judged, and say so when LightGBM is missing?"""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from components.data.training_set import read_schema
from components.platform.artifacts import TrainingSet
from components.platform.errors import MissingError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from registry.evaluation import Evaluation
from tests.trained import publish

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 31, tzinfo=UTC))
SMALL = {"rounds": 60, "leaves": 7, "patience": 20, "bootstrap": 0}


def fit(settings: Settings, training_set_dir: Path, **config: object) -> StageResult:
    dataset = publish(settings, TrainingSet, training_set_dir)
    request = StageRequest(component="fit_lightgbm", config=SMALL | config, inputs={"dataset": dataset}, window=WINDOW)
    return execute(request, settings)


def folder(settings: Settings, result: StageResult) -> Path:
    return open_store(settings).fetch(result.outputs["report"].load())


def test_without_lightgbm_it_says_what_to_install(
    tmp_path: Path, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingError, match=r"^LightGBM is not installed: run `pip install .*\[results\]'`$"):
        fit(Settings.at(tmp_path), training_set_dir)


def test_rows_count_by_their_weights(tmp_path: Path, training_set_dir: Path) -> None:
    """A positive that says what three do makes the odds of every answer about three times what they were."""
    weighted = tmp_path / "weighted"
    shutil.copytree(training_set_dir, weighted)
    for file in (weighted / "raw").iterdir():
        rows = pq.read_table(file)
        weights = pa.array(np.where(rows["like"].to_numpy() == 1, 3.0, 1.0).astype(np.float32))
        pq.write_table(rows.append_column("like__weight", weights), file)
    settings = Settings.at(tmp_path)
    odds = []
    for directory in (training_set_dir, weighted):
        published = folder(settings, fit(settings, directory))
        p = pq.read_table(published / "predictions.parquet")["predicted_like"].to_numpy()
        odds.append(np.log(p / (1 - p)).mean())
    assert odds[1] - odds[0] == pytest.approx(np.log(3), abs=0.2)


def test_it_learns_and_reports_the_figures_of_its_predictions(tmp_path: Path, training_set_dir: Path) -> None:
    settings = Settings.at(tmp_path)
    result = fit(settings, training_set_dir)
    published = folder(settings, result)
    report = Evaluation.model_validate_json((published / "report.json").read_text())
    raw = pq.read_table(training_set_dir / "raw" / "test.parquet")
    said = pq.read_table(published / "predictions.parquet")
    assert said["row_id"].equals(raw["row_id"])
    for task in ("like", "love"):
        metrics = report.cell(task).metrics
        truth, score = raw[task].to_numpy(), said[f"predicted_{task}"].to_numpy()
        assert metrics["auc"].value == pytest.approx(roc_auc_score(truth, score))
        assert metrics["log_loss"].value == pytest.approx(log_loss(truth, score), abs=1e-6)
        assert 0.6 < (metrics["auc"].value or 0) < 1
    liked = raw["like"].to_numpy() == 1
    conditional = report.cell("love_given_like")
    assert conditional.rows == liked.sum()
    assert conditional.metrics["auc"].value == pytest.approx(
        roc_auc_score(raw["love"].to_numpy()[liked], said["predicted_love_given_like"].to_numpy()[liked])
    )


def test_what_the_training_set_judges_by_is_told_of_validation(tmp_path: Path, training_set_dir: Path) -> None:
    judged = tmp_path / "judged"
    shutil.copytree(training_set_dir, judged)
    schema = read_schema(judged)
    roles = schema.declaration.model_copy(update={"judge_by": "gauc"})
    (judged / "schema.json").write_text(schema.model_copy(update={"declaration": roles}).model_dump_json())
    settings = Settings.at(tmp_path)
    facts = open_store(settings).manifest(fit(settings, judged).outputs["report"].load()).annotations
    told = {name for name in facts if name.startswith("validation/like/")}
    assert told == {"validation/like/auc", "validation/like/gauc"}
    assert (
        0.5 < float(facts["validation/like/gauc"]) < 1 and facts["validation/like/gauc"] != facts["validation/like/auc"]
    )


def test_its_seeds_are_recorded_and_decide_the_trees(tmp_path: Path, training_set_dir: Path) -> None:
    settings = Settings.at(tmp_path)
    again, other = (fit(settings, training_set_dir, seed=seed) for seed in (3, 4))
    settings_of = json.loads((folder(settings, again) / "trees.json").read_text())["settings"]
    names = ("seed", "data_random_seed", "bagging_seed", "feature_fraction_seed")
    assert [settings_of[name] for name in names] == [3, 3, 3, 3]
    first, second = (pq.read_table(folder(settings, r) / "predictions.parquet") for r in (again, other))
    assert not first.equals(second)
    repeated = fit(Settings.at(tmp_path / "elsewhere"), training_set_dir, seed=3)
    assert pq.read_table(folder(Settings.at(tmp_path / "elsewhere"), repeated) / "predictions.parquet").equals(first)
