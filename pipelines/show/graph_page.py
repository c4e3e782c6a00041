"""How does a plan look in a browser? One page with the picture of it, and what a run did or would do."""

from __future__ import annotations

from html import escape
from pathlib import Path

from components.pages.style import REPORT_STYLE
from components.platform.settings import Settings
from features.ground.files import write_durably
from pipelines.language.plan import Plan
from pipelines.record.runs import find_run
from pipelines.show.diagram import Mark, svg
from pipelines.show.render import schedule_text, summary
from pipelines.show.report import marks


def write_graph(path: Path, plan: Plan, run_id: str | None = None) -> None:
    """Write a page with the picture of a plan.

    Args:
        path: file to write.
        plan: a checked plan; where it holds predictions, each stage says what a run would do.
        run_id: id of a run of the pipeline, or a part of it, whose states are drawn; None draws none.

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


def page(plan: Plan, known: dict[str, Mark], said: str) -> str:
    """Return the page as HTML without scripts or outside resources; `said` is one line below the title."""
    lines = "".join(f"<p>{escape(line)}</p>\n" for line in (plan.spec.description, said) if line)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(plan.name)}</title>\n<style>{REPORT_STYLE}\nsvg {{ max-width: 100%; height: auto; }}</style>\n"
        f"</head>\n<body>\n<h1>{escape(plan.name)}</h1>\n{lines}"
        f"<p><small>{len(plan.stages)} stages, {escape(schedule_text(plan))}; "
        f"a line is an artifact, a dotted one only the order</small></p>\n{svg(plan, known)}\n</body>\n</html>\n"
    )
