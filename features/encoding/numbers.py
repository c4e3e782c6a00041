"""How does a number become a model input? Quantiles, normal scores, standard deviations and bins."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa

from features.declaration import FIRST, PADDING
from features.encoding.fitted import FittedField

KNOTS = 257
"""Training quantiles between which `number` interpolates, the ends included."""
OUTERMOST = 0.001
"""Share of the training rows that the least and the largest score stand for: a normal score of ±3.09."""
Knots = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""`edges` and `scores` of a `FittedField` as arrays."""
LARGEST = 10.0
"""Normalised values are clipped to ±LARGEST standard deviations, so that one outlier cannot rule a batch."""


def numbers_of(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return float64 values, NaN for missing; times as seconds since 1970 UTC."""
    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
        return micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
    floats = column if pa.types.is_float64(column.type) else column.cast(pa.float64(), safe=False)
    return floats.to_numpy(zero_copy_only=False)


def quantiles(values: np.ndarray[Any, Any], buckets: int) -> tuple[float, ...]:
    """Return the inner edges of `buckets` bins of about equally many finite values, each once, ascending."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return ()
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, buckets + 1)[1:-1], method="lower"))
    return tuple(float(edge) for edge in edges)


def normal_scores(values: np.ndarray[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the quantiles of the finite values, each once, and the normal score of the middle of its ranks."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (), ()
    ranks = np.linspace(0, 1, KNOTS)
    quantiles = np.quantile(finite, ranks)
    edges = np.unique(quantiles)
    first, last = (np.searchsorted(quantiles, edges, side=side) for side in ("left", "right"))
    middle = np.clip((ranks[first] + ranks[last - 1]) / 2, OUTERMOST, 1 - OUTERMOST)
    return tuple(edges.tolist()), tuple(NormalDist().inv_cdf(share) for share in middle.tolist())


def scored(field: FittedField, knots: Knots, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float32 ``[rows, 3]``: normal score, standard deviations from the mean, whether the value is missing."""
    made = np.zeros((len(values), 3), dtype=np.float32)
    made[:, 1] = scaled(field, values)
    missing = ~np.isfinite(values)
    if field.edges:
        made[:, 0] = np.interp(values, *knots)
        made[missing, 0] = 0.0
    if field.misses:
        made[:, 2] = missing
    return made


def binned(knots: Knots, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return int64 ``[rows]`` indices of bins, `PADDING` where the value is missing."""
    bins = knots[0].searchsorted(values, side="right") + FIRST
    bins[~np.isfinite(values)] = PADDING
    return bins


def scaled(field: FittedField, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float64 ``[rows]`` standard deviations from the mean, 0 where the value is missing."""
    scaled = (values - field.mean) / field.scale
    scaled[~np.isfinite(scaled)] = 0.0
    return np.minimum(np.maximum(scaled, -LARGEST), LARGEST)
