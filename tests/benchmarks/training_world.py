"""Which impressions do rankers of a benchmark train on? Zipf-distributed ids whose effects are known.

Nothing but numpy is imported: competitors read the same rows in an environment of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FIELDS, WIDTH, BATCH, HIDDEN = 20, 16, 4096, (360, 200, 80)
QUICK_BATCH = 64
EXPONENT = 1.2


def write_rows(path: Path, vocabulary: int, rows: int, seed: int = 0) -> None:
    """Write ids int64 ``[rows, 20]`` from 1 to `vocabulary`, click and conversion float32 ``[rows]`` each."""
    rng = np.random.default_rng([seed, vocabulary])
    shares = np.arange(1, vocabulary + 1, dtype=np.float64) ** -EXPONENT
    edges = np.cumsum(shares / shares.sum())
    ids = np.empty((rows, FIELDS), dtype=np.int64)
    interest, value = np.full(rows, -1.0), np.full(rows, -0.5)
    for field in range(FIELDS):
        # A permutation: frequent ids do not stand next to each other, as they do not in a real vocabulary.
        named = rng.permutation(vocabulary)
        drawn = np.minimum(np.searchsorted(edges, rng.random(rows)), vocabulary - 1)
        ids[:, field] = named[drawn] + 1
        effects = rng.normal(0.0, 0.35, (2, vocabulary))
        interest += effects[0][drawn]
        value += effects[1][drawn]
    click = rng.random(rows) < 1 / (1 + np.exp(-interest))
    conversion = click & (rng.random(rows) < 1 / (1 + np.exp(-value)))
    np.savez(path, ids=ids, click=click.astype(np.float32), conversion=conversion.astype(np.float32))


def read_rows(path: str) -> tuple[Array, Array, Array]:
    """Return ids, click, conversion."""
    with np.load(path, allow_pickle=False) as held:
        return held["ids"], held["click"], held["conversion"]


def area(labels: Array, scores: Array) -> float:
    """Return the AUC by ranks, ties not expected."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, len(scores) + 1)
    positives = int(labels.sum())
    return float((ranks[labels > 0].sum() - positives * (positives + 1) / 2) / (positives * (len(labels) - positives)))
