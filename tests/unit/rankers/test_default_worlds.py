"""Does each history encoder learn what only it can, with the scales that are shipped? Planted worlds, default configs.

A part whose products are too small to start with is its own control, however right its formula is.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train_ranker.knobs import Knobs
from components.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema
from tests.known_truth import excess_loss

ITEMS, EVENTS, ROWS = 12, 6, 40_000
SCHEMA = RankerSchema(
    declaration=Declaration(feedback=("like",)),
    fields=(
        FieldSpec(name="item_id", kind="categorical", size=FIRST + ITEMS, table="item_id"),
        FieldSpec(name="recent", kind="sequence", size=FIRST + ITEMS, table="item_id", length=EVENTS),
    ),
    base_rates={"like": 0.5},
)


def order_world(rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return impressions liked at 0.9 when the candidate is among the last two events, else at 0.1."""
    g = torch.Generator().manual_seed(seed)
    kept = torch.randint(2, EVENTS + 1, (rows, 1), generator=g)
    ids = FIRST + torch.randint(ITEMS, (rows, EVENTS), generator=g)
    history = torch.where(torch.arange(EVENTS) < kept, ids, 0)
    seen = history.gather(1, (torch.rand(rows, 1, generator=g) * kept).long())[:, 0]
    other = FIRST + torch.randint(ITEMS, (rows,), generator=g)
    item = torch.where(torch.rand(rows, generator=g) < 0.7, seen, other)
    recent = (history[:, :2] == item[:, None]).any(dim=1)
    return {"item_id": item, "recent": history}, torch.where(recent, 0.9, 0.1)


@cache
def excess(sequence: str) -> float:
    """Return the log-loss above the truth's own after a short training of a `dnn` with nothing set but the encoder."""
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig(name="dnn", sequence=sequence), SCHEMA).train()
    batch, truth = order_world(ROWS, seed=1)
    g = torch.Generator().manual_seed(0)
    likes = (torch.rand(ROWS, generator=g) < truth).float()
    optimiser = RankerOptimiser(ranker, Knobs(learning_rate=0.003))
    for _ in range(250):
        rows = torch.randint(ROWS, (512,), generator=g)
        optimiser.clear()
        ranker.loss(ranker({name: values[rows] for name, values in batch.items()}), {"like": likes[rows]}).backward()  # type: ignore[no-untyped-call]  # torch does not type it
        optimiser.step()
    unseen, truth = order_world(4000, seed=2)
    with torch.no_grad():
        return excess_loss(truth, ranker.eval()(unseen)["like"])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are too small for two
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("sequence", ["tin", "transformer"])
@pytest.mark.parametrize("blind", ["mean", "din"])
def test_what_is_recent_is_learned_by_who_knows_the_order(sequence: str, blind: str) -> None:
    """Negative controls: the mean sees neither candidate nor order, DIN no order."""
    assert excess(blind) > 0.1
    assert excess(sequence) < 0.2 * excess(blind)
