"""How is a plan drawn as a picture? Boxes in layers, one below the other, as SVG that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from pipelines.language.plan import Plan

StageState = Literal["planned", "hit", "miss", "runs", "missing", "done", "cached", "failed", "not run"]
"""What a stage would do, or what it did; `hit`, `miss`, `runs` and `missing` as in `Prediction` of a plan."""
COLOURS: dict[StageState, tuple[str, str]] = {
    "planned": ("#f5f7fa", "#7b8794"),
    "hit": ("#e3f0fb", "#2b6cb0"),
    "miss": ("#fdf6e3", "#b7791f"),
    "runs": ("#fdf6e3", "#b7791f"),
    "missing": ("#fdecea", "#c53030"),
    "done": ("#e6f6ec", "#2f855a"),
    "cached": ("#e3f0fb", "#2b6cb0"),
    "failed": ("#fdecea", "#c53030"),
    "not run": ("#f5f7fa", "#9aa5b1"),
}
"""Fill and line of a box; `cached` is told apart by its words too."""
BOX, HEIGHT, PASS, GAP, LAYER = 210, 62, 16, 28, 118
"""Pixels: width and height of a box, width of a line's way past a layer, space between, distance of two layers."""
_PASSES = " passes"
_SWEEPS = 6
_LONGEST = 27


@dataclass(frozen=True)
class Mark:
    """What a box says about its stage besides its name.

    Attributes:
        state: decides the colour.
        text: a few words, such as ``cached`` or ``12.3 s``; the state when empty.
    """

    state: StageState = "planned"
    text: str = ""


@dataclass(frozen=True)
class _Edge:
    source: str
    target: str
    kinds: tuple[str, ...]
    """Kinds of the artifacts that go along; none where only the order counts."""


_Point = tuple[str, int]
"""A stage or the way of a long edge past a layer, and the layer."""


def svg(plan: Plan, marks: Mapping[str, Mark] | None = None) -> str:
    """Return the picture of a plan.

    Args:
        plan: a checked plan.
        marks: what to say about stages, by name; nothing where a stage is left out.
    """
    edges = tuple(_edges(plan))
    layer = _layers(plan)
    ways = {edge: _way(edge, layer) for edge in edges}
    rows = _ordered(plan, layer, ways)
    centre = _centres(rows)
    width = max(x + _width(point) / 2 for point, x in centre.items()) + GAP
    height = len(rows) * LAYER - (LAYER - HEIGHT) + 2 * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}" role="img" aria-label="{escape(plan.name)}" font-family="system-ui, sans-serif">',
        f"<title>{escape(plan.name)}</title>",
    ]
    parts += [_line(edge, way, centre) for edge, way in ways.items()]
    known = marks or {}
    for stage in plan.stages:
        point = (stage.name, layer[stage.name])
        made = ", ".join(kind.kind for kind in stage.component.output_types.values())
        parts.append(
            _box(centre[point], _top(layer[stage.name]), stage.name, stage.component.name, made,
                 known.get(stage.name, Mark()))
        )  # fmt: skip
    return "\n".join([*parts, "</svg>"])


def _edges(plan: Plan) -> Iterator[_Edge]:
    for stage in plan.stages:
        for name in stage.upstream:
            outputs = sorted({wire.output for wire in stage.wires if wire.stage == name})
            made = plan.stage(name).component.output_types
            yield _Edge(name, stage.name, tuple(made[output].kind for output in outputs))


def _layers(plan: Plan) -> dict[str, int]:
    """Return how many stages come before each stage on the longest way to it."""
    layer: dict[str, int] = {}
    for stage in plan.stages:
        layer[stage.name] = max((layer[name] + 1 for name in stage.upstream), default=0)
    return layer


def _way(edge: _Edge, layer: Mapping[str, int]) -> list[_Point]:
    """Return the points that an edge goes through, its two stages included; edges of one stage go together."""
    first, last = layer[edge.source], layer[edge.target]
    passed = [(edge.source + _PASSES, number) for number in range(first + 1, last)]
    return [(edge.source, first), *passed, (edge.target, last)]


