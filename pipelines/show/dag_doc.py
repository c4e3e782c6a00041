"""What does Airflow's page say about a pipeline and its stages? Markdown in which every text stands as it is."""

from __future__ import annotations

from pathlib import Path

from features.ground.markdown import code, fenced, prose, table, text
from pipelines.language.plan import Plan, PlannedStage


def dag_doc(plan: Plan) -> str:
    """Return what a DAG is about: its description, where it comes from, its window and a row per stage."""
    rows = [(code(stage.name), code(stage.component.name), prose(stage.component.summary)) for stage in plan.stages]
    window = plan.spec.window
    return "\n".join(
        [
            prose(plan.spec.description),
            "",
            f"Compiled from {code(_place(plan.path))}. A run reads {window.days} days of events"
            f" up to {text(str(window.end or 'the day it is for'))}, exclusive, UTC.",
            "",
            table(["stage", "component", "what it does"], rows),
        ]
    )


def stage_doc(plan: Plan, stage: PlannedStage) -> str:
    """Return what a task is about: its component, where the stage is written, and its lines there."""
    lines = plan.path.read_text(encoding="utf-8").splitlines()[stage.line - 1 :]
    indent = len(lines[0]) - len(lines[0].lstrip())
    block = [lines[0]]
    for line in lines[1:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        block.append(line)
    yaml = "\n".join(line[indent:] for line in block).rstrip()
    version = code(f"{stage.component.name}@{stage.component.version}")
    where = code(f"{_place(plan.path)}:{stage.line}")
    return f"{prose(stage.component.summary)}\n\n{version} · {where}\n\n{fenced(yaml, 'yaml')}"


def _place(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.name}"
