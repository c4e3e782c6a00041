"""Which values does the next trial have? Drawn at random, point by point of a grid, or as Optuna learns them.

Whoever asks for the same trials in the same order, and tells the same results between the same two questions, gets the
same values, on any machine and after any crash.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from components.platform.errors import RankmillError
from components.train.tune_ranker.space import Choice, Dimension, Number, Range
from components.train.tuned import Value

Values = dict[str, Value]
DIGITS = 4
"""Significant digits of a number that is drawn: what a person would write into a pipeline."""
TRIES = 100
"""Draws before values that were tried before count as all there are."""


class Sampler(Protocol):
    """Where values of trials come from."""

    def ask(self) -> Values | None:
        """Return the values of the next trial; None when there are no others."""

    def tell(self, number: int, best: tuple[float, ...], ended: Literal["done", "stopped", "failed"]) -> None:
        """Learn how the trial came out that was asked for as number `number`, from 0.

        Args:
            number: of the question.
            best: best value so far after each epoch; more is better.
            ended: how.
        """


class GridSampler:
    """Every combination of the choices, in the order of the space."""

    def __init__(self, found: tuple[Dimension, ...]) -> None:
        names = [one.path for one in found]
        values = [one.values for one in found if isinstance(one, Choice)]
        self._points = (dict(zip(names, point, strict=True)) for point in itertools.product(*values))

    def ask(self) -> Values | None:
        """Return the next point."""
        return next(self._points, None)

    def tell(self, number: int, best: tuple[float, ...], ended: str) -> None:
        """Learn nothing."""


class RandomSampler:
    """Independent draws, none of them twice."""

    def __init__(self, found: tuple[Dimension, ...], seed: int) -> None:
        import numpy as np

        self._found = found
        self._draw: Any = np.random.default_rng(seed % 2**63)
        self._seen: list[Values] = []

    def ask(self) -> Values | None:
        """Return values that were not drawn before."""
        for _ in range(TRIES):
            values = {one.path: self._one(one) for one in self._found}
            if values not in self._seen:
                self._seen.append(values)
                return values
        return None

    def _one(self, one: Dimension) -> Value:
        import math

        if isinstance(one, Choice):
            return one.values[int(self._draw.integers(len(one.values)))]
        if one.whole and not one.log:
            return int(self._draw.integers(int(one.low), int(one.high) + 1))
        if one.log:
            return tidy(one, math.exp(self._draw.uniform(math.log(one.low), math.log(one.high))))
        return tidy(one, self._draw.uniform(one.low, one.high))

    def tell(self, number: int, best: tuple[float, ...], ended: str) -> None:
        """Learn nothing."""


class OptunaSampler:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""

    def __init__(self, found: tuple[Dimension, ...], seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise RankmillError(
                "search: optuna needs the package optuna: install the extra `tune`, or take search: random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._found = found
        # What was asked and not told yet counts as bad, so that a batch does not ask the same thing again and again.
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        self._study: Any = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: list[Any] = []

    def ask(self) -> Values | None:
        """Return what Optuna suggests."""
        import optuna

        made: dict[str, Any] = {}
        for one in self._found:
            if isinstance(one, Choice):
                made[one.path] = optuna.distributions.CategoricalDistribution([*range(len(one.values))])
            elif one.whole:
                made[one.path] = optuna.distributions.IntDistribution(int(one.low), int(one.high), log=one.log)
            else:
                made[one.path] = optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
        trial = self._study.ask(made)
        self._asked.append(trial)
        return {
            one.path: one.values[trial.params[one.path]]
            if isinstance(one, Choice)
            else tidy(one, trial.params[one.path])
            for one in self._found
        }

    def tell(self, number: int, best: tuple[float, ...], ended: str) -> None:
        """Tell Optuna what came out."""
        import optuna

        trial, states = self._asked[number], optuna.trial.TrialState
        for epoch, value in enumerate(best, start=1):
            trial.report(value, epoch)
        if ended == "failed":
            self._study.tell(trial, state=states.FAIL)
        elif ended == "stopped":
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, best[-1])

    def importance(self) -> Mapping[str, float]:
        """Return the share of the variance that each knob explains (fANOVA, Hutter et al. 2014); empty if unknown."""
        import optuna

        done = [trial for trial in self._study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        if len(done) < 4 or len({trial.value for trial in done}) < 2:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        found: Mapping[str, float] = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return found


def sampler_of(search: Literal["random", "grid", "optuna"], found: tuple[Dimension, ...], seed: int) -> Sampler:
    """Return where values come from.

    Raises:
        RankmillError: Optuna is not installed.
    """
    if search == "grid":
        return GridSampler(found)
    return RandomSampler(found, seed) if search == "random" else OptunaSampler(found, seed)


def tidy(one: Range, value: Number) -> Number:
    """Return a drawn number with few digits, within its range."""
    rounded = round(value) if one.whole else float(f"{value:.{DIGITS}g}")
    return min(max(rounded, one.low), one.high)
