"""Which knobs and pairs of a training does a search choose, and what has it chosen where it has run?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.platform.artifacts import Architecture, Tuned
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.train.searched import read_searched
from components.train.tuned import read_tuning, told
from pipelines.language.plan import Plan, PlannedStage, Wire


def tuned_stages(plan: Plan) -> Iterator[tuple[PlannedStage, Wire, tuple[str, ...]]]:
    """Yield each stage that takes what a search finds, its wire, and the knobs whose values are replaced."""
    for stage in plan.stages:
        for wire in stage.wires:
            if stage.component.input_types[wire.input] is Tuned:
                space = plan.stage(wire.stage).config.get("space")
                yield stage, wire, tuple(sorted(space)) if isinstance(space, dict) else ()


def tuned_lines(plan: Plan, settings: Settings | None = None) -> list[str]:
    """Return a sentence per stage of which a search decides something, with what the store already has."""
    lines = [_line(plan, stage, wire, paths, settings) for stage, wire, paths in tuned_stages(plan)]
    for stage in plan.stages:
        for wire in stage.wires:
            if stage.component.input_types[wire.input] is Architecture:
                folder = _found(plan, wire, settings)
                found = "will choose for pairs of fields" if folder is None else f"chose: {read_searched(folder).told}"
                lines.append(f"{stage.name} trains with what {wire.stage} {found}.")
    return lines


def _found(plan: Plan, wire: Wire, settings: Settings | None) -> Path | None:
    """Return the folder of what a search found, where the store has it."""
    what = plan.prediction(wire.stage)
    producer = plan.stage(wire.stage)
    if what is not None and what.state == "hit" and what.key is not None:
        store = open_store(settings or Settings.from_environment())
        record = store.find(producer.component.name, what.key)
        if record is not None:
            return store.fetch(record.outputs[wire.output].load())
    return None


def _line(plan: Plan, stage: PlannedStage, wire: Wire, paths: tuple[str, ...], settings: Settings | None) -> str:
    if (folder := _found(plan, wire, settings)) is not None:
        return f"{stage.name} trains with what {wire.stage} found: {told(read_tuning(folder).values)}."
    return f"{stage.name} trains with what {wire.stage} will find for {', '.join(paths)}, whatever it says itself."
