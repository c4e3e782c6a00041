"""Is a move of values told with the size and the chance that the textbooks give, whatever order rows and bins have?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare

from components.judge.watch_drift.clusters import Clusters
from components.judge.watch_drift.shares import FEWEST, Size, _merged, ks, moved

ENDLESS = Size(rows=10**12, users=10**12)
"""A baseline without noise of its own."""


def test_rows_of_their_own_give_the_plain_chi_square() -> None:
    rng = np.random.default_rng(0)
    expected = np.array([0.4, 0.3, 0.2, 0.1])
    for true in (expected, np.array([0.38, 0.31, 0.2, 0.11])):
        codes = rng.choice(4, 50_000, p=true)
        move = moved(expected, ENDLESS, codes, Clusters.of(np.arange(codes.size)))
        plain = chisquare(np.bincount(codes), expected * codes.size)
        assert np.log(move.chance) == pytest.approx(np.log(plain.pvalue), rel=0.05)


def test_the_size_is_the_psi_less_what_chance_gives() -> None:
    rng = np.random.default_rng(1)
    expected = np.array([0.25, 0.25, 0.25, 0.25])
    codes = rng.choice(4, 4000, p=[0.35, 0.25, 0.2, 0.2])
    move = moved(expected, Size(2000, 2000), codes, Clusters.of(np.arange(4000)))
    found = np.bincount(codes) / 4000
    psi = ((found - expected) * np.log(found / expected)).sum()
    assert move.size == pytest.approx(psi - 3 * (1 / 4000 + 1 / 2000), abs=2e-4)
    assert move.distance == pytest.approx(np.abs(found - expected).sum() / 2)


def test_the_same_rows_of_fewer_users_are_less_certain() -> None:
    rng = np.random.default_rng(2)
    expected = np.full(5, 0.2)
    codes = np.repeat(rng.choice(5, 200, p=[0.3, 0.2, 0.2, 0.2, 0.1]), 20)
    one_by_one = moved(expected, ENDLESS, codes, Clusters.of(np.arange(4000)))
    together = moved(expected, ENDLESS, codes, Clusters.of(np.repeat(np.arange(200), 20)))
    assert one_by_one.chance < 1e-20 < 1e-6 < together.chance and one_by_one.distance == together.distance


@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 8)), min_size=30, max_size=200),
    st.randoms(use_true_random=False),
)
def test_neither_the_order_of_rows_nor_that_of_bins_counts(weights, rows, random) -> None:  # type: ignore[no-untyped-def]
    assume(len({*weights}) == len(weights))  # of equally small bins the first are put together
    expected = np.array(weights) / sum(weights)
    codes, users = (np.array(column) for column in zip(*rows, strict=True))
    codes = codes % expected.size
    order, bins = (np.array(random.sample(range(n), n)) for n in (codes.size, expected.size))
    one = moved(expected, Size(1000, 100), codes, Clusters.of(users))
    turned = np.empty_like(expected)
    turned[bins] = expected
    other = moved(turned, Size(1000, 100), bins[codes][order], Clusters.of(users[order]))
    assert (other.size, other.distance) == pytest.approx((one.size, one.distance), abs=1e-9)
    assert 0 <= one.chance <= 1 and other.chance == pytest.approx(one.chance, abs=1e-6)
    assert one.psi >= 0 and 0 <= one.distance <= 1


SHARES = st.lists(st.floats(0, 1), min_size=6, max_size=6).filter(lambda shares: sum(shares) > 0.01)


@given(SHARES, SHARES, st.integers(1, 5000))
def test_every_bin_that_is_left_holds_enough(shares: list[float], others: list[float], rows: int) -> None:
    expected, found = (np.array(some) / sum(some) for some in (shares, others))
    merged, held = _merged(expected, found, rows)
    assert {*merged} == {*range(held.size)}, "no bin is empty"
    # Where the rare ones are taken to be as large as the smallest may be, all others give their share of that.
    assert held.size == 1 or held.min() * rows >= FEWEST * (1 - FEWEST / rows) - 1e-6
    assert held.sum() == pytest.approx(1)


@pytest.mark.parametrize("each", [1, 30])
def test_rare_values_that_come_and_go_are_no_drift(each: int) -> None:
    """A value of a few rows in a thousand is there on one day, and not on another."""
    rng = np.random.default_rng(4)
    told = 0
    for _ in range(300):
        users = np.repeat(np.arange(3000 // each), each)
        rare = (rng.random(users[-1] + 1) < 0.0015)[users].astype(int)
        told += moved(np.array([1.0, 0.0]), Size(20_000, 20_000 // each), rare, Clusters.of(users)).chance < 0.01
    assert told <= 9


def test_a_value_that_the_baseline_never_held_is_seen() -> None:
    codes = np.concatenate([np.zeros(700, dtype=int), np.ones(200, dtype=int), np.full(100, 2)])
    move = moved(np.array([0.8, 0.2, 0.0]), Size(5000, 5000), codes, Clusters.of(np.arange(1000)))
    assert move.chance < 1e-6 and move.size > 0.02


def test_a_constant_that_turns_into_another_is_seen() -> None:
    """As where the store of histories was lost: all had eight events, none has one."""
    alike = Clusters.of(np.arange(1000) // 5)
    expected = np.array([0.0, 1.0])
    assert moved(expected, Size(500, 100), np.ones(1000, dtype=int), alike).chance == 1
    lost = moved(expected, Size(500, 100), np.zeros(1000, dtype=int), alike)
    assert lost.chance == 0 and lost.size > 1
    half = moved(expected, Size(500, 100), (np.arange(1000) // 5) % 2, alike)
    assert half.chance < 1e-6 and half.size > 0.1


def test_the_largest_distance_of_distributions() -> None:
    assert ks(np.array([0.5, 0.5]), np.array([0, 0, 0, 1])) == pytest.approx(0.25)
