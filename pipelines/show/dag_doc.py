"""What does Airflow's page say about a pipeline and its stages? Markdown in which every text stands as it is."""

from __future__ import annotations

from pathlib import Path

from features.ground.markdown import code, fenced, prose, table, text
from pipelines.language.notify import Notify
from pipelines.language.plan import Place, Plan, PlannedStage


def dag_doc(plan: Plan) -> str:
    """Return what a DAG is about: its description, where it comes from, its window and a row per stage."""
    rows = [(code(stage.name), code(stage.component.name), prose(stage.component.summary)) for stage in plan.stages]
    window = plan.spec.window
    return "\n".join(
        [
            prose(plan.spec.description),
            "",
            f"Compiled from {' and '.join(code(_place(path)) for path in plan.files)}. A run reads {window.days}"
            f" days of events up to {text(str(window.end or 'the day it is for'))}, exclusive, UTC.",
            "",
            table(["stage", "component", "what it does"], rows),
            *(["", _told(plan.spec.notify)] if plan.spec.notify else []),
        ]
    )


def _told(notify: Notify) -> str:
    """Return in a sentence who is told of what."""
    told = [f"{event} through {', '.join(map(str, notify.targets(event)))}" for event in notify.events]
    return text(f"Tells of {'; '.join(told)}.")


def stage_doc(stage: PlannedStage) -> str:
    """Return what a task is about: its component, and its lines in each file that says something of it."""
    version = code(f"{stage.component.name}@{stage.component.version}")
    written = [f"{code(f'{_place(at.path)}:{at.line}')}\n\n{fenced(_block(at), 'yaml')}" for at in stage.places]
    return f"{prose(stage.component.summary)}\n\n{version} · " + "\n\n".join(written)


def _block(place: Place) -> str:
    """Return the lines of a stage in one file."""
    lines = place.path.read_text(encoding="utf-8").splitlines()[place.line - 1 :]
    indent = len(lines[0]) - len(lines[0].lstrip())
    block = [lines[0]]
    for line in lines[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line)
    return "\n".join(line[indent:] for line in block).rstrip()


def _place(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.name}"
