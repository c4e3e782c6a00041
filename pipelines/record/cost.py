"""What do the stages of a pipeline cost, run after run, and what has the cache saved? Read from the records of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from components.platform.execute import StageResult
from pipelines.record.runs import RecordedRun


@dataclass(frozen=True)
class StageCost:
    """What one stage took over some runs."""

    stage: str
    ran: int
    """In how many of them it ran."""
    cached: int
    """In how many it came from the store."""
    seconds: float | None
    """Median of those in which it ran; None where it never did."""
    longest: float | None
    """The longest of them."""
    peak_bytes: int | None
    """The most memory that its processes took at once in any of them; None where nothing was recorded."""
    rows: int | None
    """Rows that it made last; None where it makes no table, or nothing was recorded."""
    spent: float
    """Seconds over all runs, what it took to find it in the store included."""
    saved: float
    """Seconds that the same would have taken to make, less those, where it came from the store."""


@dataclass(frozen=True)
class Cost:
    """What the runs of a pipeline took."""

    pipeline: str
    runs: int
    stages: tuple[StageCost, ...]

    @property
    def spent(self) -> float:
        """Seconds of all stages of all runs."""
        return sum(stage.spent for stage in self.stages)

    @property
    def saved(self) -> float:
        """Seconds that the cache saved."""
        return sum(stage.saved for stage in self.stages)


def cost_of(pipeline: str, runs: Sequence[RecordedRun]) -> Cost:
    """Return what the stages of some runs of a pipeline took, in the order of the newest run.

    Args:
        pipeline: its name.
        runs: its runs, newest first; stages without a result count in none.
    """
    names = dict.fromkeys(name for run in runs for name in run.start.stages)
    found = {name: [result for run in runs for result in run.results if result.stage == name] for name in names}
    return Cost(pipeline, len(runs), tuple(_stage(name, results) for name, results in found.items() if results))


def _stage(name: str, results: Sequence[StageResult]) -> StageCost:
    made = [result for result in results if not result.cached]
    return StageCost(
        stage=name,
        ran=len(made),
        cached=len(results) - len(made),
        seconds=median(result.seconds for result in made) if made else None,
        longest=max((result.seconds for result in made), default=None),
        peak_bytes=max(_known(result.peak_bytes for result in made), default=None),
        rows=next(_known(result.rows for result in results), None),
        spent=sum(result.seconds for result in results),
        saved=sum(max((result.made_seconds or 0.0) - result.seconds, 0.0) for result in results if result.cached),
    )


def _known(values: Iterable[int | None]) -> Iterator[int]:
    return (value for value in values if value is not None)
