"""Are the sides of planes those of float64, whatever a key's length and however close it lies to a plane?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from registry.memory.planes import FEW, Planes

WIDTH, PLANES = 24, 40
PROJECTIONS = np.random.default_rng(5).standard_normal((WIDTH, PLANES))
TOGETHER = Planes.of(PROJECTIONS)


def sides(keys: np.ndarray) -> np.ndarray:
    """Return the sides, one product of higher precision after the other."""
    wide = keys.astype(np.longdouble)
    return np.array([[(normal.astype(np.longdouble) * key).sum() > 0 for key in wide] for normal in PROJECTIONS.T])


@given(arrays(np.float32, (3, WIDTH), elements=st.floats(-1, 1, width=32)), st.integers(-30, 30))
def test_sides_of_keys_of_any_length(keys: np.ndarray, magnitude: int) -> None:
    """A length that float32 cannot hold, or zero."""
    scaled = keys.astype(np.float64) * 10.0**magnitude
    assert np.array_equal(TOGETHER.above(scaled), sides(scaled))


@pytest.mark.parametrize("distance", [1e-12, 1e-9, 1e-8, 1e-7, 1e-6, 1e-4])
def test_keys_beside_a_plane_fall_on_its_right_side(distance: float) -> None:
    """Keys at a relative distance below and above what float32 tells apart, to both sides of one plane each."""
    rng = np.random.default_rng(1)
    keys, wanted = [], []
    for plane in range(PLANES):
        normal = PROJECTIONS[:, plane] / np.linalg.norm(PROJECTIONS[:, plane])
        for side in (-1, 1):
            inside = rng.standard_normal(WIDTH)
            inside -= normal * (normal @ inside)
            inside /= np.linalg.norm(inside)
            inside -= normal * (normal @ inside)
            keys.append(inside + side * distance * normal)
            wanted.append((plane, side > 0))
    above = TOGETHER.above(np.array(keys))
    assert [bool(above[plane, row]) for row, (plane, _) in enumerate(wanted)] == [side for _, side in wanted]
    assert np.array_equal(above, sides(np.array(keys)))


def test_keys_that_float32_says_nothing_of_are_all_multiplied_again() -> None:
    keys = np.random.default_rng(2).standard_normal((50, WIDTH)) * 1e-40
    assert np.array_equal(TOGETHER.above(keys), sides(keys))
    mixed = np.concatenate([keys[:1], np.random.default_rng(3).standard_normal((int(2 / FEW), WIDTH))])
    assert np.array_equal(TOGETHER.above(mixed), sides(mixed))


def test_no_keys_lie_on_no_side() -> None:
    assert TOGETHER.above(np.zeros((0, WIDTH))).shape == (PLANES, 0)
    assert not TOGETHER.above(np.zeros((4, WIDTH))).any()
