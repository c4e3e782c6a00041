"""How does a comparison run? Entry by entry: choose on validation, then train, export and evaluate each seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from components.platform.errors import BadInputError, RankmillError, did_you_mean
from components.platform.settings import Settings
from components.platform.store.records import ArtifactRef
from pipelines.compare.execution import Bench, Trained
from pipelines.compare.load import Comparison
from pipelines.compare.record import Measured, Record, Row, Tried, describe_machine
from pipelines.compare.section import NAMES
from pipelines.compare.spec import Candidate, candidates, component_of

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a comparison came to."""

    record: Record | None
    """The rows that were measured; None when there is none."""
    failures: dict[str, str]
    """By entry, the sentence that ended it."""
    cached: int
    trainings: int


@dataclass
class _Progress:
    """Counts trainings and guesses how long the rest takes: as the ones before, the cached left out."""

    total: int
    tell: Tell
    done: int = 0
    cached: int = 0
    started: float = field(default_factory=time.monotonic)

    def finished(self, what: str, trained: Trained, seconds: float) -> None:
        self.done += 1
        self.cached += trained.result.cached
        took = "from the store" if trained.result.cached else f"{seconds:.0f} s"
        values = ", ".join(f"{task} {value:.4f}" for task, value in trained.validation.items())
        left = self.total - self.done
        fresh = self.done - self.cached
        minutes = left * (time.monotonic() - self.started) / fresh / 60 if fresh else 0.0
        rest = f"{left} left" + (f", about {minutes:.0f} min" if minutes >= 1 else "")
        judged = f"validation {NAMES[trained.judge_by]} {values or 'undefined'}"
        self.tell(f"[{self.done}/{self.total}] {what}: {judged} ({took}; {rest})")


def chosen_seeds(comparison: Comparison, count: int | None) -> tuple[int, ...]:
    """Return the first `count` seeds of a comparison, or all.

    Raises:
        BadInputError: it has fewer.
    """
    seeds = comparison.spec.seeds
    if count is not None and not 1 <= count <= len(seeds):
        raise BadInputError(
            f"{comparison.spec.name} has {len(seeds)} seeds and {count} are asked for: ask for 1 to {len(seeds)}, "
            "or add to seeds: in its file"
        )
    return seeds[:count]


def chosen_entries(comparison: Comparison, only: Sequence[str]) -> tuple[str, ...]:
    """Return the entries to run, in the order of the file.

    Raises:
        BadInputError: one is not in the file.
    """
    entries = comparison.spec.entries
    for name in only:
        if name not in entries:
            raise BadInputError(f"{comparison.spec.name} has no entry {name!r}{did_you_mean(name, entries)}")
    return tuple(name for name in entries if not only or name in only)


def run_comparison(
    comparison: Comparison,
    seeds: Sequence[int],
    entries: Sequence[str],
    settings: Settings,
    tell: Tell,
    at: datetime | None = None,
) -> Outcome:
    """Run entries over seeds; whatever ran before comes from the store, so that an interrupted run goes on.

    An entry that fails is told and left out, and the others run all the same. `at` is the time that the data is for,
    now when left out.

    Raises:
        RankmillError: the training set cannot be built.
    """
    spec = comparison.spec
    now = datetime.now(UTC)
    bench = Bench(comparison, settings, at or now, f"compare__{now.isoformat()}", at)
    first = spec.seeds[0]
    datasets: dict[int, ArtifactRef] = {}
    for seed in sorted({first, *seeds}):
        if datasets and spec.seed_param is None:
            datasets[seed] = datasets[min(datasets)]
            continue
        started = time.monotonic()
        datasets[seed] = bench.dataset(seed)
        tell(f"{spec.name}: training set of seed {seed} ready ({time.monotonic() - started:.0f} s)")
    total = sum(_trainings(len(candidates(spec, name)), first, seeds) for name in entries)
    progress = _Progress(total, tell)
    rows: dict[str, Row] = {}
    failures: dict[str, str] = {}
    for name in entries:
        try:
            rows[name] = _row(bench, name, seeds, first, datasets, progress)
        except RankmillError as error:
            failures[name] = str(error)
            tell(f"{name} failed: {error}")
    record = Record(name=spec.name, data=bench.data(first, datasets[first]), rows=rows) if rows else None
    return Outcome(record, failures, progress.cached, progress.done)


def _trainings(lines: int, first: int, seeds: Sequence[int]) -> int:
    """Return how often an entry trains: its grid on the first seed, then the chosen one on the others."""
    return len(seeds) if lines == 1 else lines + len({*seeds} - {first})


def _row(
    bench: Bench, name: str, seeds: Sequence[int], first: int, datasets: dict[int, ArtifactRef], progress: _Progress
) -> Row:
    spec = bench.comparison.spec
    component = component_of(spec.entries[name])
    offered = candidates(spec, name)

    def train(candidate: Candidate, seed: int) -> Trained:
        started = time.monotonic()
        trained = bench.train(component, name, candidate, seed, datasets[seed])
        change = f" {candidate.change}" if candidate.change else ""
        progress.finished(f"{name} seed {seed}{change}", trained, time.monotonic() - started)
        return trained

    chosen, tried, done = offered[0], [], {}
    if len(offered) > 1:
        trainings = [train(candidate, first) for candidate in offered]
        tried = [Tried(change=c.change, score=t.mean) for c, t in zip(offered, trainings, strict=True)]
        best = max(range(len(trainings)), key=lambda at: trainings[at].score)
        chosen, done = offered[best], {first: trainings[best]}
    runs: list[Measured] = []
    for seed in seeds:
        trained = done.get(seed) or train(chosen, seed)
        runs.append(bench.measure(name, trained, seed, datasets[seed]))
    return Row(config=chosen.config, tried=tuple(tried), runs=tuple(runs), machine=describe_machine())
