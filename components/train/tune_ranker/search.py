"""Which trial comes next? The stage's own knobs first, then batches of the sampler's, then the best with other seeds.

Nothing here knows Ray. What comes next follows from the config and the trials that are over, never from the clock but
for the budget, so a search that was killed goes on with the trials that a quiet one would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from components.train.tune_ranker.config import Config
from components.train.tune_ranker.records import Judge, Planned, Record
from components.train.tune_ranker.rungs import cutoffs
from components.train.tune_ranker.samplers import OptunaSampler, Sampler, Values, sampler_of
from components.train.tune_ranker.space import dimensions
from components.train.tuned import Repeats, block_of

REPEATED = 2
"""How many of the best are trained again."""
_AGAIN = 20
"""Suggestions of what was tried before, in a row, after which a sampler has no others."""


class Search:
    """A search on its way.

    Args:
        config: the `with:` block.
        judge: how trials are judged.
        records: trials that are over, of this process or an earlier one.
    """

    def __init__(self, config: Config, judge: Judge, records: Sequence[Record] = ()) -> None:
        self._config, self._judge = config, judge
        self.block = block_of(config, config.ranker)
        self._own: Values = dict(config.own)  # type: ignore[arg-type]
        self.sampler: Sampler = sampler_of(config.search, dimensions(config.space, self.block), config.seed)
        self._records = {record.number: record for record in records}
        self._planned: list[Planned] = []
        self._questions: list[int] = []
        """Trial by question to the sampler; values that come again are one trial."""
        self._told = 0
        """Trials whose results the sampler knows."""
        self._open = True
        self._given: set[int] = set()

    def next(self, late: bool = False) -> Planned | Literal["wait", "end"]:
        """Return the next trial, or that a running one must end first, or that all are over.

        Args:
            late: whether the budget is used up.
        """
        while self._open and len(self._planned) < self._config.trials:
            number = len(self._planned)
            if late and number not in self._records:
                self._open = False
                break
            if self._waits_for_results(number):
                return "wait"
            trial = self._choose(number)
            if trial is None:
                self._open = False
                break
            self._planned.append(trial)
            if number not in self._records:
                self._given.add(number)
                return trial
        if any(trial.number not in self._records for trial in self._planned):
            return "wait"
        repeats = self._repeats()
        for trial in repeats:
            if trial.number not in self._records and trial.number not in self._given:
                self._given.add(trial.number)
                return trial
        return "wait" if any(trial.number not in self._records for trial in repeats) else "end"

    def over(self, record: Record) -> None:
        """Take in how a trial came out."""
        self._records[record.number] = record

    @property
    def results(self) -> tuple[Record, ...]:
        """Trials of the search that are over, and the repeats of those that are best now, by number."""
        numbers = [trial.number for trial in (*self._planned, *self._repeats())]
        return tuple(self._records[number] for number in numbers if number in self._records)

    def best(self) -> list[Record]:
        """Return the best trials that went to their end, the best first; of equals the earlier."""
        searched = [self._records[t.number] for t in self._planned if t.number in self._records]
        done = [record for record in searched if record.state == "done" and record.value is not None]
        return sorted(done, key=lambda record: (-self._judge.better(record.value or 0.0), record.number))[:REPEATED]

    def repeated(self) -> list[Repeats]:
        """Return the best trials with their other seeds, the best mean first; the order of `best` without repeats."""
        found = []
        for record in self.best():
            others = [other for other in self.results if other.of == record.number]
            values = tuple(other.value for other in others if other.value is not None)
            mean = sum(values) / len(values) if values else None
            found.append(Repeats(trial=record.number, first=record.value or 0.0, others=values, mean=mean))
        known = [one for one in found if one.mean is not None]
        rest = [one for one in found if one.mean is None]
        return [*sorted(known, key=lambda one: -self._judge.better(one.mean or 0.0)), *rest]

    def importance(self) -> dict[str, float]:
        """Return the share of the variance that each knob explains, where the sampler knows."""
        if not isinstance(self.sampler, OptunaSampler):
            return {}
        self._tell(len(self._planned))
        return dict(self.sampler.importance())

    def _waits_for_results(self, number: int) -> bool:
        """Return whether trials of earlier batches must end before this one is chosen, and tell the sampler of them."""
        if self._config.search != "optuna" and self._config.stop_early is None:
            return False
        before = number - number % self._config.batch
        if any(earlier not in self._records for earlier in range(before)):
            return True
        self._tell(before)
        return False

    def _tell(self, before: int) -> None:
        for question, trial in enumerate(self._questions):
            if self._told <= trial < before:
                record = self._records[trial]
                self.sampler.tell(question, self._judge.best(record.epochs) if record.counts else (), record.state)
        self._told = max(self._told, before)

    def _choose(self, number: int) -> Planned | None:
        values = self._own if number == 0 else self._new_values(number)
        if values is None:
            return None
        before = number - number % self._config.batch
        earlier = [self._records[n] for n in range(before)] if self._config.stop_early else []
        lengths = [self._judge.best(record.epochs) for record in earlier if record.counts]
        return Planned(
            number=number,
            kind="own" if number == 0 else "search",
            values=values,
            seed=self._config.seed,
            cutoffs=cutoffs(lengths, self._config.stop_early, self._config.epochs),
        )

    def _new_values(self, number: int) -> Values | None:
        for _ in range(_AGAIN):
            values = self.sampler.ask()
            if values is None:
                return None
            known = next((trial.number for trial in self._planned if trial.values == values), number)
            self._questions.append(known)
            if known == number:
                return values
            if known < self._told:
                record = self._records[known]
                best = self._judge.best(record.epochs) if record.counts else ()
                self.sampler.tell(len(self._questions) - 1, best, record.state)
        return None

    def _repeats(self) -> list[Planned]:
        config = self._config
        return [
            Planned(
                number=config.trials + record.number * config.repeat_best + turn,
                kind="repeat",
                values=record.values,
                seed=config.seed + 1 + turn,
                of=record.number,
            )
            for record in self.best()
            for turn in range(config.repeat_best)
        ]
