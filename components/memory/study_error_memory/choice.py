"""What does the validation split choose? The learning rate and the memory whose replay there has the least log-loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from components.data.training_set import EncodedSplit
from components.memory.study_error_memory.config import Config
from components.memory.study_error_memory.incremental import learn_slot_by_slot
from components.memory.study_error_memory.memories import Memory
from components.memory.study_error_memory.report import MemoryChoice, MemoryTried, RateTried
from components.memory.study_error_memory.shared_reads import Player, Recorder
from components.rankers.base import RankerModule
from registry.memory.neighbours import Store
from registry.memory.prequential import Replay, Stream, replay
from registry.memory.spec import ExactStore
from registry.memory.stores import empty_store
from registry.metrics import log_loss

Array = np.ndarray[Any, Any]
Bounds = Sequence[tuple[int, int]]
MOST_KEPT = 10_000_000
"""Most neighbours of all rows kept from one search: at two tasks half a gigabyte."""


def replayed(
    stream: Stream, bounds: Bounds, memory: Memory, config: Config, funnel: bool, store: Store | None = None
) -> Replay:
    """Replay a stream with one memory that is empty at its start."""
    feedback = tuple(stream.labels)
    return replay(
        stream,
        store or _empty(stream, memory, config),
        feedback,
        bounds=bounds,
        read_out=config.read_out_at(memory.temperature),
        grid=config.lambdas,
        funnel=funnel,
        decay=memory.decay,
    )


def choose_memory(
    stream: Stream, bounds: Bounds, config: Config, funnel: bool, tell: Callable[[str], None]
) -> MemoryChoice:
    """Return the memory with the least log-loss, the plainer one on a tie, and whether it beats no memory at all.

    One memory is taken as it is given, and nothing is replayed.
    """
    offered = config.memories()
    if len(offered) == 1:
        return MemoryChoice(memory=offered[0], helps=None, tried=())
    without = _mean_loss(stream, stream.predicted)
    losses: list[float] = []
    for _, alike in groupby(offered, key=_held):
        for memory, store in _sharing(tuple(alike), stream, config):
            losses.append(_mean_loss(stream, replayed(stream, bounds, memory, config, funnel, store).compensated))
            tell(f"{memory}: log-loss {losses[-1]:.5f} on {len(bounds)} validation slots, {without:.5f} without memory")
    best = losses.index(min(losses))  # the first of equals, and the plainer come first
    tried = (MemoryTried(memory=m, log_loss=loss) for m, loss in zip(offered, losses, strict=True))
    return MemoryChoice(
        memory=offered[best],
        helps=losses[best] < without,
        tried=(MemoryTried(memory=None, log_loss=without), *tried),
    )


def choose_rate(
    stream: Stream,
    rows: EncodedSplit,
    bounds: Bounds,
    ranker: RankerModule,
    config: Config,
    tell: Callable[[str], None],
) -> tuple[tuple[RateTried, ...], float, dict[str, Array]]:
    """Return what each learning rate did on the slots of the validation split, the best, and its answers there."""
    tried = [RateTried(rate=0.0, log_loss=_mean_loss(stream, stream.predicted))]
    answers: dict[float, dict[str, Array]] = {}
    for rate in config.learning_rates:
        answers[rate] = learn_slot_by_slot(
            ranker, rows, bounds, tuple(stream.labels), rate=rate, batch_size=config.batch_size, seed=config.seed
        )
        tried.append(RateTried(rate=rate, log_loss=_mean_loss(stream, answers[rate])))
        tell(f"learning rate {rate:g}: log-loss {tried[-1].log_loss:.5f} on {len(bounds)} validation slots")
    best = min(tried[1:], key=lambda found: (found.log_loss, found.rate)).rate
    return tuple(tried), best, answers[best]


def _empty(stream: Stream, memory: Memory, config: Config) -> Store:
    return empty_store(memory.store, stream.keys.shape[1], config.seed, tuple(stream.labels))


def _held(memory: Memory) -> tuple[float, str]:
    """Return what decides which rows a memory holds, and how they count; equal ones follow each other in a grid."""
    return memory.decay, memory.store.model_dump_json(exclude={"neighbours"})


def _sharing(alike: Sequence[Memory], stream: Stream, config: Config) -> Iterator[tuple[Memory, Store]]:
    """Yield memories that hold the same rows, each with its store: the widest searches, the others take what it found.

    Each store is to be replayed before the next is asked for. What is found in a long split is not kept, and then each
    memory searches for itself.
    """
    widest = alike[0].store
    found = len(stream.times) * (widest.neighbours if isinstance(widest, ExactStore) else widest.arrays)
    recorder = Recorder(_empty(stream, alike[0], config))
    for memory in alike:
        if found > MOST_KEPT:
            yield memory, _empty(stream, memory, config)
        elif memory is alike[0]:
            yield memory, recorder
        else:
            nearest = memory.store.neighbours if isinstance(memory.store, ExactStore) else None
            yield memory, Player(recorder.reads, nearest)


def _mean_loss(stream: Stream, predicted: Mapping[str, Array]) -> float:
    return sum(log_loss(truth, predicted[task]) or 0.0 for task, truth in stream.labels.items()) / len(stream.labels)
