"""Is each request's order measured as its definition says, among equal scores the mean over all their orders?"""

from __future__ import annotations

from itertools import pairwise, permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from sklearn.metrics import ndcg_score

from features.ground.errors import BadInputError
from registry.evaluation import RequestMetric
from registry.metrics import (
    REQUEST_METRICS,
    Requests,
    bootstrap_all,
    gauc,
    paired_bootstrap,
    stable_paired_bootstrap,
    value_of,
)

ROW = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2))
"""Request, label, score: few of each, so that requests are small and scores tie."""


def request_metric(metric: RequestMetric, labels: ArrayLike, scores: ArrayLike, requests: Requests) -> float | None:
    return value_of(metric, labels, scores, requests.of, requests)


def by_definition(metric: RequestMetric, ordered: list[int], top: int) -> float:
    """Return one request's value; labels from the highest score down."""
    first = ordered[:top]
    if metric == "mrr":
        return 1 / (ordered.index(1) + 1)
    if metric == "recall":
        return sum(first) / sum(ordered)
    if metric == "hit_rate":
        return float(any(first))
    best = sum(1 / log2(place + 2) for place in range(min(sum(ordered), top)))
    return sum(label / log2(place + 2) for place, label in enumerate(first)) / best


def over_all_orders(metric: RequestMetric, rows: list[tuple[int, int]], top: int) -> float:
    """Return the mean over every order of (label, score) rows in which scores fall."""
    orders = [
        [label for label, _ in order] for order in permutations(rows) if all(a[1] >= b[1] for a, b in pairwise(order))
    ]
    return float(np.mean([by_definition(metric, order, top) for order in orders]))


@given(st.lists(ROW, min_size=1, max_size=9), st.integers(1, 4), st.sampled_from(REQUEST_METRICS[1:]))
def test_a_value_is_the_mean_over_all_orders_of_equal_scores(
    rows: list[tuple[int, int, int]], top: int, metric: RequestMetric
) -> None:
    parts = [[(label, score) for request, label, score in rows if request == one] for one in range(3)]
    known = [over_all_orders(metric, part, top) for part in parts if len(part) < 7 and any(label for label, _ in part)]
    if any(len(part) >= 7 for part in parts):
        return
    request, label, score = np.array(rows).T
    value = request_metric(metric, label, score, Requests(request, top))
    assert value == (pytest.approx(np.mean(known), abs=1e-12) if known else None)


def test_it_is_what_scikit_learn_says_without_ties() -> None:
    rng = np.random.default_rng(3)
    label, score = rng.integers(0, 2, (40, 12)), rng.normal(size=(40, 12))
    request = np.repeat(np.arange(40), 12)
    ours = request_metric("ndcg", label.ravel(), score.ravel(), Requests(request, 5))
    assert ours == pytest.approx(ndcg_score(label[label.any(axis=1)], score[label.any(axis=1)], k=5))
    area = request_metric("request_auc", label.ravel(), score.ravel(), Requests(request))
    assert area == pytest.approx(gauc(label.ravel(), score.ravel(), request))


def test_a_constant_score_gets_what_chance_gives() -> None:
    label = np.zeros(25)
    label[7] = 1
    at = {metric: request_metric(metric, label, np.ones(25), Requests(np.zeros(25), 10)) for metric in REQUEST_METRICS}
    assert at["mrr"] == pytest.approx(np.mean(1 / np.arange(1, 26)))
    assert (at["hit_rate"], at["recall"], at["request_auc"]) == (pytest.approx(0.4), pytest.approx(0.4), 0.5)


def test_a_large_tie_is_exact_and_no_row_order_matters() -> None:
    rng = np.random.default_rng(0)
    label, score = (rng.random(200_000) < 0.01).astype(int), rng.integers(0, 3, 200_000)
    request = rng.integers(0, 4, 200_000)
    order = rng.permutation(200_000)
    for metric in REQUEST_METRICS:
        value = request_metric(metric, label, score, Requests(request, 50))
        assert value == pytest.approx(request_metric(metric, label[order], score[order], Requests(request[order], 50)))
        assert value is not None and 0 < value <= 1


def test_requests_are_drawn_with_their_users_and_pairs_on_the_same_draws() -> None:
    rng = np.random.default_rng(1)
    request = np.repeat(np.arange(300), 8)
    user, label = request // 3, np.tile([1, 0, 0, 0, 0, 0, 0, 0], 300)
    good, poor = label + rng.normal(size=2400), rng.normal(size=2400)
    both = Requests(request, 3)
    found = bootstrap_all(label, good, user, ("auc", *REQUEST_METRICS), requests=both)
    for metric in REQUEST_METRICS:
        interval = found[metric]
        assert interval.value == pytest.approx(request_metric(metric, label, good, both))
        assert interval.low is not None and interval.high is not None and interval.low < interval.high
        pair = paired_bootstrap(label, good, poor, user, metric, requests=both)
        assert pair.low is not None and pair.low > 0.05
        assert paired_bootstrap(label, good, good, user, metric, requests=both).high == 0
        stable, drawn = stable_paired_bootstrap(label, good, poor, user, metric, tolerance=0.01, requests=both)
        assert drawn >= 200 and stable.value == pair.value
    assert found["auc"] == bootstrap_all(label, good, user, ("auc",))["auc"]


def test_what_has_no_value_and_what_is_refused() -> None:
    assert request_metric("mrr", [0, 0], [0.1, 0.2], Requests([1, 1])) is None
    assert request_metric("mrr", [], [], Requests([])) is None
    with pytest.raises(BadInputError, match="mrr is measured within requests"):
        bootstrap_all([0, 1], [0.1, 0.2], [1, 1], ("mrr",))
    with pytest.raises(BadInputError, match="rows of two users"):
        bootstrap_all([0, 1], [0.1, 0.2], [1, 2], ("mrr",), requests=Requests([5, 5]))
