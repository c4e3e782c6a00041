"""Does a number keep its scale whatever sentinel a log writes for "unknown"?"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.numbers import LARGEST
from features.moments import moments

SENTINELS = (-999.0, 9999.0, 2.0**31 - 1, -(2.0**31), 1e30, 1e300, -1e308, math.inf, math.nan)
NORMAL = np.random.default_rng(3).normal(0, 1, 6_000)


@pytest.mark.parametrize("sentinel", SENTINELS)
@pytest.mark.parametrize("rows", [1, 600, 4_000])
def test_a_sentinel_does_not_move_the_scale_of_the_others(sentinel: float, rows: int) -> None:
    values = NORMAL.copy()
    values[:rows] = sentinel
    mean, scale = moments(values)
    assert mean == pytest.approx(0, abs=0.05)
    assert scale == pytest.approx(1, abs=0.05)


def test_several_sentinels_at_once_are_all_left_out() -> None:
    values = np.concatenate((NORMAL, [1e30, -1e30, -999.0, 9999.0] * 50))
    assert moments(values) == pytest.approx(moments(NORMAL))
    counts = np.random.default_rng(1).poisson(2, 6_000).astype(float)
    assert moments(np.concatenate((counts, [9999.0, 2.0**31, 1e30]))) == pytest.approx((counts.mean(), counts.std()))


def test_a_sentinel_within_an_order_of_magnitude_is_left_out() -> None:
    even = np.random.default_rng(2).uniform(0, 1_000, 5_000)
    assert moments(np.concatenate((even, [9999.0] * 300))) == pytest.approx((even.mean(), even.std()))


@pytest.mark.parametrize(
    "values",
    [
        NORMAL,
        np.exp(NORMAL),
        np.random.default_rng(4).exponential(50, 6_000),
        np.random.default_rng(5).poisson(3, 6_000).astype(float),
        np.array([0.0, 1.0] * 50),
        np.array([0.0, 2.0**31]),
        np.array([0.0] * 97 + [1.0, 2.0, 3.0]),
    ],
    ids=["normal", "log-normal", "exponential", "counts", "flag", "two values", "mostly zero"],
)
def test_values_without_a_sentinel_keep_their_mean_and_standard_deviation(values: np.ndarray) -> None:
    assert moments(values) == pytest.approx((values.mean(), values.std()))


def test_nothing_and_a_constant_have_the_scale_one() -> None:
    assert moments(np.array([])) == moments(np.array([math.nan, math.inf])) == (0.0, 1.0)
    assert moments(np.full(9, 0.1 + 0.2)) == (pytest.approx(0.3), 1.0)


def test_encoded_values_stay_apart_beside_one_outlier() -> None:
    values = NORMAL.copy()
    values[7] = 2**31 - 1
    plain = {"signal": FieldEncoding(kind="normalise")}
    encoder = Encoder.fit(pa.table({"signal": values}), {"signal": "float64"}, plain)
    encoded = encoder.encode(pa.table({"signal": values}))["signal"]
    assert encoded[7] == LARGEST
    assert np.corrcoef(np.delete(encoded, 7), np.delete(values, 7))[0, 1] > 0.999
    assert np.delete(encoded, 7).std() == pytest.approx(1, abs=0.01)
