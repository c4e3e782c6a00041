"""What is the least that a step on a real training set takes? Its matrix products alone, and the rows that it reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.lab import as_a_stage

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "_scaled_dot_product")
PARTS = ("bare towers", "bare rows")


def floor(dataset: str, ranker: dict[str, Any], batch: int, steps: int, warm: int) -> Iterator[None]:
    """Time what a step cannot do without.

    Bare towers are every matrix product that one real step calls, forward and backward, one after the other, and Adam;
    bare rows are the gather, sum by row and row-wise update of the ids that are present.
    """
    as_a_stage()
    import torch
    from torch.nn import functional

    from components.data.training_set import read_schema
    from components.rankers.build import build_ranker
    from components.rankers.config import RankerConfig
    from components.rankers.embedding.sparse_gradient import summed_by_row
    from components.train.train_ranker.config import Knobs
    from components.train.train_ranker.feed import Plan, batches, open_split
    from components.train.train_ranker.loop import Replica, take_step
    from components.train.train_ranker.optimiser import RankerOptimiser
    from components.train.train_ranker.rowwise import RowwiseAdam
    from features.declaration import PADDING
    from tests.benchmarks.real_rows import padded

    schema = read_schema(Path(dataset))
    split = open_split(Path(dataset), "train", schema)
    torch.manual_seed(0)
    module: Any = build_ranker(RankerConfig.of(**ranker), schema)
    module.train()
    if hasattr(getattr(module, "domain", None), "warm_up"):
        module.domain.warm_up = 0  # in which a step is cheaper
    optimiser, replica = RankerOptimiser(module, Knobs()), Replica()
    with batches(split, Plan(batch, 0, split.rows, 0, 1, replica.device), epoch=1) as feed:
        products = _products(lambda: take_step(module, optimiser, next(feed), "float32", replica))
    arrays, table = padded(split, schema), module.embedding.weight.detach()
    order = torch.randperm(split.rows)
    places = []
    for step in range(steps):
        at = order[torch.arange(step * batch, (step + 1) * batch) % split.rows].numpy()
        each = [(torch.from_numpy(arrays[f.name][at]), f.name) for f in schema.fields if f.embedded]
        places.append(torch.cat([ids[ids != PADDING] + module.embedding.offsets[name] for ids, name in each]))
    dense = [p for p in module.parameters() if p.requires_grad and p is not module.embedding.weight]
    for parameter in dense:
        parameter.grad = torch.zeros_like(parameter)
    adam, rows = torch.optim.Adam(dense, fused=True), RowwiseAdam(table, 0.001, 0.0)
    seconds = dict.fromkeys(PARTS, 0.0)
    yield
    for step in range(steps):
        start = time.perf_counter()
        for product in products:
            product()
        adam.step()
        between = time.perf_counter()
        rows.step(*summed_by_row(places[step], functional.embedding(places[step], table)))
        if step >= warm:
            seconds["bare towers"] += between - start
            seconds["bare rows"] += time.perf_counter() - between
    yield
    each_step = {part: spent / (steps - warm) * 1000 for part, spent in seconds.items()}
    return {"rate": batch / sum(each_step.values()) * 1000} | each_step  # type: ignore[return-value]


def _products(step: Callable[[], object]) -> list[Callable[[], object]]:
    """Return the matrix products of a step, to be called again on what they were given."""
    from functools import partial

    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[Callable[[], object]] = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, called: Any, types: Any, given: Any = (), options: Any = None) -> Any:
            if called.overloadpacket.__name__.startswith(PRODUCTS):
                found.append(partial(called, *given, **(options or {})))
            return called(*given, **(options or {}))

    with Record():
        step()
    return found
