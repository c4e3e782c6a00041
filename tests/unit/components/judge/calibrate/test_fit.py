"""Do the fitted curves find a planted miscalibration, and stay sane where there is little to learn from?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from components.judge.calibrate_ranker.config import Config
from components.judge.calibrate_ranker.fit import fit_isotonic, fit_platt, fit_stage
from registry.metrics import ece, pcoc
from registry.serving.scores.calibration import Identity, Platt, logit, sigmoid


def planted(rows: int = 20_000, slope: float = 1.6, intercept: float = -0.8, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return answers whose truth is σ(slope · logit + intercept), and labels drawn from it."""
    rng = np.random.default_rng(seed)
    p = sigmoid(rng.normal(-1, 1.2, rows))
    return p, (rng.random(rows) < sigmoid(slope * logit(p) + intercept)).astype(np.float64)


def test_platt_finds_the_planted_slope_and_level() -> None:
    p, y = planted()
    curve = fit_platt(p, y)
    assert curve.slope == pytest.approx(1.6, abs=0.08) and curve.intercept == pytest.approx(-0.8, abs=0.08)
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(p)[:, None], y)
    assert curve.slope == pytest.approx(peer.coef_[0, 0], abs=1e-4)
    assert curve.intercept == pytest.approx(peer.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_the_level_is_right_on_the_fitted_rows_and_on_new_ones(fit: object) -> None:
    p, y = planted()
    new_p, new_y = planted(seed=1)
    curve = fit(p, y)  # type: ignore[operator]  # one of two functions
    assert abs((pcoc(y, p) or 0) - 1) > 0.25, "the world must be miscalibrated, or nothing is shown"
    assert pcoc(y, curve.apply(p)) == pytest.approx(1, abs=1e-3)
    assert pcoc(new_y, curve.apply(new_p)) == pytest.approx(1, abs=0.05)
    assert (ece(new_y, curve.apply(new_p)) or 1) < 0.25 * (ece(new_y, new_p) or 0)


def test_isotonic_is_the_pooled_means_of_a_worked_example() -> None:
    """Labels 0 1 0 1 in the order of the answers: the middle two violate the order and share their mean."""
    curve = fit_isotonic(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(
        curve.apply(np.array([0.01, 0.1, 0.2, 0.25, 0.3, 0.4, 0.9])), [1 / 6, 1 / 6, 0.5, 0.5, 0.5, 5 / 6, 5 / 6]
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=40), st.sampled_from(["platt", "isotonic"])
)
def test_a_curve_never_turns_a_ranking_over(rows: list[tuple[float, bool]], method: str) -> None:
    p, y = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    curve = fit_platt(p, y) if method == "platt" else fit_isotonic(p, y)
    answers = curve.apply(np.sort(p))
    assert np.isfinite(answers).all() and ((answers >= 0) & (answers <= 1)).all()
    assert (np.diff(answers) >= 0).all()


def test_a_model_that_ranks_backwards_is_only_moved() -> None:
    p, y = planted(slope=-1.0, intercept=-2.0)
    curve = fit_platt(p, y)
    assert curve.slope == 1.0
    assert pcoc(y, curve.apply(p)) == pytest.approx(1, abs=1e-6)


def test_labels_that_the_answers_separate_give_finite_numbers() -> None:
    p = np.linspace(0.01, 0.99, 200)
    curve = fit_platt(p, (p > 0.5).astype(np.float64))
    assert np.isfinite([curve.slope, curve.intercept]).all() and curve.slope > 1


def stage_of(rows: int, positives: int, **changed: object) -> tuple[str, ...]:
    """Return which domains get a curve of their own: `big` always could, `small` has the given rows."""
    p, y = planted(2000)
    p, y = np.concatenate([p, np.full(rows, 0.3)]), np.concatenate([y, np.zeros(rows)])
    y[2000 : 2000 + positives] = 1
    codes = np.repeat([0, 1], [2000, rows])
    config = Config.model_validate({"min_rows": 100, "min_positives": 10, **changed})
    stage = fit_stage("click", p, y, codes, ("big", "small"), config)
    assert isinstance(stage.pooled, Platt)
    return tuple(stage.domains)


@pytest.mark.parametrize(
    ("rows", "positives", "own"),
    [(100, 10, True), (99, 10, False), (100, 9, False), (100, 95, False), (100, 0, False)],
)
def test_a_domain_needs_enough_rows_of_either_label(rows: int, positives: int, own: bool) -> None:
    assert stage_of(rows, positives) == (("big", "small") if own else ("big",))


def test_a_stage_of_one_class_keeps_the_graphs_answer() -> None:
    stage = fit_stage("click", np.full(900, 0.2), np.zeros(900), np.zeros(900, dtype=np.int64), ("a",), Config())
    assert stage.pooled == Identity() and stage.domains == {}


def test_rows_without_a_domain_fit_the_pooled_curve_only() -> None:
    p, y = planted(3000)
    stage = fit_stage("click", p, y, np.full(3000, -1), ("a",), Config())
    assert stage.domains == {} and stage.pooled == fit_platt(p, y)


def test_the_same_rows_give_the_same_bits_in_any_domain_order() -> None:
    p, y = planted(4000)
    codes = np.random.default_rng(3).integers(0, 3, 4000)
    first = fit_stage("click", p, y, codes, ("a", "b", "c"), Config())
    assert first.model_dump_json() == fit_stage("click", p, y, codes, ("a", "b", "c"), Config()).model_dump_json()
    assert first.domains["b"] == fit_platt(p[codes == 1], y[codes == 1])
