"""How does a plan look? As a table, as a graph in Mermaid or plain text, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.plan import Plan
from pipelines.predict import Prediction
from pipelines.schedule import schedule_parts

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {"hit": "green", "miss": "yellow", "runs": "cyan"}


def schedule_text(plan: Plan) -> str:
    """Return when the pipeline runs, in words."""
    cron, assets = schedule_parts(plan.spec)
    parts = [f"{cron} UTC"] if cron else []
    parts += [f"on {asset}" for asset in assets]
    return " or ".join(parts) or "by hand only"


def table(plan: Plan, predictions: Sequence[Prediction] = ()) -> Table:
    """Return the stages of a plan as a table, with what the cache would do where `predictions` are given."""
    from rich.markup import escape
    from rich.table import Table

    found = {prediction.stage: prediction for prediction in predictions}
    title = f"{plan.name}: {schedule_text(plan)}"
    shown = Table(title=escape(title), title_justify="left", pad_edge=False, box=None, header_style="bold")
    for heading in ("stage", "uses", "reads", "cache", "why") if found else ("stage", "uses", "reads", "makes"):
        shown.add_column(heading, overflow="fold")
    if found:
        shown.add_column("last took", justify="right")
    for stage in plan.stages:
        reads = ", ".join(f"{wire.stage}.{wire.output}" for wire in stage.wires)
        if not found:
            shown.add_row(stage.name, stage.component.name, reads, ", ".join(stage.component.output_types))
            continue
        what = found[stage.name]
        took = "" if what.seconds is None else f"{what.seconds:.1f} s"
        state = f"[{_COLOURS[what.state]}]{what.state}[/]"
        shown.add_row(stage.name, stage.component.name, reads, state, escape(what.why), took)
    return shown


def summary(predictions: Sequence[Prediction]) -> str:
    """Return how much of a run comes from the cache, and how long the rest took last time."""
    hits = sum(prediction.state == "hit" for prediction in predictions)
    rest = [prediction for prediction in predictions if prediction.state != "hit"]
    known = [prediction.seconds for prediction in rest if prediction.seconds is not None]
    guess = f", about {sum(known):.0f} s" if known else ""
    guess += f" (no earlier run of {len(rest) - len(known)})" if len(known) < len(rest) else ""
    return f"{hits} of {len(predictions)} stages come from the cache; {len(rest)} would run{guess if rest else ''}."


def mermaid(plan: Plan) -> str:
    """Return the plan as a Mermaid graph; edges carry the artifact, dotted ones only the order."""
    lines = ["graph LR"]
    groups: dict[str, list[str]] = {}
    for stage in plan.stages:
        node = f'{_node(stage.name)}["{stage.name}<br/><small>{stage.component.name}</small>"]'
        if stage.group is None:
            lines.append(f"  {node}")
        else:
            groups.setdefault(stage.group, []).append(f"    {node}")
    for group, nodes in groups.items():
        lines += [f'  subgraph group_{group}["{group}"]', *nodes, "  end"]
    for stage in plan.stages:
        for wire in stage.wires:
            kind = plan.stage(wire.stage).component.output_types[wire.output].kind
            lines.append(f"  {_node(wire.stage)} -- {kind} --> {_node(stage.name)}")
        wired = {wire.stage for wire in stage.wires}
        lines += [f"  {_node(name)} -.-> {_node(stage.name)}" for name in stage.upstream if name not in wired]
    return "\n".join(lines) + "\n"


def _node(name: str) -> str:
    """Return a node id; Mermaid keeps words such as `end` for itself."""
    return f"stage_{name}"


def text_graph(plan: Plan) -> str:
    """Return the plan as text: each stage with what it makes and who reads that."""
    lines = [f"{plan.name} ({schedule_text(plan)})"]
    for stage in plan.stages:
        lines += ["", f"{stage.name} ({stage.component.name})" + (f" in {stage.group}" if stage.group else "")]
        wired = {wire.stage for wire in stage.wires}
        later = [name for name in stage.upstream if name not in wired]
        lines += [f"  after {', '.join(later)}"] if later else []
        for output, kind in stage.component.output_types.items():
            readers = [
                f"{reader.name}.{wire.input}"
                for reader in plan.stages
                for wire in reader.wires
                if (wire.stage, wire.output) == (stage.name, output)
            ]
            lines.append(f"  {output}: {kind.kind}" + (f" → {', '.join(readers)}" if readers else ""))
    return "\n".join(lines) + "\n"


def as_json(plan: Plan, predictions: Sequence[Prediction] = ()) -> dict[str, Any]:
    """Return the plan, and the predictions where they are given, as a JSON value."""
    found = {prediction.stage: prediction for prediction in predictions}
    spec = plan.spec.model_dump(mode="json", by_alias=True, exclude={"stages", "defaults"})
    stages = []
    for stage in plan.stages:
        entry: dict[str, Any] = {
            "name": stage.name,
            "uses": stage.component.name,
            "version": stage.component.version,
            "in": {wire.input: f"{wire.stage}.{wire.output}" for wire in stage.wires},
            "out": {name: kind.kind for name, kind in stage.component.output_types.items()},
            "with": stage.config,
            "upstream": list(stage.upstream),
            "group": stage.group,
            "retries": stage.retries,
            "retry_delay": stage.retry_delay.total_seconds(),
            "timeout": stage.timeout.total_seconds() if stage.timeout else None,
            "cache": stage.cache,
            "line": stage.line,
        }
        if (what := found.get(stage.name)) is not None:
            entry["prediction"] = {"state": what.state, "key": what.key, "why": what.why, "seconds": what.seconds}
        stages.append(entry)
    return {**spec, "stages": stages}
