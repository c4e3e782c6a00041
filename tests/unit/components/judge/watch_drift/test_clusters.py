"""Do figures equal the plain ones, and are their errors those of users and not of rows?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.watch_drift.clusters import Clusters, auc_of, beyond, gauc_of, log_ratio, mean_of, share_of
from registry.metrics import auc, gauc, pcoc

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 6)), min_size=2, max_size=60
)  # few scores, so that there are ties


@given(ROWS)
def test_figures_are_those_of_the_metrics(rows: list[tuple[int, bool, int]]) -> None:
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    p, clusters = (scores + 1) / 8, Clusters.of(users)
    for mine, theirs in (
        (auc_of(labels, p, clusters), auc(labels, p)),
        (gauc_of(labels, p, clusters), gauc(labels, p, users)),
    ):
        assert (mine is None) == (theirs is None)
        assert mine is None or mine.value == pytest.approx(theirs)
    ratio, other = log_ratio(p, labels, clusters), pcoc(labels, p)
    assert (ratio is None) == (other is None)
    assert ratio is None or np.exp(ratio.value) == pytest.approx(other)


@given(ROWS, st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_the_names_of_users_count(rows: list[tuple[int, bool, int]], random) -> None:  # type: ignore[no-untyped-def]
    users, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    order = np.array(random.sample(range(len(rows)), len(rows)))
    one, other = Clusters.of(users), Clusters.of(100 - users[order])
    assert other.equivalent == pytest.approx(one.equivalent)
    for of in (auc_of, log_ratio):
        first = of(scores, labels, one) if of is log_ratio else of(labels, scores, one)
        second = of(scores[order], labels[order], other) if of is log_ratio else of(labels[order], scores[order], other)
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            assert (second.value, second.error) == pytest.approx((first.value, first.error), abs=1e-12)


def test_a_user_with_half_of_the_rows_makes_few_of_many() -> None:
    alike = Clusters.of(np.repeat(np.arange(50), 4))
    assert alike.equivalent == pytest.approx(50) and alike.inflation == pytest.approx(50 / 49)
    assert Clusters.of(np.concatenate([np.zeros(100, dtype=int), np.arange(1, 101)])).equivalent < 4


@pytest.mark.parametrize("each", [1, 20])
def test_errors_are_the_spread_that_repetition_shows(each: int) -> None:
    """Of rows that hang together wholly, the error of a mean is that of their users."""
    rng, seen = np.random.default_rng(0), []
    for _ in range(200):
        values = rng.normal(size=100)
        seen.append(mean_of(np.repeat(values, each), Clusters.of(np.repeat(np.arange(100), each))))
    spread = np.std([one.value for one in seen])
    assert np.mean([one.error for one in seen]) == pytest.approx(0.1, rel=0.03) == pytest.approx(spread, rel=0.15)


def test_the_error_of_an_auc_is_the_spread_that_repetition_shows() -> None:
    rng, seen = np.random.default_rng(1), []
    for _ in range(300):
        own = rng.normal(size=150)
        users = np.repeat(np.arange(150), 6)
        score = own[users] + rng.normal(size=900)
        seen.append(auc_of(rng.random(900) < 1 / (1 + np.exp(-score - own[users])), score, Clusters.of(users)))
    errors, values = [one.error for one in seen if one], [one.value for one in seen if one]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_a_share_that_nobody_has_is_not_certain() -> None:
    none = share_of(np.zeros(1000), Clusters.of(np.arange(1000)))
    assert none.value == 0 and none.error > 0


@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0, 0.5), st.floats(2, 1000), st.booleans())
def test_a_change_at_its_limit_is_as_likely_as_not(
    seen: float, error: float, limit: float, freedom: float, both: bool
) -> None:
    chance = beyond(seen, error, limit, freedom, both=both)
    assert 0 <= chance <= 1
    assert beyond(limit, error, limit, freedom, both=False) == pytest.approx(0.5)
    assert chance <= beyond(seen, error, limit + 0.1, freedom, both=both) + 1e-12, "a wider limit is never more certain"
    if both:
        assert chance == pytest.approx(beyond(-seen, error, limit, freedom, both=True))


def test_what_leaves_no_doubt() -> None:
    assert beyond(0.2, 0.0, 0.1, 5, both=False) == 0 and beyond(0.1, 0.0, 0.1, 5, both=False) == 1
