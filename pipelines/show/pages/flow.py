"""Which stage comes after which? The stages of a plan in levels, each with what it reads and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipelines.language.plan import Plan

StageState = Literal["planned", "hit", "miss", "runs", "missing", "done", "cached", "failed", "not run", "skipped"]
"""What a stage would do, or what it did; `hit`, `miss`, `runs` and `missing` as in `Prediction` of a plan."""


@dataclass(frozen=True)
class Mark:
    """What a page says about a stage besides its name."""

    state: StageState = "planned"
    text: str = ""
    """A few words, such as ``12.3 s``; the state when empty."""


@dataclass(frozen=True)
class Box:
    """A stage in the flow of its pipeline."""

    name: str
    uses: str
    mark: Mark
    reads: tuple[str, ...]
    """``stage: kinds`` for each stage that it reads from, ``after stage`` where only the order counts."""


def levels(plan: Plan, marks: Mapping[str, Mark]) -> tuple[tuple[Box, ...], ...]:
    """Return the stages of a plan by how many come before them on the longest way, in the order of the plan."""
    level: dict[str, int] = {}
    rows: list[list[Box]] = []
    for stage in plan.stages:
        level[stage.name] = max((level[name] + 1 for name in stage.upstream), default=0)
        if level[stage.name] == len(rows):
            rows.append([])
        kinds: dict[str, list[str]] = {name: [] for name in stage.upstream}
        for wire in stage.wires:
            kinds[wire.stage].append(plan.stage(wire.stage).component.output_types[wire.output].kind)
        reads = tuple(f"{name}: {', '.join(found)}" if found else f"after {name}" for name, found in kinds.items())
        mark = marks.get(stage.name, Mark())
        rows[level[stage.name]].append(Box(stage.name, stage.component.name, mark, reads))
    return tuple(map(tuple, rows))
