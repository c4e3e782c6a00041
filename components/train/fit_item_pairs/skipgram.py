"""Which two vectors has an item, one to be asked with and one to be found by? Skip-gram with negative sampling.

Kvernadze et al., "Two Is Better Than One: Dual Embeddings for Complementary Product Recommendations", ICKG 2022, arXiv
2211.14982. What stands for an item lies in baskets like its own: its vector of asking is near. What goes with it lies
in its baskets: there the vector of asking meets the other's vector of being found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from components.train.fit_item_pairs.baskets import Baskets, Lines
from components.train.fit_item_pairs.config import Config

Floats = NDArray[np.float32]
DRAWN = 256
"""Items that are drawn per step, for all its pairs together: their mean stands for `negatives` draws of each."""
_STARTS_AT = 0.1


@dataclass(frozen=True)
class Learned:
    """Two vectors per item."""

    asking: Floats
    """float32 ``[I, D]``, v."""
    found: Floats
    """float32 ``[I, D]``, o."""
    log_chance: Floats
    """float32 ``[I]``, logarithm of the chance to be drawn as a negative."""

    def sides(self, popularity: float) -> tuple[Floats, Floats]:
        """Return ``[I, D + 1]`` each, whose inner products are ⟨v_a, o_b⟩ + popularity · log chance of b."""
        more = np.full((len(self.asking), 1), popularity, dtype=np.float32)
        return np.hstack([self.asking, more]), np.hstack([self.found, self.log_chance[:, None]])


def chances(counts: NDArray[np.int64], power: float) -> NDArray[np.float64]:
    """Return how probable each item is to be drawn: in proportion to its count to a power."""
    mass = counts.astype(np.float64) ** power
    return np.asarray(mass / mass.sum())


def kept(counts: NDArray[np.int64], subsample: float | None) -> NDArray[np.float64]:
    """Return how probable a line of each item is to be kept: √(subsample / share of all lines), at most 1."""
    if subsample is None:
        return np.ones(len(counts))
    return np.minimum(1.0, np.sqrt(subsample * counts.sum() / counts))


def pair_losses(asking: Tensor, found: Tensor, drawn: Tensor, each: float = 1.0) -> Tensor:
    """Return ``[B]``, −log σ(⟨v, o⟩) − each · Σ_n log σ(−⟨v, o_n⟩).

    Args:
        asking: v, float ``[B, D]``.
        found: o of the other item, float ``[B, D]``.
        drawn: o of what was drawn, float ``[N, D]``, the same for all pairs.
        each: how much one of them counts.
    """
    near = functional.logsigmoid((asking * found).sum(dim=1))
    return -near - each * functional.logsigmoid(-(asking @ drawn.T)).sum(dim=1)


def learn(baskets: Baskets, config: Config, told: Callable[[str], None] = lambda _: None) -> Learned:
    """Return the vectors of the items of the training baskets; the same ones each time."""
    rng = np.random.default_rng([config.seed, 1])
    generator = torch.Generator().manual_seed(config.seed)
    items = len(baskets.items)
    chance, keep = chances(baskets.counts, config.power), kept(baskets.counts, config.subsample)
    reach = np.cumsum(chance)
    asking = torch.nn.Embedding(items, config.width, sparse=True)
    found = torch.nn.Embedding(items, config.width, sparse=True)
    with torch.no_grad():
        asking.weight.copy_(_STARTS_AT * torch.randn(items, config.width, generator=generator))
        found.weight.zero_()
    optimiser = torch.optim.SparseAdam([asking.weight, found.weight], lr=config.learning_rate)
    for epoch in range(config.epochs):
        lines = _thinned(baskets.train, keep, rng)
        shown = list(lines.shown(config.contexts, rng))
        ours = np.concatenate([pair[0] for pair in shown]) if shown else np.empty(0, np.int64)
        theirs = np.concatenate([pair[1] for pair in shown]) if shown else np.empty(0, np.int64)
        order = rng.permutation(len(ours))
        total = 0.0
        for start in range(0, len(order), config.batch_size):
            at = order[start : start + config.batch_size]
            done = (epoch + start / len(order)) / config.epochs
            optimiser.param_groups[0]["lr"] = config.learning_rate * (1 - done)
            drawn = np.minimum(np.searchsorted(reach, rng.random(DRAWN), side="right"), items - 1)
            loss = pair_losses(
                asking(torch.from_numpy(ours[at])),
                found(torch.from_numpy(theirs[at])),
                found(torch.from_numpy(drawn)),
                config.negatives / DRAWN,
            ).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(at)
        told(f"epoch {epoch + 1} of {config.epochs}: {len(order):,} pairs, loss {total / max(1, len(order)):.4f}")
    vectors = [table.weight.detach().numpy().copy() for table in (asking, found)]
    return Learned(vectors[0], vectors[1], np.log(chance).astype(np.float32))


def _thinned(lines: Lines, keep: NDArray[np.float64], rng: np.random.Generator) -> Lines:
    if (keep >= 1).all():
        return lines
    some = rng.random(len(lines.item)) < keep[lines.item]
    return Lines(lines.basket[some], lines.item[some])
