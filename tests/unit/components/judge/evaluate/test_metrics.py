"""Do the metrics equal their definitions, and do they keep the laws they must?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from features.ground.errors import BadInputError
from registry.metrics import auc, calibration_bins, ece, gauc, log_loss, normalised_entropy, pcoc
from registry.metrics.weighted import group_codes

# Few distinct scores, so that ties are the rule.
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 8), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60
)


def _arrays(rows: list[tuple[int, int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    y, s, user, weight = (np.array(column) for column in zip(*rows, strict=True))
    return y, (s + 1) / 10, user, weight.astype(float)


@given(ROWS)
def test_auc_is_sklearns_with_ties_and_weights(rows: list[tuple[int, int, int, int]]) -> None:
    y, s, _, weight = _arrays(rows)
    if len(set(y)) < 2:
        assert auc(y, s) is None
        return
    assert auc(y, s) == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    if weight[y == 0].sum() > 0 and weight[y == 1].sum() > 0:
        assert auc(y, s, weight) == pytest.approx(roc_auc_score(y, s, sample_weight=weight), abs=1e-12)
    else:
        assert auc(y, s, weight) is None


@given(ROWS)
def test_gauc_is_the_mean_of_user_aucs_weighted_by_impressions(rows: list[tuple[int, int, int, int]]) -> None:
    y, s, user, weight = _arrays(rows)
    for w in (np.ones_like(s), weight):
        above = below = 0.0
        for one in set(user.tolist()):
            mine = user == one
            if min(w[mine & (y == 0)].sum(), w[mine & (y == 1)].sum()) > 0:
                above += w[mine].sum() * roc_auc_score(y[mine], s[mine], sample_weight=w[mine])
                below += w[mine].sum()
        expected = above / below if below else None
        assert gauc(y, s, user, w) == (None if expected is None else pytest.approx(expected, abs=1e-12))


@pytest.mark.parametrize("weighted", [False, True])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(
                [-1e300, -2.5, -1e-12, -0.0, 0.0, 1e-300, 0.1, 0.1 + 2**-54, 0.1 + 2**-53, 0.5, 3.0, 1e300]
            ),
            st.sampled_from([-(2**63), -7, 0, 1, 2, 2**62]),
        ),
        min_size=1,
        max_size=40,
    ),
    st.booleans(),
)
def test_scores_of_any_size_and_sign_keep_their_order_and_ties(
    weighted: bool, rows: list[tuple[int, float, int]], single: bool
) -> None:
    """Counted over pairs. float32 scores, others, and weighted rows are sorted in three ways."""
    y, s, user = (np.array(column) for column in zip(*rows, strict=True))
    s = np.clip(s, -1e30, 1e30).astype(np.float32).astype(np.float64) if single else s
    weights = np.ones(len(y)) if weighted else None
    above, below = [], []
    for one in sorted(set(user.tolist())):
        p, n = s[(user == one) & (y == 1)], s[(user == one) & (y == 0)]
        if p.size and n.size:
            pairs = (p[:, None] > n).mean() + 0.5 * (p[:, None] == n).mean()
            above.append((p.size + n.size) * pairs)
            below.append(p.size + n.size)
    assert gauc(y, s, user, weights) == (pytest.approx(sum(above) / sum(below), abs=1e-12) if below else None)
    if 0 < y.sum() < len(y):
        p, n = s[y == 1], s[y == 0]
        everyone = (p[:, None] > n).mean() + 0.5 * (p[:, None] == n).mean()
        assert auc(y, s, weights) == pytest.approx(everyone, abs=1e-12)


@given(
    st.sampled_from(["int8", "uint8", "int32", "int64", "uint64"]).flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.lists(
                st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).min) + 9)
                | st.integers(int(np.iinfo(kind).max) - 9, int(np.iinfo(kind).max)),
                max_size=30,
            ),
        )
    )
)
def test_ids_become_codes_in_their_order(typed: tuple[str, list[int]]) -> None:
    kind, ids = typed
    codes, size = group_codes(np.array(ids, dtype=kind), len(ids))
    places = {one: place for place, one in enumerate(sorted(set(ids)))}
    assert codes.dtype == np.int64
    assert (codes.tolist(), size) == ([places[one] for one in ids], len(places))


@given(ROWS)
def test_log_loss_is_sklearns_and_normalised_by_the_base_rate(rows: list[tuple[int, int, int, int]]) -> None:
    y, p, _, weight = _arrays(rows)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p, labels=[0, 1]))
    if weight.sum() > 0:
        assert log_loss(y, p, weight) == pytest.approx(sklearn_log_loss(y, p, labels=[0, 1], sample_weight=weight))
    base = np.full(len(y), y.mean())
    if 0 < y.mean() < 1:
        assert normalised_entropy(y, base) == pytest.approx(1.0)
        assert normalised_entropy(y, p) == pytest.approx(sklearn_log_loss(y, p) / sklearn_log_loss(y, base))
    else:
        assert normalised_entropy(y, p) is None


@given(ROWS)
def test_pcoc_and_ece_are_their_definitions(rows: list[tuple[int, int, int, int]]) -> None:
    y, p, _, _ = _arrays(rows)
    assert pcoc(y, p) == (pytest.approx(p.sum() / y.sum()) if y.sum() else None)
    points = calibration_bins(y, p, 5)
    assert sum(point.rows for point in points) == len(y)
    assert sum(point.rows * point.observed for point in points) == pytest.approx(y.sum())
    assert [point.predicted for point in points] == sorted(point.predicted for point in points)
    expected = sum(point.rows * abs(point.predicted - point.observed) for point in points) / len(y)
    assert ece(y, p, bins=5) == pytest.approx(expected)
    # One bin sees the overall bias only.
    assert ece(y, p, bins=1) == pytest.approx(abs(p.mean() - y.mean()))


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows: list[tuple[int, int, int, int]], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types its generator as object
    y, s, user, _ = _arrays(rows)
    y2, s2, user2, _ = _arrays(shuffled)
    assert auc(y, s) == auc(y2, s2)
    for one in (log_loss, normalised_entropy, pcoc, ece):
        assert one(y, s) == (None if one(y, s) is None else pytest.approx(one(y2, s2)))
    assert gauc(y, s, user) == (None if gauc(y, s, user) is None else pytest.approx(gauc(y2, s2, user2)))


@given(ROWS)
def test_ranking_metrics_see_order_only(rows: list[tuple[int, int, int, int]]) -> None:
    y, s, user, _ = _arrays(rows)
    for transform in (np.exp, lambda x: x**3, lambda x: -1 / x, lambda x: 7 * x - 3):
        assert auc(y, transform(s)) == auc(y, s)
        assert gauc(y, transform(s), user) == gauc(y, s, user)
    if auc(y, s) is not None:
        assert auc(y, -s) == pytest.approx(1 - auc(y, s))  # type: ignore[operator]  # checked above


@given(ROWS)
def test_an_integer_weight_is_that_many_copies(rows: list[tuple[int, int, int, int]]) -> None:
    y, s, user, weight = _arrays(rows)
    copies = np.repeat(np.arange(len(y)), weight.astype(int))
    for one in (auc, log_loss, normalised_entropy, pcoc):
        expected = one(y[copies], s[copies])
        assert one(y, s, weight) == (None if expected is None else pytest.approx(expected))
    expected = gauc(y[copies], s[copies], user[copies])
    assert gauc(y, s, user, weight) == (None if expected is None else pytest.approx(expected))


@settings(max_examples=20)
@given(st.integers(1, 500), st.integers(2, 20))
def test_bins_of_distinct_predictions_have_equal_mass(rows: int, bins: int) -> None:
    p = np.random.default_rng(rows).permutation(np.linspace(0.01, 0.99, rows))
    sizes = [point.rows for point in calibration_bins(np.zeros(rows), p, bins)]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(rows, bins)


def test_equal_predictions_share_a_bin() -> None:
    y = np.array([0, 1, 1, 0, 1, 0])
    (point,) = calibration_bins(y, np.full(6, 0.4), 3)
    assert (point.rows, point.observed) == (6, 0.5)


def test_perfect_and_inverted_rankings() -> None:
    y = np.array([0, 0, 1, 1])
    assert auc(y, [0.1, 0.2, 0.3, 0.4]) == 1.0
    assert auc(y, [0.4, 0.3, 0.2, 0.1]) == 0.0
    assert auc(y, [0.5] * 4) == 0.5


def test_certain_and_wrong_is_finite() -> None:
    assert log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-np.log(1e-7))


def test_no_rows_have_no_metrics() -> None:
    assert [auc([], []), gauc([], [], []), log_loss([], []), ece([], []), pcoc([], [])] == [None] * 5
    assert normalised_entropy([], []) is None
    assert calibration_bins([], []) == ()


def test_users_may_be_strings() -> None:
    y, s = [0, 1, 0, 1], [0.1, 0.9, 0.8, 0.3]
    assert gauc(y, s, ["ann", "ann", "bob", "bob"]) == gauc(y, s, [1, 1, 2, 2]) == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([0, 1], [0.5], "one score per label"),
        ([0, 1], [0.5, np.nan], "1 of 2 scores are not numbers"),
        ([0, 1], [0.5, np.inf], "1 of 2 scores are not numbers"),
        ([0, 2], [0.5, 0.5], "neither 0 nor 1"),
        ([0, np.nan], [0.5, 0.5], "neither 0 nor 1"),
    ],
)
def test_wrong_arrays_are_refused(labels: list[float], scores: list[float], says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        auc(labels, scores)


def test_wrong_weights_and_users_are_refused() -> None:
    with pytest.raises(BadInputError, match="one per row"):
        auc([0, 1], [0.1, 0.2], [1, -1])
    with pytest.raises(BadInputError, match="one user per row"):
        gauc([0, 1], [0.1, 0.2], [1])
