"""How does a plan look in a browser? One page with its flow, and what a run did or would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.pages.document import render
from components.platform.settings import Settings
from features.ground.files import write_durably
from pipelines.language.plan import Plan
from pipelines.record.runs import find_run
from pipelines.show.pages.flow import Box, Mark, levels
from pipelines.show.pages.report import marks
from pipelines.show.render import schedule_text, summary


@dataclass(frozen=True)
class _View:
    name: str
    lines: tuple[str, ...]
    stages: int
    schedule: str
    levels: tuple[tuple[Box, ...], ...]


def write_graph(path: Path, plan: Plan, run_id: str | None = None) -> None:
    """Write a page with the flow of a plan.

    Raises:
        MissingError: there is no such run.
        OSError: the file cannot be written.
    """
    said = summary(plan) if plan.predictions else ""
    known = {found.stage: Mark(found.state) for found in plan.predictions}
    if run_id is not None:
        run = find_run(Settings.from_environment(), plan.name, run_id)
        known = marks(run, plan)
        said = f"Run {run.start.run_id}: {run.state}, {run.seconds:.1f} s."
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, page(plan, known, said))


def page(plan: Plan, known: Mapping[str, Mark], said: str) -> str:
    """Return the page as HTML without scripts or outside resources; `said` is one line below the title."""
    lines = tuple(line for line in (plan.spec.description, said) if line)
    return render(__file__, _View(plan.name, lines, len(plan.stages), schedule_text(plan), levels(plan, known)))
