"""When is a trial stopped? Successive halving, as in ASHA (Li et al. 2020), against the trials of earlier batches only.

ASHA compares a trial with whatever came before it in time, so that what is stopped depends on which process was faster.
Here the cut-offs of a trial are known before it starts, and the same seed stops the same trials on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from components.train.tune_ranker.config import StopEarly

Best = Sequence[float]
"""Best value of a trial so far after each of its epochs; more is better."""


def rungs(rule: StopEarly, epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a trial is looked at, ascending; its last epoch is none of them."""
    found: list[int] = []
    at = float(rule.after_epochs)
    while math.ceil(at - 1e-9) < epochs:
        found.append(math.ceil(at - 1e-9))
        at = max(at / rule.keep, found[-1] + 1.0)
    return tuple(found)


def cutoffs(earlier: Sequence[Best], rule: StopEarly | None, epochs: int) -> dict[int, float]:
    """Return by epoch the value that a trial must reach to go on: the lowest of the share of earlier ones to keep.

    Args:
        earlier: trials of earlier batches that ended well or were stopped; one that is shorter counts with its best.
        rule: None stops nothing.
        epochs: most epochs of a trial.
    """
    if rule is None or not earlier:
        return {}
    found: dict[int, float] = {}
    for rung in rungs(rule, epochs):
        # A trial that was stopped before has been beaten, and is not counted twice.
        values = sorted((best[min(rung, len(best)) - 1] for best in earlier if len(best)), reverse=True)
        found[rung] = values[max(1, math.ceil(rule.keep * len(values))) - 1]
    return found


def stopped(best: Best, limits: Mapping[int, float]) -> bool:
    """Return whether a trial ends after its newest epoch because it is below the cut-off there."""
    return bool(best) and len(best) in limits and best[-1] < limits[len(best)]
