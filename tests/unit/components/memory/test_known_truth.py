"""Does the memory win back what a planted shift costs, and only because of its own mechanism?

A world with a base model that is right until slot 8 of 10 begins: then the rate of one sub-population of six
jumps from .2 to .85. The loss gap is base − best, best being the true rates after the shift. At least half of it
must be won back within two slots after the one in which it opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from registry.memory.keys import row_keys
from registry.memory.neighbours import Neighbours
from registry.memory.prequential import Stream, replay, slot_bounds
from registry.memory.spec import ExactStore, KeySpec, ReadOut, SketchStore
from registry.memory.stores import empty_store
from registry.metrics import log_loss

ROWS, SLOTS, OPENS = 8000, 10, 7
"""Rows, slots, and the slot (counted from 0) in which the shift opens."""
GRID = tuple(i / 10 for i in range(10))
STORES = {
    "sketch": (SketchStore(arrays=32, bits=8), ReadOut()),
    "exact": (ExactStore(neighbours=70), ReadOut(temperature=0.1)),
}


def world() -> tuple[Stream, np.ndarray]:
    """Return rows of six sub-populations, seen in the keys only, and their true rates."""
    rng = np.random.default_rng(11)
    group = rng.integers(0, 6, ROWS)
    hidden = rng.normal(0, 1, (6, 12))[group] + rng.normal(0, 0.2, (ROWS, 12))
    base = np.array([0.2, 0.25, 0.35, 0.45, 0.55, 0.65])[group]
    after = np.arange(ROWS) >= slot_bounds(np.arange(ROWS), SLOTS)[OPENS][0]
    truth = np.where((group == 0) & after, 0.85, base)
    label = (rng.random(ROWS) < truth).astype(float)
    keys = row_keys(KeySpec(kind="hidden", hidden=12), hidden, hidden.mean(axis=0), pa.table({}))
    return Stream(np.arange(ROWS), rng.integers(0, 99, ROWS), keys, {"like": label}, {"like": base}), truth


class Mute:
    """A store that is never written."""

    tasks, rows = ("like",), 0

    def write(self, keys: np.ndarray, label: Mapping[str, np.ndarray], predicted: Mapping[str, np.ndarray]) -> None:
        """Forget at once."""

    def read(self, keys: np.ndarray) -> Neighbours:
        nothing = np.zeros((len(keys), 1))
        return Neighbours(nothing, nothing, nothing[:, 0], {"like": nothing}, {"like": nothing})

    def forget(self, kept: float) -> None:
        """Nothing is held."""

    def tensors(self) -> dict[str, np.ndarray]:
        return {}


def recovered(kind: str, without: str = "") -> list[float]:
    """Return the share of the loss gap won back in each of the two slots after the shift opened."""
    stream, truth = world()
    choice, read_out = STORES[kind]
    store = Mute() if without == "writes" else empty_store(choice, stream.keys.shape[1], 0, ("like",))
    if without == "a key that sees the group":
        rng = np.random.default_rng(0)
        stream = replace(stream, keys=rng.normal(size=stream.keys.shape))
    bounds = slot_bounds(stream.times, SLOTS)
    result = replay(
        stream, store, ("like",), bounds=bounds, read_out=read_out, grid=(0.0,) if without == "weight" else GRID,
        funnel=False, decay=1.0 if without == "decay" else 0.3,
    )  # fmt: skip
    shares = []
    for begin, end in bounds[OPENS + 1 : OPENS + 3]:
        at = slice(begin, end)
        base, after, best = (
            log_loss(stream.labels["like"][at], p[at]) or 0.0
            for p in (stream.predicted["like"], result.compensated["like"], truth)
        )
        assert base - best > 0.08  # the gap is open
        shares.append((base - after) / (base - best))
    return shares


@pytest.mark.parametrize("kind", STORES)
def test_half_of_the_gap_is_won_back_within_two_slots(kind: str) -> None:
    assert max(recovered(kind)) >= 0.5


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("without", ["weight", "writes", "a key that sees the group", "decay"])
def test_without_its_mechanism_it_is_not(kind: str, without: str) -> None:
    """λ = 0, nothing written, keys that say nothing of the group, or ρ = 1, which keeps seven slots of the past."""
    assert max(recovered(kind, without)) < 0.5


@pytest.mark.parametrize("kind", STORES)
def test_before_the_shift_nothing_is_lost(kind: str) -> None:
    stream, _ = world()
    choice, read_out = STORES[kind]
    bounds = slot_bounds(stream.times, SLOTS)
    store = empty_store(choice, stream.keys.shape[1], 0, ("like",))
    result = replay(stream, store, ("like",), bounds=bounds, read_out=read_out, grid=GRID, funnel=False, decay=0.3)
    calm = slice(0, bounds[OPENS][0])
    base, after = (
        log_loss(stream.labels["like"][calm], p[calm]) or 0.0
        for p in (stream.predicted["like"], result.compensated["like"])
    )
    assert after - base < 0.003
