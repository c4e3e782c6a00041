"""A world in which content tells of an item what its clicks would, for items that nobody has clicked yet.

1,000 items of 20 topics with 5 kinds each, seen through 16 numbers; an item is liked by its topic, its kind and
something of its own. Training holds 700 of them, shown by a Zipf law.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema

ITEMS, KNOWN, TOPICS, KINDS, WIDTH = 1000, 700, 20, 5, 16
ROWS = 30_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ContentWorld:
    """What there is to know, and rows of it."""

    content: NDArray[np.float32]
    """float32 ``[items, 16]``."""
    logit: Floats
    """``[items]``, how much an item is liked."""
    train: NDArray[np.int64]
    """``[rows]``, the item of each training row: one of the first 700."""
    clicks: NDArray[np.float32]
    """``[rows]`` 0 or 1."""
    rng: np.random.Generator

    def drawn(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return whether each of some rows' items was clicked."""
        return (self.rng.random(len(items)) < 1 / (1 + np.exp(-self.logit[items]))).astype(np.float32)


def content_world(seed: int) -> ContentWorld:
    """Return the world of a seed: what is true, and what was drawn."""
    rng = np.random.default_rng(seed)
    topic, kind = rng.integers(TOPICS, size=ITEMS), rng.integers(KINDS, size=ITEMS)
    topics = rng.normal(size=(TOPICS, WIDTH))
    kinds = topics[:, None, :] + 0.5 * rng.normal(size=(TOPICS, KINDS, WIDTH))
    content = kinds[topic, kind] + 0.1 * rng.normal(size=(ITEMS, WIDTH))
    liked, of_kind = rng.normal(size=TOPICS), 0.5 * rng.normal(size=(TOPICS, KINDS))
    logit = liked[topic] + of_kind[topic, kind] + 0.3 * rng.normal(size=ITEMS)
    shares = 1 / np.arange(1, KNOWN + 1)
    train = rng.choice(KNOWN, size=ROWS, p=shares / shares.sum())
    world = ContentWorld(content.astype(np.float32), logit, train, np.zeros(0, np.float32), rng)
    return ContentWorld(world.content, logit, train, world.drawn(train), rng)


def judged(world: ContentWorld, scores: NDArray[Any]) -> dict[str, float]:
    """Return the AUC of a score per item on fresh rows of items that training held, of its rare ones, and of others.

    Rows of the first are drawn as training rows are; of the others each item as often.
    """
    from registry.metrics import auc

    shares = 1 / np.arange(1, KNOWN + 1)
    groups = {
        "seen": world.rng.choice(KNOWN, size=ROWS, p=shares / shares.sum()),
        "tail": world.rng.integers(200, KNOWN, size=ROWS),
        "unseen": world.rng.integers(KNOWN, ITEMS, size=ROWS),
    }
    return {name: float(auc(world.drawn(items), scores[items]) or 0.5) for name, items in groups.items()}


def learned(
    world: ContentWorld,
    block: str,
    values: Mapping[str, NDArray[np.int64]],
    seed: int,
    prepare: Callable[[RankerModule], None] = lambda ranker: None,
    content: int = 0,
) -> dict[str, float]:
    """Return what `judged` says of a ranker as shipped after four passes.

    Values that no training row holds start at zero, as those of a vocabulary do that training never fills.

    Args:
        world: what it learns from.
        block: the `ranker:` block as JSON.
        values: by field, ``[items]``, the value of each item, from 0.
        seed: of weights and order.
        prepare: called with the new ranker.
        content: width of the vectors of items.
    """
    fields = tuple(
        FieldSpec(
            name=name,
            kind="categorical",
            size=FIRST + int(of.max()) + 1,
            table=name,
            content=content if name == "item_id" else 0,
        )
        for name, of in sorted(values.items())
    )
    rate = {"click": float(world.clicks.mean())}
    schema = RankerSchema(declaration=Declaration(feedback=("click",)), fields=fields, base_rates=rate)
    torch.manual_seed(seed)
    ranker = build_ranker(RankerConfig.model_validate_json(block), schema).train()
    embedding = ranker.get_submodule("embedding")
    with torch.no_grad():
        for field in fields:
            held = np.isin(np.arange(field.size - FIRST), values[field.name][world.train])
            embedding.weight[embedding.offsets[field.name] + FIRST + np.flatnonzero(~held)] = 0.0  # type: ignore[operator,index,union-attr]  # a FieldEmbedding
    prepare(ranker)
    optimiser = RankerOptimiser(ranker, Knobs(learning_rate=0.001))
    inputs = {name: torch.from_numpy(of + FIRST) for name, of in values.items()}
    items, clicks = torch.from_numpy(world.train), torch.from_numpy(world.clicks)
    order = torch.Generator().manual_seed(seed)
    for _ in range(4):
        for at in torch.randperm(len(items), generator=order).split(256):
            optimiser.clear()
            outputs = ranker({name: of[items[at]] for name, of in inputs.items()})
            ranker.loss(outputs, {"click": clicks[at]}).backward()  # type: ignore[no-untyped-call]  # torch does not type it
            optimiser.step()
    with torch.no_grad():
        return judged(world, ranker.eval()(inputs)["click"].numpy())