def _ordered(plan: Plan, layer: Mapping[str, int], ways: Mapping[_Edge, list[_Point]]) -> list[list[_Point]]:
    """Return the points of each layer from left to right, moved towards their neighbours so that few lines cross."""
    rows: list[list[_Point]] = [[] for _ in range(max(layer.values()) + 1)]
    for stage in plan.stages:
        rows[layer[stage.name]].append((stage.name, layer[stage.name]))
    for point in dict.fromkeys(point for way in ways.values() for point in way[1:-1]):
        rows[point[1]].append(point)
    above: dict[_Point, list[_Point]] = {point: [] for row in rows for point in row}
    below: dict[_Point, list[_Point]] = {point: [] for row in rows for point in row}
    for way in ways.values():
        for upper, lower in pairwise(way):
            above[lower].append(upper)
            below[upper].append(lower)
    for sweep in range(_SWEEPS):
        near, order = (above, rows) if sweep % 2 == 0 else (below, rows[::-1])
        for row in order:
            place = {point: x for line in rows for point, x in _shares(line)}
            row.sort(key=lambda point, near=near, place=place: _mean(point, near[point], place))  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
    return rows


def _shares(row: list[_Point]) -> Iterator[tuple[_Point, float]]:
    """Yield where each point of a row lies: 0 is the middle."""
    for position, point in enumerate(row):
        yield point, position - (len(row) - 1) / 2


def _mean(point: _Point, near: list[_Point], place: Mapping[_Point, float]) -> float:
    return sum(place[other] for other in near) / len(near) if near else place[point]


def _width(point: _Point) -> int:
    return PASS if point[0].endswith(_PASSES) else BOX


def _centres(rows: list[list[_Point]]) -> dict[_Point, float]:
    widths = [sum(map(_width, row)) + GAP * (len(row) - 1) for row in rows]
    centre: dict[_Point, float] = {}
    for row, width in zip(rows, widths, strict=True):
        x = GAP + (max(widths) - width) / 2
        for point in row:
            centre[point] = x + _width(point) / 2
            x += _width(point) + GAP
    return centre


def _top(layer: int) -> int:
    return GAP + layer * LAYER


def _line(edge: _Edge, way: list[_Point], centre: Mapping[_Point, float]) -> str:
    """Return an edge: down out of a box, straight past the layers between, down into the other box."""
    (_, first), *between, (_, last) = way
    x, y = centre[way[0]], _top(first) + HEIGHT
    path = [f"M{x:.1f},{y}"]
    stops = [(centre[point], _top(point[1]), _top(point[1]) + HEIGHT) for point in between]
    for to, top, bottom in [*stops, (centre[way[-1]], _top(last) - 3, 0)]:
        bend = (top - y) / 2
        path.append(f"C{x:.1f},{y + bend:.1f} {to:.1f},{top - bend:.1f} {to:.1f},{top}")
        x, y = to, bottom
        path += [f"L{to:.1f},{bottom}"] if bottom else []
    what = ", ".join(edge.kinds) or "order only"
    dashes = "" if edge.kinds else ' stroke-dasharray="3 4"'
    tip = f"M{x - 4:.1f},{_top(last) - 7}L{x:.1f},{_top(last)}L{x + 4:.1f},{_top(last) - 7}Z"
    return (
        f'<g stroke="#9aa5b1" fill="none"><title>{escape(f"{edge.source} → {edge.target}: {what}")}</title>'
        f'<path d="{"".join(path)}" stroke-width="1.5"{dashes}/><path d="{tip}" fill="#9aa5b1" stroke="none"/></g>'
    )


def _box(x: float, y: int, name: str, uses: str, made: str, mark: Mark) -> str:
    fill, line = COLOURS[mark.state]
    told = "" if mark.state == "planned" else mark.text or mark.state
    left = x - BOX / 2
    dashes = ' stroke-dasharray="5 3"' if mark.state in ("cached", "hit", "not run") else ""
    return (
        f"<g><title>{escape(f'{name}: {uses}, makes {made}')}{escape(f'; {told}') if told else ''}</title>"
        f'<rect x="{left:.1f}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="7" fill="{fill}" stroke="{line}" '
        f'stroke-width="1.5"{dashes}/>'
        f'<text x="{left + 12:.1f}" y="{y + 20}" font-size="13" font-weight="600" fill="#1f2933">'
        f"{escape(_cut(name, 20 if told else _LONGEST))}</text>"
        f'<text x="{left + BOX - 10:.1f}" y="{y + 20}" font-size="11" text-anchor="end" fill="{line}">'
        f"{escape(told)}</text>"
        f'<text x="{left + 12:.1f}" y="{y + 37}" font-size="11.5" fill="#52606d">{escape(_cut(uses))}</text>'
        f'<text x="{left + 12:.1f}" y="{y + 53}" font-size="11" fill="#7b8794">→ {escape(_cut(made))}</text></g>'
    )


def _cut(text: str, longest: int = _LONGEST + 2) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
