"""What is a benchmark, and what does it hand back? One file with a `BENCHMARK`; series of medians with their samples.

A new benchmark is one file in this folder that ends with::

    BENCHMARK = Benchmark(title="…", question="…?", run=run, notes=("…",))

where ``run(lab)`` returns a `Report`. The file's name is the benchmark's. `lab.quick` asks for sizes that take a second
or two, for the test that runs every benchmark; what it measures then is thrown away.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from tests.benchmarks.lab import Lab

Better = Literal["lower", "higher"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Series(Frozen):
    """One measured quantity: per case and competitor the samples of several rounds.

    Attributes:
        title: what was measured.
        unit: of the samples.
        better: whether less or more of it is better.
        axis: what the cases are.
        cases: one row of the table each; a chart draws them on a logarithmic axis when all are numbers.
        samples: by competitor one list per case; an empty list where there is none. The first one is ours.
        absent: by competitor and case, as ``competitor @ case``, why there is no sample.
    """

    title: str
    unit: str
    better: Better
    axis: str
    cases: tuple[str, ...]
    samples: dict[str, tuple[tuple[float, ...], ...]]
    absent: dict[str, str] = {}

    def median(self, who: str, case: str) -> float | None:
        found = self.samples[who][self.cases.index(case)]
        return statistics.median(found) if found else None

    def ratio(self, who: str, other: str, case: str) -> float | None:
        """Return the median over the rounds of ``who / other``: rounds alternate, so a slow minute hits both."""
        mine, theirs = (self.samples[name][self.cases.index(case)] for name in (who, other))
        if not mine or not theirs:
            return None
        if len(mine) != len(theirs):
            return statistics.median(mine) / statistics.median(theirs)
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


class Goal(Frozen):
    """What was to be reached and what was."""

    text: str
    measured: str
    met: bool


class Report(Frozen):
    """Everything one benchmark found.

    Attributes:
        series: tables.
        goals: aims and whether they were met.
        facts: sentences with figures that belong to no table.
        charts: titles of the series that are drawn.
    """

    series: tuple[Series, ...]
    goals: tuple[Goal, ...] = ()
    facts: tuple[str, ...] = ()
    charts: tuple[str, ...] = ()


class Record(Frozen):
    """A report with where it was measured; `docs/benchmarks/<name>.json`."""

    name: str
    machine: str
    versions: dict[str, str]
    seconds: float
    report: Report


class Benchmark(Frozen):
    """One benchmark.

    Attributes:
        title: heading.
        question: what it answers.
        run: measures.
        notes: how it was measured and why the figures are what they are; Markdown.
        order: place on the page.
        needs_peers: whether it runs libraries of the benchmark environment.
        compares: whether it measures another checkout itself, in turns with this one.
    """

    title: str
    question: str
    run: Callable[[Lab], Report]
    notes: tuple[str, ...] = ()
    order: int = 100
    needs_peers: bool = False
    compares: bool = False


def at_most(series: Series, who: str, other: str, case: str, limit: float, text: str) -> Goal:
    """Return the goal that `who` takes at most `limit` times what `other` does."""
    found = series.ratio(who, other, case)
    return Goal(text=text, measured="not measured" if found is None else f"{found:.2f} ×", met=(found or 9e9) <= limit)


def at_least(series: Series, who: str, other: str, case: str, limit: float, text: str) -> Goal:
    """Return the goal that `who` reaches at least `limit` times what `other` does."""
    found = series.ratio(who, other, case)
    return Goal(text=text, measured="not measured" if found is None else f"{found:.2f} ×", met=(found or 0.0) >= limit)


def table_of(
    found: Mapping[str, Mapping[str, Sequence[float]]], cases: Sequence[str]
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Return samples by competitor and case in the form of `Series.samples`."""
    return {who: tuple(tuple(per.get(case, ())) for case in cases) for who, per in found.items()}
