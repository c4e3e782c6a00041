"""How is a search made? The network that tries every way learns on training rows; validation rows choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.data.training_set import EncodedSplit, read_schema
from components.platform.errors import BadInputError
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.tasks import tasks_of
from components.train.frozen_vectors import give_vectors
from components.train.search_ranker.choice import FACTORISE, MEMORISE, NAIVE, Losses, Modes, choose
from components.train.search_ranker.config import Config
from components.train.search_ranker.network import EveryWay, as_told, drawn, network_of, pairs_among
from components.train.searched import MODES, PairChoice, Searched
from components.train.train_ranker.config import Config as TrainConfig
from components.train.train_ranker.feed import Plan, batches, features_at, open_split
from components.train.train_ranker.loop import EVALUATION_ROWS, Replica, take_step
from components.train.train_ranker.losses import diverged, is_healthy
from components.train.train_ranker.optimiser import RankerOptimiser
from features.declaration import FIRST, RankerSchema

_LEAST = 1e-7
"""A probability is taken to be at least this far from 0 and 1."""
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Held:
    """Validation rows that choose."""

    rows: EncodedSplit
    count: int
    feedback: tuple[str, ...]


def search(dataset: Path, digest: str, config: Config, progress: Callable[[str], None]) -> Searched:
    """Return what is chosen for each pair of fields.

    Args:
        dataset: local directory of a `TrainingSet`.
        digest: of it.
        config: how.
        progress: told of each epoch.

    Raises:
        BadInputError: a split has no rows, there is no pair to try, or learning diverged.
    """
    schema = read_schema(dataset)
    pairs = pairs_among(config, schema)
    training, validation = (open_split(dataset, split, schema) for split in ("train", "validation"))
    for rows, name in ((training, "training"), (validation, "validation")):
        if rows.rows == 0:
            raise BadInputError(f"the {name} split has no rows: widen the window or change the split")
    torch.manual_seed(config.seed)
    ranker, every = network_of(config, schema, pairs)
    give_vectors(ranker, dataset)
    held = _Held(validation, min(validation.rows, config.at_most_rows), schema.declaration.feedback)
    epoch, epochs = _learn(ranker, every, training, held, schema, config, progress)

    def losses(modes: Modes) -> Losses:
        return _losses(ranker, every, held, as_told(modes))

    chosen = choose(len(pairs), losses, config.sure, config.worth)
    counts = [_combinations(training, pair) for pair in pairs]
    return Searched(
        ranker=config.ranker.name,
        dataset=digest,
        seed=config.seed,
        cross_rows=config.cross_rows,
        sure=config.sure,
        worth=config.worth,
        epoch=epoch,
        epochs=epochs,
        rows=held.count,
        pairs=tuple(
            PairChoice(
                pair=pair, chosen=MODES[mode], memorise=gains[0], factorise=gains[1], combinations=count, rows=rows
            )
            for pair, mode, gains, count, rows in zip(
                pairs, chosen.modes, chosen.gains, counts, every.part.embedding.rows, strict=True
            )
        ),
        naive=_mean(losses((NAIVE,) * len(pairs))),
        all_memorised=_mean(losses((MEMORISE,) * len(pairs))),
        all_factorised=_mean(losses((FACTORISE,) * len(pairs))),
        chosen=_mean(losses(chosen.modes)),
    )


def _learn(
    ranker: ComposedRanker,
    every: EveryWay,
    training: EncodedSplit,
    held: _Held,
    schema: RankerSchema,
    config: Config,
    progress: Callable[[str], None],
) -> tuple[int, int]:
    """Train the network in place, and return the epoch whose weights it has, and how many there were.

    That epoch has the least loss on held-out rows, each under choices that are drawn once.
    """
    knobs = TrainConfig(
        ranker=config.ranker,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )
    optimiser, here = RankerOptimiser(ranker, knobs), Replica()
    plan = Plan(config.batch_size, config.seed, knobs.shuffle_rows, 0, 1, _CPU, jagged=ranker.jagged)
    pairs, tasks = len(every.modes), tasks_of(schema.declaration)
    judged_by = drawn(held.count, pairs, _seed(config.seed, 0, 0))
    best, kept, best_loss, epoch = 0, dict[str, Tensor](), np.inf, 0
    while epoch < config.epochs and epoch - best < config.patience:
        epoch += 1
        ranker.train()
        total = 0.0
        with batches(training, plan, epoch) as steps:
            for batch in steps:
                torch.manual_seed(_seed(config.seed, epoch, batch.step))  # of dropout
                every.modes = drawn(batch.rows, pairs, _seed(config.seed, epoch, batch.step))
                loss = take_step(ranker, optimiser, batch, "float32", here).read()
                if not is_healthy(loss):
                    raise diverged(ranker, batch.features, tasks, loss, epoch, batch.step)
                total += loss * batch.rows
        found = _mean(_losses(ranker, every, held, judged_by))
        if not np.isfinite(found):
            raise BadInputError(
                f"the search diverged: after epoch {epoch} no number is predicted for some validation row; lower "
                "learning_rate, or look for huge values in the numeric features"
            )
        mark = ""
        if found < best_loss:
            best, best_loss, mark = epoch, found, ", best so far"
            kept = {name: value.clone() for name, value in ranker.state_dict().items()}
        progress(
            f"epoch {epoch}/{config.epochs}: loss {total / training.rows:.4f}, validation log-loss under drawn choices "
            f"{found:.4f}{mark}"
        )
    ranker.load_state_dict(kept)
    return best, epoch


@torch.inference_mode()
def _losses(ranker: ComposedRanker, every: EveryWay, held: _Held, modes: Tensor) -> Losses:
    """Return float64 ``[rows]``, the mean log-loss over the feedback of each held-out row."""
    ranker.eval()
    found = np.zeros(held.count)
    for first in range(0, held.count, EVALUATION_ROWS):
        at = slice(first, min(first + EVALUATION_ROWS, held.count))
        every.modes = modes[at] if modes.ndim == 2 else modes
        outputs = ranker(features_at(held.rows, at, _CPU, ranker.jagged))
        for name in held.feedback:
            p = np.clip(outputs[name].double().numpy(), _LEAST, 1 - _LEAST)
            found[at] -= np.log(np.where(held.rows.labels[name][at] > 0, p, 1 - p)) / len(held.feedback)
    return found


def _mean(losses: Losses) -> float:
    return float(losses.mean())


def _combinations(training: EncodedSplit, pair: tuple[str, str]) -> int:
    """Return how many combinations of known values of two fields there are."""
    first, second = (np.asarray(training.features[name], dtype=np.int64) for name in pair)
    known = (first >= FIRST) & (second >= FIRST)
    width = int(second.max(initial=0)) + 1
    return len(np.unique(first[known] * width + second[known]))


def _seed(*parts: int) -> int:
    """Return one seed for each tuple of numbers, negative ones included."""
    return int(np.random.SeedSequence([part % 2**63 for part in parts]).generate_state(1, np.uint64)[0] >> 1)
