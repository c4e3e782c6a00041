"""Do rows count by their weights where that is asked for, as scikit-learn has it, and exactly once where all are 1?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from components.judge.evaluate_ranker.cells import judge
from components.judge.evaluate_ranker.config import Config
from components.judge.evaluate_ranker.page import render
from components.judge.evaluate_ranker.publish import Scored, weighted_note, write_report
from components.judge.evaluate_ranker.rows import Judged
from components.platform.errors import BadInputError
from components.rankers.tasks import tasks_of
from features.declaration import Declaration
from registry.evaluation import Cell
from registry.metrics import METRICS, REQUEST_METRICS, Requests, paired_bootstrap, value_of
from registry.metrics.resampling import stable_paired_bootstrap

RNG = np.random.default_rng(3)
ROWS, PER = 600, 6
LIKE = (RNG.random(ROWS) < 0.3).astype(float)
LOVE = LIKE * (RNG.random(ROWS) < 0.5)
REQUEST = np.arange(ROWS) // PER
SCORES = {name: RNG.random(ROWS).round(2) for name in ("like", "love", "love_given_like")}
WEIGHTS = RNG.choice([0.0, 0.5, 1.0, 4.0], ROWS)
TASKS = tasks_of(Declaration(feedback=("like", "love")))
ROWS_ = Judged(
    labels={"like": LIKE, "love": LOVE}, user=REQUEST // 4, domain=None, start=None, end=None, request=REQUEST,
)  # fmt: skip


def cells(weights: dict[str, Any], weighted: bool = True) -> dict[str, Cell]:
    rows = replace(ROWS_, weights=weights)
    return {cell.task: cell for cell in judge(rows, SCORES, TASKS, (), Config(bootstrap=40, weighted=weighted))[0]}


def test_weights_of_one_give_the_same_figures_to_the_bit() -> None:
    plain, ones = cells({}, False), cells({"like": np.ones(ROWS), "love": np.ones(ROWS)})
    assert plain == ones
    assert cells({"like": WEIGHTS}, False) == plain


def test_figures_over_rows_are_those_of_scikit_learn() -> None:
    found, others = cells({"love": WEIGHTS}), cells({}, False)
    assert found["like"] == others["like"]  # it has no weights
    for task, inside in (("love", slice(None)), ("love_given_like", LIKE == 1)):
        y, p, w = LOVE[inside], SCORES[task][inside], WEIGHTS[inside]
        metrics = {name: interval.value for name, interval in found[task].metrics.items()}
        assert metrics["auc"] == pytest.approx(roc_auc_score(y, p, sample_weight=w))
        assert metrics["log_loss"] == pytest.approx(log_loss(y, np.clip(p, 1e-7, 1 - 1e-7), sample_weight=w))
        assert metrics["pcoc"] == pytest.approx((w * p).sum() / (w * y).sum())
        assert metrics["auc"] != others[task].metrics["auc"].value


def test_a_row_of_weight_two_is_two_rows_of_weight_one_in_what_needs_no_request() -> None:
    times = np.arange(ROWS) % 3
    twice = np.arange(ROWS).repeat(times)
    for metric in METRICS:
        if metric != "ece":  # whose bins are cut on rows
            counted = value_of(metric, LIKE, SCORES["like"], REQUEST, None, times)
            assert counted == pytest.approx(value_of(metric, LIKE[twice], SCORES["like"][twice], REQUEST[twice])), (
                metric
            )


def test_a_request_counts_by_the_mean_weight_of_its_positive_rows() -> None:
    for metric in REQUEST_METRICS:
        each, mass = [], []
        for request in range(ROWS // PER):
            at = request == REQUEST
            alone = value_of(metric, LIKE[at], SCORES["like"][at], np.zeros(PER), Requests(np.zeros(PER)))
            if metric == "request_auc":
                alone = value_of("auc", LIKE[at], SCORES["like"][at], np.zeros(PER), None, WEIGHTS[at])
            if alone is not None:
                each.append(alone)
                mass.append(WEIGHTS[at].sum() if metric == "request_auc" else WEIGHTS[at][LIKE[at] == 1].mean())
        found = value_of(metric, LIKE, SCORES["like"], REQUEST, Requests(REQUEST), WEIGHTS)
        assert found == pytest.approx(np.average(each, weights=mass)), metric


def test_two_models_are_compared_with_weights_on_the_same_draws() -> None:
    given: Any = (LIKE, SCORES["like"], SCORES["love"], REQUEST, "auc")
    plain = paired_bootstrap(*given, resamples=60)
    ones = stable_paired_bootstrap(*given, np.inf, 60, 60, weights=np.ones(ROWS))[0]
    assert ones == plain
    weighted = stable_paired_bootstrap(*given, np.inf, 60, 60, weights=WEIGHTS)[0]
    areas = [roc_auc_score(LIKE, SCORES[name], sample_weight=WEIGHTS) for name in ("like", "love")]
    assert weighted.value == pytest.approx(areas[0] - areas[1]) and weighted != plain


def test_a_report_says_so_and_is_refused_without_weights(tmp_path: Path) -> None:
    rows = replace(ROWS_, weights={"like": WEIGHTS})
    scored = Scored("dnn", "a" * 64, "b" * 64, "cpu", rows, SCORES, TASKS, None, ())
    report = write_report(tmp_path, scored, Config(bootstrap=0, weighted=True))
    assert report.weighted == ("like",) and weighted_note(report) == ("rows count by their weights for like",)
    assert "rows count by their weights for like" in render(report, "dnn", (), ())
    with pytest.raises(BadInputError, match="have no weights: declare some in build_training_set"):
        write_report(tmp_path, replace(scored, rows=ROWS_), Config(bootstrap=0, weighted=True))
