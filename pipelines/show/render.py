"""How does a plan look? As a table, as a graph in Mermaid or plain text, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.language.document import shown
from pipelines.language.plan import Plan, PlannedStage, Prediction
from pipelines.language.schedule import schedule_parts
from pipelines.show.terminal import folding
from pipelines.show.tuned import tuned_stages

if TYPE_CHECKING:
    from rich.table import Table

_COLOURS = {"hit": "green", "miss": "yellow", "runs": "cyan", "missing": "red"}


def schedule_text(plan: Plan) -> str:
    """Return when the pipeline runs, in words."""
    found = schedule_parts(plan.spec)
    parts = [f"{found.cron} {found.timezone}"] if found.cron else []
    assets = [asset for _, asset in found.assets]
    parts += [f"on {' and '.join(assets)}"] if found.together else [f"on {asset}" for asset in assets]
    return " or ".join(parts) or "by hand only"


def table(plan: Plan) -> Table:
    """Return the stages of a plan as a table, with what a run would do where the plan holds predictions."""
    from rich.markup import escape

    title = f"{plan.name}: {schedule_text(plan)}" + (f", window {plan.window}" if plan.window else "")
    headings = ("stage", "uses", "cache", "why") if plan.predictions else ("stage", "uses", "reads", "makes")
    rows = folding(*headings, title=escape(title))
    if plan.predictions:
        rows.add_column("last took", justify="right")
    for stage in plan.stages:
        what = plan.prediction(stage.name)
        if what is None:
            reads = ", ".join(f"{wire.stage}.{wire.output}" for wire in stage.wires)
            rows.add_row(stage.name, stage.component.name, reads, ", ".join(stage.component.output_types))
            continue
        state = f"[{_COLOURS[what.state]}]{what.state}[/]"
        rows.add_row(stage.name, stage.component.name, state, escape(what.why), _took(what))
    return rows


def _took(what: Prediction) -> str:
    return "" if what.seconds is None else f"{what.seconds:.1f} s"


def summary(plan: Plan) -> str:
    """Return how much of a run comes from the cache, and how long the rest took last time."""
    hits = sum(found.state == "hit" for found in plan.predictions)
    rest = [found for found in plan.predictions if found.state != "hit"]
    if missing := [found.stage for found in plan.predictions if found.state == "missing"]:
        return f"This run cannot start: the store does not have {', '.join(missing)}."
    known = [found.seconds for found in rest if found.seconds is not None]
    guess = f", about {sum(known):.0f} s" if known else ""
    guess += f" (no earlier run of {len(rest) - len(known)})" if len(known) < len(rest) else ""
    return f"{hits} of {len(plan.stages)} stages come from the cache; {len(rest)} would run{guess if rest else ''}."


def mermaid(plan: Plan) -> str:
    """Return the plan as a Mermaid graph; edges carry the artifact, dotted ones only the order.

    Where the plan holds predictions, a stage that comes from the cache is drawn dashed.
    """
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
    if hits := [_node(found.stage) for found in plan.predictions if found.state == "hit"]:
        lines += ["  classDef hit stroke-dasharray: 4", f"  class {','.join(hits)} hit"]
    return "\n".join(lines) + "\n"


def _node(name: str) -> str:
    """Return a node id; Mermaid keeps words such as `end` for itself."""
    return f"stage_{name}"


def text_graph(plan: Plan) -> str:
    """Return the plan as text: each stage with what it makes and who reads that."""
    lines = [f"{plan.name} ({schedule_text(plan)})"]
    for stage in plan.stages:
        group = f" in {stage.group}" if stage.group else ""
        what = plan.prediction(stage.name)
        lines += ["", f"{stage.name} ({stage.component.name}){group}" + (f": {what.state}" if what else "")]
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


def _sources(stage: PlannedStage) -> dict[str, str | list[str]]:
    """Return what each input is wired to; a list where it takes many."""
    found: dict[str, str | list[str]] = {}
    for wire in stage.wires:
        source, known = f"{wire.stage}.{wire.output}", found.get(wire.input, [])
        found[wire.input] = [*known, source] if wire.many else source
    return found


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan, with its predictions where it holds them, as a JSON value."""
    spec = plan.spec.model_dump(mode="json", by_alias=True, exclude={"stages", "defaults"})
    tuned = {stage.name: {path: wire.stage for path in paths} for stage, wire, paths in tuned_stages(plan)}
    stages = []
    for stage in plan.stages:
        entry: dict[str, Any] = {
            "name": stage.name,
            "uses": stage.component.name,
            "version": stage.component.version,
            "in": _sources(stage),
            "out": {name: kind.kind for name, kind in stage.component.output_types.items()},
            "with": stage.config,
            "upstream": list(stage.upstream),
            "group": stage.group,
            "retries": stage.retries,
            "retry_delay": stage.retry_delay.total_seconds(),
            "timeout": stage.timeout.total_seconds() if stage.timeout else None,
            "cache": stage.cache,
            "placement": stage.placement.model_dump(exclude_none=True),
            "start": stage.start,
            "when": stage.when or None,
            "written": [f"{shown(place.path)}:{place.line}" for place in stage.places],
        }
        if stage.name in tuned:
            entry["tuned"] = tuned[stage.name]
        if (what := plan.prediction(stage.name)) is not None:
            entry["prediction"] = {
                "state": what.state,
                "key": what.key,
                "why": what.why,
                "changes": [
                    {"kind": change.kind, "name": change.name, "old": change.old, "new": change.new}
                    for change in what.changes
                ],
                "seconds": what.seconds,
            }
        stages.append(entry)
    if plan.window is not None:
        start, end = (moment.isoformat() for moment in (plan.window.start, plan.window.end))
        spec["window"] |= {"start": start, "until": end}
        spec["estimate"] = plan.seconds
    return {**spec, "stages": stages}
