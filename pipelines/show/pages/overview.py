"""What is live, what drifted, what ran last? The first page that Airflow shows of Rankmill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime

from components.judge.watch_drift.report import Report, sentence
from components.pages.document import render
from components.pages.links import Links
from components.platform.artifacts import DriftReport
from components.platform.errors import RankmillError
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from pipelines.language.hiding import hidden, without_passwords
from pipelines.record.runs import RecordedRun, recorded_pipelines, recorded_runs
from pipelines.show.pages.standing import ModelStanding, standings

RUNS = 20
"""Newest runs of all pipelines that are listed."""
DAYS = 28
"""Newest days of a strip."""
WORST = 3
"""Sentences that are said of a day; its report holds them all."""
SIGNS = {"alarm": "●", "drifted": "○", "quiet": "✓", "not judged": "·"}
STYLES = {"alarm": "fault", "drifted": "warned", "quiet": "done", "not judged": "not-judged"}


@dataclass(frozen=True)
class Watched:
    """What a watch said of a day, on that day."""

    day: date
    state: str
    said: str
    """What alarmed or drifted, the worst first."""
    run_id: str

    @property
    def sign(self) -> str:
        """One character for the state."""
        return SIGNS[self.state]

    @property
    def style(self) -> str:
        """Style of its words."""
        return STYLES[self.state]


@dataclass(frozen=True)
class Strip:
    """A pipeline that watches a model, day by day."""

    pipeline: str
    model: str
    days: tuple[Watched, ...]
    """In order; of a day that was watched twice the newest word."""

    @property
    def loud(self) -> tuple[Watched, ...]:
        """Days with something to say, newest first."""
        return tuple(one for one in reversed(self.days) if one.state in ("alarm", "drifted"))


@dataclass(frozen=True)
class _View:
    links: Links
    models: tuple[ModelStanding, ...]
    trouble: str
    """Why no model can be shown, in a sentence."""
    strips: tuple[Strip, ...]
    runs: tuple[RecordedRun, ...]
    pages: None
    """Only the page of a pipeline names what its stages show."""
    folder: str


def overview(settings: Settings, links: Links, may_read: Callable[[str], bool]) -> str:
    """Return the page as HTML without scripts or outside resources.

    Args:
        settings: where runs, registry and ledger are.
        links: where other pages are.
        may_read: whether the reader may know of a pipeline.
    """
    models: tuple[ModelStanding, ...] = ()
    trouble = ""
    try:
        models = standings(settings, may_read)
    except RankmillError as error:
        trouble = without_passwords(str(error))
    runs = [run for name in recorded_pipelines(settings) if may_read(name) for run in _newest(settings, name)]
    runs.sort(key=lambda run: run.start.started_at, reverse=True)
    strips = tuple(drift_strips(runs, open_store(settings)))
    return overview_page(links, models, strips, tuple(runs[:RUNS]), str(settings.runs), trouble)


def overview_page(
    links: Links,
    models: tuple[ModelStanding, ...],
    strips: tuple[Strip, ...],
    runs: tuple[RecordedRun, ...],
    folder: str,
    trouble: str = "",
) -> str:
    """Return what was found as HTML; `trouble` says why no model can be shown, `folder` where runs are recorded."""
    return hidden(render(__file__, _View(links, models, trouble, strips, runs, None, folder)))


def _newest(settings: Settings, name: str) -> tuple[RecordedRun, ...]:
    return recorded_runs(settings, name, max(RUNS, DAYS))


def drift_strips(runs: Sequence[RecordedRun], store: Store) -> Iterator[Strip]:
    """Yield what watches have found over the days, by pipeline and model.

    Args:
        runs: newest first.
        store: where their reports lie; one that is gone or cannot be read is left out.
    """
    found: dict[tuple[str, str], dict[datetime, Watched]] = {}
    for run in runs:
        for ref in (ref for result in run.results for ref in result.outputs.values() if ref.kind == DriftReport.kind):
            with suppress(RankmillError, OSError, ValueError):
                report = Report.model_validate_json(store.read(ref, "drift.json"))
                told = found.setdefault((run.start.pipeline, report.model), {})
                told.setdefault(report.today.start, _watched(report, run.start.run_id))
    for (pipeline, model), told in sorted(found.items()):
        yield Strip(pipeline, model, tuple(day for _, day in sorted(told.items())[-DAYS:]))


def _watched(report: Report, run_id: str) -> Watched:
    day = report.today
    cells = (*day.alarms, *day.drifted)
    more = f"; and {len(cells) - WORST} more" if len(cells) > WORST else ""
    said = "; ".join(map(sentence, cells[:WORST])) + more
    return Watched(day.start.date(), day.state, said, run_id)
