"""Does the read-out compute what ReLoop2's formulas say, and nothing where it knows nothing?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from registry.memory.compensation import (
    apply,
    attention,
    confidence,
    errors_of,
    estimated_error,
    in_funnel_order,
    weights_of,
)
from registry.memory.neighbours import Neighbours
from registry.memory.spec import ReadOut

# Golden vector of the specification: three raw memory rows, one query, dot-product similarity.
MEMORY = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
LABEL = np.array([[1.0, 0.0, 1.0]])
PREDICTED = np.array([[0.7, 0.2, 0.4]])
QUERY = np.array([0.8, 0.6])
BASE = np.array([0.5])
ALL = np.ones((1, 3), dtype=bool)


def test_attention_matches_the_golden_vector() -> None:
    similarity = (MEMORY @ QUERY)[None, :]
    np.testing.assert_allclose(similarity, [[0.8, 0.6, 0.96]], atol=1e-12)
    cold = attention(similarity, ALL, 0.1)
    np.testing.assert_allclose(cold, [[0.164248, 0.022229, 0.813524]], atol=1e-6)
    np.testing.assert_allclose((cold * LABEL).sum(), 0.9777715, atol=1e-7)
    np.testing.assert_allclose((cold * PREDICTED).sum(), 0.4448286, atol=1e-7)
    warm = attention(similarity, ALL, 1.0)
    np.testing.assert_allclose(warm, [[0.334198, 0.273618, 0.392185]], atol=1e-6)
    np.testing.assert_allclose((warm * LABEL).sum(), 0.7263821, atol=1e-7)


@pytest.mark.parametrize(
    ("temperature", "gamma", "error", "compensated"),
    [
        (0.1, 1.0, 0.4777715, 0.6911086),
        (0.1, 0.5, 0.5053572, 0.7021429),
        (0.1, 0.0, 0.5329429, 0.7131772),
        (1.0, 1.0, 0.2263821, 0.5905529),
    ],
)
def test_compensation_matches_the_golden_vector(
    temperature: float, gamma: float, error: float, compensated: float
) -> None:
    weights = attention((MEMORY @ QUERY)[None, :], ALL, temperature)
    found = estimated_error(weights, LABEL, PREDICTED, BASE, gamma)
    np.testing.assert_allclose(found, [error], atol=1e-7)
    np.testing.assert_allclose(apply(BASE, found, 0.4), [compensated], atol=1e-7)


def neighbours(count: list[list[float]], label: list[list[float]], predicted: list[list[float]]) -> Neighbours:
    return sketched(np.array(count, dtype=float), np.array(label), np.array(predicted))


def sketched(count: np.ndarray, label: np.ndarray, predicted: np.ndarray) -> Neighbours:
    """Neighbours as a sketch answers."""
    return Neighbours(
        count=count,
        similarity=np.log1p(count),
        support=count.mean(axis=1),
        label={"like": label},
        predicted={"like": predicted},
    )


def test_empty_arrays_are_masked_not_read_as_zero() -> None:
    """One full bucket among empty ones answers alone; an empty bucket is not a label of 0."""
    found = neighbours([[4, 0, 0]], [[1.0, 0.0, 0.0]], [[0.3, 0.0, 0.0]])
    base = {"like": np.array([0.3])}
    for pool in ("softmax", "ratio"):
        error = errors_of(found, base, ReadOut(pool=pool))["like"]
        np.testing.assert_allclose(error, [0.7])


def test_no_neighbour_means_no_known_error() -> None:
    nothing = np.zeros((1, 3))
    np.testing.assert_array_equal(attention(nothing, np.zeros((1, 3), dtype=bool), 0.1), nothing)
    assert estimated_error(nothing, nothing, nothing, BASE, 1.0) == 0.0  # and not 0 − 0.5


def test_ratio_is_one_ratio_of_sums() -> None:
    found = neighbours([[3, 1]], [[1 / 3, 1.0]], [[0.5, 0.5]])
    error = errors_of(found, {"like": np.array([0.0])}, ReadOut(pool="ratio"))["like"]
    np.testing.assert_allclose(error, [(1 + 1) / (3 + 1)])


def test_temperature_sharpens_towards_the_fullest_bucket() -> None:
    found = neighbours([[7.0, 3.0, 1.0]], [[0, 0, 0]], [[0, 0, 0]])
    np.testing.assert_allclose(weights_of(found, ReadOut(temperature=1.0)), [[8 / 14, 4 / 14, 2 / 14]])
    assert weights_of(found, ReadOut(temperature=0.1))[0, 0] > 0.999


def test_a_neighbour_of_less_than_one_row_weighs_that_much_less() -> None:
    """Two rows equally similar, one of them of two slots ago at ρ = .5."""
    mass = np.array([[1.0, 0.25]])
    found = Neighbours(mass, np.full((1, 2), 0.9), mass.sum(axis=1), {}, {})
    for pool in ("softmax", "ratio"):
        np.testing.assert_allclose(weights_of(found, ReadOut(pool=pool, temperature=0.1)), [[0.8, 0.2]])


def test_shrinkage_is_n_over_n_plus_n0() -> None:
    np.testing.assert_allclose(confidence(np.array([5.0, 0.0]), 5.0), [0.5, 0.0])
    np.testing.assert_allclose(confidence(np.array([0.5]), 0.0), [1.0])


probability = st.floats(0, 1, width=32)


@given(
    base=arrays(np.float64, 5, elements=probability),
    count=arrays(np.float64, (5, 4), elements=st.integers(0, 9).map(float)),
    label=arrays(np.float64, (5, 4), elements=probability),
    predicted=arrays(np.float64, (5, 4), elements=probability),
    gamma=st.floats(0, 1),
    weight=st.floats(0, 1),
    shrinkage=st.floats(0, 20),
    pool=st.sampled_from(["softmax", "ratio"]),
)
def test_laws_of_compensation(base, count, label, predicted, gamma, weight, shrinkage, pool) -> None:  # type: ignore[no-untyped-def]  # strategies
    read_out = ReadOut(gamma=gamma, shrinkage=shrinkage, pool=pool)
    found = sketched(count, label, predicted)
    error = errors_of(found, {"like": base}, read_out)["like"]
    answer = apply(base, error, weight)
    assert ((answer >= 0) & (answer <= 1)).all()
    assert np.array_equal(apply(base, error, 0.0), base)  # λ = 0 is the base model, to the bit
    unknown = (count == 0).all(axis=1)
    assert np.array_equal(answer[unknown], base[unknown])  # so is a row nobody resembles
    assert np.isfinite(error).all()
    mixture = errors_of(found, {"like": base}, ReadOut(gamma=1.0))["like"]
    if (count > 0).any():
        known = ~unknown
        mean = (weights_of(found, ReadOut()) * label).sum(axis=1)
        # γ = 1 is a mixture (1 − λ)·base + λ·(neighbours' mean label).
        np.testing.assert_allclose(
            apply(base, mixture, weight)[known], ((1 - weight) * base + weight * mean)[known], atol=1e-12
        )


def test_deeper_feedback_never_ends_above_shallower() -> None:
    base = {"like": np.array([0.5, 0.5, 0.2]), "love": np.array([0.4, 0.4, 0.3])}
    after = {"like": np.array([0.3, 0.6, 0.2]), "love": np.array([0.45, 0.2, 0.3]), "love_given_like": np.ones(3)}
    ordered = in_funnel_order(after, base, ("like", "love"))
    np.testing.assert_array_equal(ordered["love"], [0.3, 0.2, 0.3])  # the last row was never compensated
    np.testing.assert_array_equal(ordered["like"], after["like"])
    np.testing.assert_array_equal(ordered["love_given_like"], np.ones(3))
