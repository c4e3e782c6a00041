"""Do several queries find what lies in several places, and is one kind the same as one query?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.data.assign_semantic_ids.quantise import kmeans, nearest
from components.judge.retrieve_candidates import mixture
from components.judge.retrieve_candidates.mixture import (
    NOBODY,
    Asked,
    Candidates,
    Chosen,
    mixed,
    quotas,
    single,
    smoothed,
)
from registry.serving.answers.excluded import NONE, Pairs

COUNTS = np.array([[6.0, 2, 0], [1, 0, 4], [3, 3, 0]])


def test_shares_are_smoothed_and_places_given_as_in_the_golden_numbers() -> None:
    share = smoothed(COUNTS, COUNTS, np.array([[2], [0], [0]]), 0.8)
    np.testing.assert_allclose(share, [[0.7, 0.3, 0], [0.31, 0.05, 0.64], [0.55, 0.45, 0]], atol=1e-12)
    assert quotas(share, 10).tolist() == [[7, 3, 0], [3, 1, 6], [6, 4, 0]]
    alone = smoothed(COUNTS, COUNTS, np.array([[NOBODY], [0], [0]]), 0.8)
    np.testing.assert_allclose(alone[0], [0.75, 0.25, 0], atol=1e-12)
    nothing = smoothed(np.zeros((2, 3)), COUNTS, np.array([[1], [NOBODY]]), 0.8)
    np.testing.assert_allclose(nothing, [[0.2, 0, 0.8], [0, 0, 0]], atol=1e-12)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 40)
)  # fmt: skip
def test_places_add_up_and_are_nearest_to_the_shares(counts: list[list[int]], k: int) -> None:
    share = np.array(counts, dtype=float)
    total = share.sum(axis=1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    places = quotas(share, k)
    assert (places.sum(axis=1) == np.where(total[:, 0] > 0, k, 0)).all()
    assert (np.abs(places - share * k) < 1 + 1e-9).all()


USERS, K = 150, 100


def world(seed: int, width: int, interests: int) -> tuple[NDArray[np.float32], Pairs, list[set[int]]]:
    """Return 2,000 items of 40 interests, 8 items that users of some interests chose, and 20 they choose next."""
    rng = np.random.default_rng(seed)
    interest = rng.integers(40, size=2000)
    items = rng.normal(size=(40, width))[interest] + 0.15 * rng.normal(size=(2000, width))
    items = (items / np.linalg.norm(items, axis=1, keepdims=True)).astype(np.float32)
    before, after = [], []
    for user in range(USERS):
        mine = np.flatnonzero(np.isin(interest, rng.choice(40, interests, replace=False)))
        drawn = rng.permutation(mine)
        before += [(user, item) for item in drawn[:8]]
        after.append(set(drawn[8:28].tolist()))
    return items, np.unique(np.array(before), axis=0), after


def asked_of(items: NDArray[np.float32], pairs: Pairs, clusters: int, own: float) -> Asked:
    """Return users who lie in the mean of what they chose."""
    vectors = np.zeros((USERS, items.shape[1]), np.float32)
    np.add.at(vectors, pairs[:, 0], items[pairs[:, 1]] / 8)
    kinds = nearest(items, kmeans(items, clusters, np.random.default_rng(0)))
    chosen = Chosen.of(pairs, USERS, items, kinds, clusters)
    near = np.full((USERS, 0), NOBODY)
    if own < 1:
        near = single(vectors, vectors, 20, np.stack([np.arange(USERS)] * 2, axis=1)).items
    return Asked(vectors, chosen, chosen, near, own)


def recall(found: Candidates, after: list[set[int]]) -> float:
    rows = zip(found.items.tolist(), after, strict=True)
    return float(np.mean([len(wanted & {*row}) / len(wanted) for row, wanted in rows]))


def test_users_of_several_interests_are_served_better_and_those_of_one_are_not() -> None:
    for width, seed in ((3, 0), (6, 0), (6, 1)):
        items, pairs, after = world(seed, width, interests=3)
        one = recall(single(asked_of(items, pairs, 1, 1).vectors, items, K, pairs), after)
        shipped = recall(mixed(asked_of(items, pairs, 45, 0.8), items, K, pairs), after)
        assert shipped >= 1.2 * one
        assert recall(mixed(asked_of(items, pairs, 45, 1), items, K, pairs), after) > shipped, "neighbours cost recall"
    # Control: a mean of one interest lies in it, and nothing is to be gained.
    items, pairs, after = world(0, 6, interests=1)
    one = recall(single(asked_of(items, pairs, 1, 1).vectors, items, K, pairs), after)
    assert one > 0.6
    assert abs(recall(mixed(asked_of(items, pairs, 45, 0.8), items, K, pairs), after) - one) < 0.06


def test_one_kind_is_one_query_to_the_bit() -> None:
    items, pairs, _ = world(0, 6, interests=3)
    for own in (1.0, 0.8):
        asked = asked_of(items, pairs, 1, own)
        one, several = single(asked.vectors, items, K, pairs), mixed(asked, items, K, pairs)
        assert several.items.tobytes() == one.items.tobytes()
        assert several.scores.tobytes() == one.scores.tobytes()
        assert (several.kinds == 0).all() and (one.kinds == NOBODY).all()


@settings(max_examples=30)
@given(st.integers(0, 99), st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1, 3, 100]))
def test_nothing_comes_twice_nor_excluded_and_free_places_are_filled(
    seed: int, k: int, own: float, at_once: int
) -> None:
    rng = np.random.default_rng(seed)
    items, vectors = (rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (12, 5))
    drawn = np.argwhere(rng.random((5, 12)) < rng.random((5, 1)))
    pairs, excluded = drawn.astype(np.int64), np.argwhere(rng.random((5, 12)) < 0.3).astype(np.int64)
    chosen = Chosen.of(pairs, 5, items, rng.integers(0, 4, 12), 4)
    near = rng.permuted(np.tile([0, 1, 2, NOBODY], (5, 1)), axis=1)[:, :2]
    asked = Asked(vectors, chosen, chosen, near, own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "AT_ONCE", at_once)
        found = mixed(asked, items, k, excluded)
    for user in range(5):
        free = {*range(12)} - {*excluded[excluded[:, 0] == user, 1].tolist()}
        got = found.items[user][found.items[user] != NOBODY].tolist()
        assert len(got) == len(set(got)) == min(k, len(free)) and {*got} <= free
        scores = [float(items[item] @ vectors[user]) for item in got]
        assert scores == sorted(scores, reverse=True) and found.scores[user][: len(got)].tolist() == scores
    assert mixed(asked, items, k, NONE).items.min() >= 0
