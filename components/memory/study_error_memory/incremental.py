"""What does a ranker answer when it keeps learning? Score a slot, then one pass of Adam over it, slot by slot.

The incremental learner of ReLoop2's comparison (Zhu et al., KDD 2023, section 5.3; IncCTR, Wang et al., 2020).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from components.data.training_set import EncodedSplit
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.tasks import HIDDEN
from components.train.train_ranker.feed import features_at, labels_at

Array = np.ndarray[Any, Any]
SCORED = 8192
"""Rows scored at once."""
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Answers:
    """What a ranker says about N rows."""

    predicted: dict[str, Array]
    """By task: float64 ``[N]`` probabilities."""
    hidden: Array
    """float32 ``[N, H]``."""


@torch.inference_mode()
def answers(ranker: RankerModule, rows: EncodedSplit, at: Array, tasks: tuple[str, ...]) -> Answers:
    """Return the ranker's answers, in evaluation mode, to the rows `at`; the ranker stays as it is."""
    ranker.eval()
    made = []
    for start in range(0, max(1, len(at)), SCORED):  # no rows still give arrays of the right width
        made.append(ranker(features_at(rows, at[start : start + SCORED], _CPU, ranker.jagged)))
    joined = {name: torch.cat([outputs[name] for outputs in made]).numpy() for name in (*tasks, HIDDEN)}
    return Answers(predicted={name: joined[name].astype(np.float64) for name in tasks}, hidden=joined[HIDDEN])


def learn_slot_by_slot(
    ranker: RankerModule,
    rows: EncodedSplit,
    bounds: Sequence[tuple[int, int]],
    tasks: tuple[str, ...],
    *,
    rate: float,
    batch_size: int,
    seed: int,
) -> dict[str, Array]:
    """Score every slot with weights that have learned from earlier slots only, then train on it once.

    It works on a copy of the ranker; Adam's moments live on from slot to slot.

    Returns:
        By task: float64 ``[N]`` probabilities, each row's from before its slot was learned.

    Raises:
        BadInputError: the loss is no number.
    """
    learner = copy.deepcopy(ranker)
    optimiser = torch.optim.Adam(learner.parameters(), lr=rate)
    scored = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, (begin, end) in enumerate(bounds, start=1):
            scored.append(answers(learner, rows, np.arange(begin, end), tasks).predicted)
            learner.train()
            order = begin + np.random.default_rng([seed, number]).permutation(end - begin)
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                loss = learner.loss(
                    learner(features_at(rows, batch, _CPU, learner.jagged)), labels_at(rows, batch, _CPU)
                )
                if not math.isfinite(float(loss.detach())):
                    raise BadInputError(
                        f"incremental training diverged in slot {number} at learning rate {rate:g}: "
                        "lower learning_rates"
                    )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return {task: np.concatenate([part[task] for part in scored]) for task in tasks}
