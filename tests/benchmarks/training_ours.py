"""What do the benchmarks of training train? Our ESMM on a world of Zipf ids, by the loop's own feed and step."""

from __future__ import annotations

import time

import torch

from components.data.training_set import EncodedSplit
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Knobs, Tables
from components.train.train_ranker.feed import Plan, batches
from components.train.train_ranker.loop import Replica, take_step
from components.train.train_ranker.losses import Losses
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import Declaration, FieldSpec, RankerSchema
from tests.benchmarks.training_world import FIELDS, HIDDEN, WIDTH, read_rows

TABLE_RATE = 0.03


def read_split(path: str, start: int = 0, stop: int | None = None) -> EncodedSplit:
    """Return rows of a file, all of them if none are named."""
    ids, click, conversion = (values[start:stop] for values in read_rows(path))
    return EncodedSplit(
        features={f"f{i:02}": ids[:, i].copy() for i in range(FIELDS)},
        labels={"click": click, "conversion": conversion},
        domain=ids[:, 0],
        user=ids[:, 0],
    )


def new_ranker(split: EncodedSplit, vocabulary: int) -> tuple[RankerModule, RankerOptimiser]:
    """Return an untrained ranker and its optimiser, the same ones every time."""
    torch.manual_seed(0)
    schema = RankerSchema(
        declaration=Declaration(feedback=("click", "conversion"), funnel=True),
        fields=tuple(FieldSpec(name=f"f{i:02}", kind="categorical", size=vocabulary + 1) for i in range(FIELDS)),
        base_rates={name: float(values.mean()) for name, values in split.labels.items()},
        rows=split.rows,
    )
    ranker = build_ranker(RankerConfig.of(name="esmm", embedding_width=WIDTH, hidden=HIDDEN), schema)
    knobs = Knobs(tables=Tables(optimiser="rowwise_adagrad", learning_rate=TABLE_RATE))
    return ranker, RankerOptimiser(ranker, knobs)


def train(
    ranker: RankerModule,
    optimiser: RankerOptimiser,
    split: EncodedSplit,
    precision: str,
    warm: int,
    replica: Replica,
    batch: int,
) -> float:
    """Take one pass over a split and return the samples per second of all workers after the first steps.

    Losses are read as the loop reads them: on a device that computes by itself, one step late.
    """
    ranker.train()
    losses = Losses(
        0.0, replica.reads_late, lambda given, loss: BadInputError(f"the loss is {loss} in step {given.step}")
    )
    plan = Plan(batch, 0, split.rows, replica.rank, replica.world, replica.device)
    start = time.perf_counter()
    with batches(split, plan, epoch=1) as feed:
        for given in feed:
            if given.step == warm + 1:
                wait(replica.device)
                start = time.perf_counter()
            losses.add(given, take_step(ranker, optimiser, given, precision, replica))
    wait(replica.device)
    return (split.rows - warm * batch) / (time.perf_counter() - start)


def wait(device: torch.device) -> None:
    """Wait until a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()
