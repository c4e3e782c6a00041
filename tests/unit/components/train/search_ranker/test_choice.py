"""Does a pair do something only where held-out rows say so beyond chance, and the better of two things?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.train.search_ranker.choice import FACTORISE, MEMORISE, NAIVE, Losses, Modes, choose

ROWS = 400
FALLS = np.random.default_rng(0).normal(size=(8, 3, ROWS))
"""Noise of what each way of each pair does to each row; nothing does nothing."""
FALLS -= FALLS.mean(axis=2, keepdims=True)
FALLS /= FALLS.std(axis=2, ddof=1, keepdims=True)


def world(*means: tuple[float, float], noise: float = 0.1) -> tuple[int, object]:
    """Pairs whose two ways lower the loss by so much each, whatever the others do."""

    def losses(modes: Modes) -> Losses:
        found = np.ones(ROWS)
        for pair, mode in enumerate(modes):
            if mode != NAIVE:
                found -= means[pair][mode - 1] + noise * FALLS[pair, mode]
        return found

    return len(means), losses


def chosen(*means: tuple[float, float], sure: float = 2.0, worth: float = 0.0005, noise: float = 0.1) -> Modes:
    pairs, losses = world(*means, noise=noise)
    return choose(pairs, losses, sure, worth).modes  # type: ignore[arg-type]


def test_the_better_way_of_each_pair_is_taken_and_nothing_where_neither_is_better() -> None:
    assert chosen((0.1, 0.05), (0.02, 0.06), (0.0, 0.0), (-0.1, -0.2)) == (MEMORISE, FACTORISE, NAIVE, NAIVE)


@pytest.mark.parametrize(("sure", "expected"), [(1.9, MEMORISE), (2.1, NAIVE)])
def test_a_gain_has_to_be_beyond_chance(sure: float, expected: int) -> None:
    mean = 2 * 0.1 / np.sqrt(ROWS)  # two standard errors
    assert chosen((mean, 0.0), sure=sure) == (expected,)


@pytest.mark.parametrize(("worth", "expected"), [(0.0009, FACTORISE), (0.0011, NAIVE)])
def test_a_gain_has_to_be_worth_it_however_sure_it_is(worth: float, expected: int) -> None:
    assert chosen((0.0, 0.001), worth=worth, noise=1e-5) == (expected,)


def test_a_pair_that_says_what_another_says_already_joins_no_more() -> None:
    def losses(modes: Modes) -> Losses:
        return np.ones(ROWS) - max((mode != NAIVE) * gain for mode, gain in zip(modes, (0.05, 0.06), strict=True))

    found = choose(2, losses, 2.0, 0.0005)
    assert found.modes[0] == NAIVE and found.modes[1] != NAIVE
    assert found.gains[0][0].mean == 0.0  # beside the other


def test_a_pair_that_is_of_no_use_beside_a_later_one_leaves_again() -> None:
    """The first says half of what two others say, and joins before them; they make it superfluous."""

    def losses(modes: Modes) -> Losses:
        some, one, other = (mode != NAIVE for mode in modes)
        return np.ones(ROWS) - 0.06 * some - 0.05 * one - 0.05 * other + 0.03 * (some and one) + 0.03 * (some and other)

    assert [mode != NAIVE for mode in choose(3, losses, 2.0, 0.0005).modes] == [False, True, True]


@given(st.lists(st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)), min_size=1, max_size=6))
def test_no_choice_is_worse_than_nothing_on_the_rows_that_chose(means: list[tuple[float, float]]) -> None:
    pairs, losses = world(*means)
    found = choose(pairs, losses, 2.0, 0.0005)  # type: ignore[arg-type]
    assert losses(found.modes).mean() <= losses((NAIVE,) * pairs).mean() + 1e-12  # type: ignore[operator]
    for pair, mode in enumerate(found.modes):
        assert mode == NAIVE or found.gains[pair][mode - 1].mean > 0.0005
