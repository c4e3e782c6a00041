"""Are bootstrap intervals what a resampling of users would give, and do they cover the truth?"""

from __future__ import annotations

import numpy as np
import pytest

from registry.evaluation import Interval, Metric
from registry.metrics import METRICS, auc, bootstrap_all, gauc, log_loss, paired_bootstrap, resampling
from registry.metrics.weighted import statistic


def _world(seed: int, users: int = 120, per_user: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose users differ a lot, so that rows of one user say nearly the same."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), per_user)
    score = rng.normal(0, 1.5, users)[user] + rng.normal(0, 0.3, user.size)
    label = rng.random(user.size) < 1 / (1 + np.exp(-score))
    return label.astype(int), 1 / (1 + np.exp(-score)), user


def bootstrap(
    y: np.ndarray, p: np.ndarray, user: np.ndarray, metric: Metric, resamples: int = 200, seed: int = 0
) -> Interval:
    return bootstrap_all(y, p, user, (metric,), resamples, seed)[metric]


def test_a_draw_is_the_metric_of_the_drawn_users_rows() -> None:
    y, p, user = _world(0, users=30)
    counts = next(resampling._drawn(np.random.default_rng(3), y.size, 30, 5))
    values, draws = resampling._evaluate(
        [statistic(m, y.astype(float), p, user, 30) for m in ("auc", "gauc", "log_loss")], y.size, 30, 5, 3
    )
    assert values[0] == pytest.approx(auc(y, p))
    for b in range(5):
        rows = np.concatenate([np.flatnonzero(user == u) for u in range(30) for _ in range(int(counts[u, b]))])
        # A user drawn twice counts as two users.
        copy = np.concatenate([np.full(8, 100 * u + c) for u in range(30) for c in range(int(counts[u, b]))])
        expected = [auc(y[rows], p[rows]), gauc(y[rows], p[rows], copy), log_loss(y[rows], p[rows])]
        assert draws[:, b] == pytest.approx(expected)
    assert counts.sum(axis=0).tolist() == [30.0] * 5


def test_the_same_seed_gives_the_same_interval_whatever_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    y, p, user = _world(1)
    first = bootstrap_all(y, p, user, resamples=40, seed=5)
    assert bootstrap_all(y, p, user, resamples=40, seed=5) == first
    assert bootstrap(y, p, user, "auc", resamples=40, seed=5) == first["auc"]
    assert bootstrap(y, p, user, "auc", resamples=40, seed=6) != first["auc"]
    monkeypatch.setattr(resampling, "_ELEMENTS", 7 * y.size)
    blocked = bootstrap_all(y, p, user, resamples=40, seed=5)
    assert blocked["auc"].low == pytest.approx(first["auc"].low, abs=0.01)


def test_intervals_hold_the_value() -> None:
    y, p, user = _world(2)
    for metric, interval in bootstrap_all(y, p, user).items():
        assert interval.low is not None and interval.high is not None and interval.value is not None
        assert interval.low < interval.value < interval.high, metric


def test_intervals_cover_the_truth_where_resampled_rows_would_not() -> None:
    """The truth is the AUC of a world of very many users; 95% intervals must hold it about that often."""
    y, p, _ = _world(99, users=40_000)
    truth = auc(y, p)
    assert truth is not None
    by_user = by_row = 0
    for seed in range(80):
        y, p, user = _world(seed, users=60, per_user=12)
        interval = bootstrap(y, p, user, "auc", resamples=150, seed=seed)
        naive = bootstrap(y, p, np.arange(y.size), "auc", resamples=150, seed=seed)
        by_user += interval.low <= truth <= interval.high  # type: ignore[operator]  # bounds exist here
        by_row += naive.low <= truth <= naive.high  # type: ignore[operator]  # bounds exist here
    assert 70 <= by_user <= 80
    assert by_row < by_user


def test_ece_of_a_calibrated_model_is_not_far_from_zero() -> None:
    y, p, user = _world(3, users=400)
    interval = bootstrap(y, p, user, "ece")
    assert interval.low is not None and interval.low < 0.03


def test_no_resamples_one_user_or_one_class_give_no_bounds() -> None:
    y, p, user = _world(4)
    assert bootstrap(y, p, user, "auc", resamples=0).low is None
    lonely = bootstrap(y, p, np.zeros_like(user), "auc")
    assert (lonely.value, lonely.low) == (auc(y, p), None)
    nothing = bootstrap_all(np.zeros_like(y), p, user)
    assert nothing["auc"].value is nothing["auc"].low is nothing["normalised_entropy"].value is None
    assert nothing["log_loss"].low is not None
    assert all(interval.value is None for interval in bootstrap_all([], [], []).values())


def test_positives_of_a_single_user_give_a_value_without_bounds() -> None:
    """37% of the resamples hold no positive at all: the others are no sample of what may happen."""
    y, p, user = _world(5, users=40)
    for metric in ("auc", "gauc", "pcoc"):
        lonely = bootstrap((user == 0) & (np.arange(y.size) % 2 == 0), p, user, metric)  # type: ignore[arg-type]  # a literal
        assert lonely.value is not None
        assert (lonely.low, lonely.high) == (None, None)


def test_paired_difference_of_equal_models_is_nothing() -> None:
    y, p, user = _world(6)
    for metric in METRICS:
        same = paired_bootstrap(y, p, p, user, metric)
        assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_paired_difference_is_surer_than_two_intervals() -> None:
    y, p, user = _world(7)
    worse = np.clip(p + np.random.default_rng(0).normal(0, 0.15, p.size), 0.001, 0.999)
    difference = paired_bootstrap(y, worse, p, user, "auc")
    a, b = bootstrap(y, worse, user, "auc"), bootstrap(y, p, user, "auc")
    assert difference.value == pytest.approx(a.value - b.value)  # type: ignore[operator]  # both are defined
    assert difference.high < 0  # type: ignore[operator]  # bounds exist here
    assert a.high > b.low  # type: ignore[operator]  # bounds exist here
    opposite = paired_bootstrap(y, p, worse, user, "auc")
    assert opposite.low == pytest.approx(-difference.high)  # type: ignore[operator]  # bounds exist here


def test_relative_difference_is_over_the_second_model() -> None:
    y, p, user = _world(8)
    worse = 0.5 * p + 0.25
    interval = paired_bootstrap(y, worse, p, user, "log_loss", relative=True)
    assert interval.value == pytest.approx(log_loss(y, worse) / log_loss(y, p) - 1)  # type: ignore[operator]  # defined


def test_paired_difference_is_none_where_undefined() -> None:
    y, p, user = _world(9)
    nothing = paired_bootstrap(np.ones_like(y), p, p, user, "auc")
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)
