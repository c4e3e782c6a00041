"""Are mean, spread and marks what numpy says they are?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.compare.record import Measured, Row
from pipelines.compare.spread import Mark, best_first, difference, mark, spread

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


def row(metric: str, *values: float | None, first: int = 0) -> Row:
    runs = (
        Measured(seed=first + at, key="k", test={"like": {metric: value}}, validation={})
        for at, value in enumerate(values)
    )
    return Row(config={}, runs=tuple(runs), machine="m")


@given(VALUES)
def test_mean_and_standard_deviation_are_numpys(values: list[float]) -> None:
    found = spread(values)
    assert found is not None and found.std is not None
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert found.count == len(values)


def test_one_value_has_no_spread_and_an_undefined_one_leaves_nothing_to_say() -> None:
    one = spread([0.5])
    assert one is not None and (one.mean, one.std, one.count) == (0.5, None, 1)
    assert spread([]) is None
    assert spread([0.5, None]) is None


def test_differences_are_taken_within_seeds() -> None:
    """Two rows that differ by .01 on every seed, while seeds differ by much more, as splits of their own do."""
    mine, other = row("auc", 0.71, 0.81, 0.91), row("auc", 0.70, 0.80, 0.90)
    found = difference(mine, other, "like", "auc")
    assert found is not None and found.std is not None
    assert found.mean == pytest.approx(0.01)
    assert found.std == pytest.approx(0, abs=1e-12)
    pooled = np.std([0.71, 0.81, 0.91], ddof=1) * np.sqrt(2 / 3)
    assert 2 * pooled > 0.01, "unpaired, the difference would drown in the spread of the splits"
    assert mark(mine, other, "like", "auc") == "better"


def test_only_shared_seeds_are_compared() -> None:
    found = difference(row("auc", 0.7, 0.8), row("auc", 0.5, 0.9, first=1), "like", "auc")
    assert found is not None and (found.mean, found.count) == (pytest.approx(0.3), 1)
    assert difference(row("auc", 0.7), row("auc", 0.5, first=1), "like", "auc") is None


@pytest.mark.parametrize(
    ("metric", "gap", "expected"),
    [
        ("auc", 0.02, "better"), ("auc", -0.02, "worse"), ("log_loss", -0.02, "better"), ("log_loss", 0.02, "worse"),
        ("gauc", 0.02, "better"), ("pcoc", 0.02, ""), ("auc", 0.0, ""), ("request_auc", 0.02, "better"),
    ],
)  # fmt: skip
def test_a_mark_knows_which_direction_is_good(metric: str, gap: float, expected: Mark) -> None:
    other = [0.60, 0.61, 0.62]
    mine = [value + gap + noise for value, noise in zip(other, (-0.001, 0.0, 0.001), strict=True)]
    assert mark(row(metric, *mine), row(metric, *other), "like", metric) == expected


@pytest.mark.parametrize(("metric", "order"), [("mrr", "bac"), ("log_loss", "abc")])
def test_the_best_comes_first_and_what_is_undefined_last(metric: str, order: str) -> None:
    rows = {"c": row(metric, None, 0.9), "a": row(metric, 0.2, 0.3), "b": row(metric, 0.3, 0.4)}
    assert "".join(best_first(rows, "like", metric)) == order


@given(st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=8))
def test_a_mark_needs_more_than_two_standard_errors(differences: list[float]) -> None:
    other = [0.5] * len(differences)
    mine = [0.5 + d for d in differences]
    exact = np.subtract(mine, other)
    error = np.std(exact, ddof=1) / np.sqrt(len(exact))
    distance = abs(np.mean(exact)) - 2 * error
    if abs(distance) < 1e-12:
        return  # rounding decides
    expected = "" if distance < 0 else ("better" if np.mean(exact) > 0 else "worse")
    assert mark(row("auc", *mine), row("auc", *other), "like", "auc") == expected


@pytest.mark.parametrize(("seeds", "expected"), [(1, ""), (2, ""), (3, "better")])
def test_few_seeds_mark_nothing(seeds: int, expected: Mark) -> None:
    mine, other = (row("auc", *[start + 0.001 * seed**2 for seed in range(seeds)]) for start in (0.9, 0.1))
    assert mark(mine, other, "like", "auc") == expected
