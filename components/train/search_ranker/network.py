"""Which network tries every choice at once? The ranker with a place per pair, filled as each row is told.

Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020, for the choices of
OptInter: in training each row has some pairs active, and of those half memorised and half factorised, drawn anew at
every step, so that each way of each pair learns to do without the other and beside any company. How many are active is
drawn per row too, from none to all. OptInter itself blends the three ways by learned weights on the training rows,
where a table that only remembers them looks best, and nothing speaks for doing nothing.
"""

from __future__ import annotations

from itertools import combinations
from typing import cast

import torch
from torch import Tensor

from components.platform.errors import BadInputError, did_you_mean
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.interactions.optinter import OptInter
from components.rankers.parts import FieldVectors, Interaction
from components.train.search_ranker.choice import FACTORISE, MEMORISE, Modes
from components.train.search_ranker.config import Config
from components.train.searched import INTERACTION
from features.declaration import RankerSchema


class EveryWay(Interaction):
    """A part with a place of d numbers per pair: its row, its product, or zeros, as `modes` says.

    Args:
        part: with all pairs memorised, whose tables are used.
    """

    def __init__(self, part: OptInter) -> None:
        super().__init__()
        self.part, self.out_features = part, part.out_features
        self.modes = torch.zeros(len(part.memorised), dtype=torch.int64)
        """int64 ``[P]`` or ``[B, P]``: what each pair does, by the numbers of `MODES`."""

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, (F + P)·d + N]``."""
        remembered = self.part.remembered(fields)
        products = self.part.products(fields, self.part.memorised)
        modes = self.modes.expand(len(remembered), -1).unsqueeze(2)
        told = remembered * (modes == MEMORISE) + products * (modes == FACTORISE)
        return torch.cat([fields.side_by_side(), told.flatten(start_dim=1)], dim=1)


def pairs_among(config: Config, schema: RankerSchema) -> tuple[tuple[str, str], ...]:
    """Return every pair of categorical fields to try, in the order of the fields.

    Raises:
        BadInputError: a field is no categorical one, there are fewer than two, or there are too many pairs.
    """
    known = [f.name for f in schema.fields if f.kind == "categorical" and f.name != schema.declaration.added]
    for name in config.among or ():
        if name not in known:
            raise BadInputError(
                f"among names {name!r}, which is no categorical field of the training set{did_you_mean(name, known)}: "
                f"name some of {', '.join(known)}"
            )
    fields = [name for name in known if config.among is None or name in config.among]
    pairs = tuple(combinations(fields, 2))
    if not pairs:
        raise BadInputError("the training set has fewer than two categorical fields, and so no pair: search nothing")
    if len(pairs) > config.most_pairs:
        raise BadInputError(
            f"{len(fields)} fields make {len(pairs)} pairs, and most_pairs is {config.most_pairs}: name fewer fields "
            "in among, or raise most_pairs"
        )
    return pairs


def network_of(
    config: Config, schema: RankerSchema, pairs: tuple[tuple[str, str], ...]
) -> tuple[ComposedRanker, EveryWay]:
    """Return a ranker with fresh weights from torch's current seed, and the part of it that tries pairs."""
    block = config.ranker.model_dump(mode="json") | {"interaction": INTERACTION, "cross_rows": config.cross_rows}
    block |= {"memorise": pairs, "factorise": ()}
    ranker = cast(ComposedRanker, build_ranker(RankerConfig.model_validate(block), schema))
    every = EveryWay(cast(OptInter, ranker.interaction))
    ranker.interaction = every
    return ranker, every


def drawn(rows: int, pairs: int, seed: int) -> Tensor:
    """Return int64 ``[rows, pairs]``, what each pair does in each row of a step."""
    g = torch.Generator().manual_seed(seed)
    active = torch.rand(rows, pairs, generator=g) < torch.rand(rows, 1, generator=g)
    return active * torch.randint(MEMORISE, FACTORISE + 1, (rows, pairs), generator=g)


def as_told(modes: Modes) -> Tensor:
    """Return int64 ``[pairs]``, the same for every row."""
    return torch.tensor(modes, dtype=torch.int64)
