"""Does the picture of a plan show every stage and every connection, nothing on top of anything else?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

import pytest

from pipelines.language.check import PIPELINES, examine, load_plan, pipeline_names, pipeline_path
from pipelines.language.load import parse
from pipelines.language.plan import Plan
from pipelines.show.diagram import BOX, COLOURS, HEIGHT, Mark, svg

PLANS = [pytest.param(load_plan(pipeline_path(name)), id=name) for name in pipeline_names()]
SPACE = "{http://www.w3.org/2000/svg}"


@dataclass
class Box:
    name: str
    texts: list[str]
    x: float
    y: float
    fill: str


@dataclass
class Picture:
    boxes: dict[str, Box]
    lines: dict[tuple[str, str], str]
    """What goes from one stage to another."""
    paths: dict[tuple[str, str], list[tuple[float, float]]]
    width: float
    height: float


def drawn(plan: Plan, marks: dict[str, Mark] | None = None) -> Picture:
    root = ElementTree.fromstring(svg(plan, marks))
    boxes, lines, paths = {}, {}, {}
    for group in root.iter(f"{SPACE}g"):
        title = group.findtext(f"{SPACE}title") or ""
        if (rect := group.find(f"{SPACE}rect")) is not None:
            texts = [text.text or "" for text in group.iter(f"{SPACE}text")]
            x, y = float(rect.attrib["x"]), float(rect.attrib["y"])
            boxes[title.partition(":")[0]] = Box(texts[0], texts, x, y, rect.attrib["fill"])
        else:
            ends, _, what = title.partition(": ")
            source, _, target = ends.partition(" → ")
            lines[source, target] = what
            path = group.find(f"{SPACE}path")
            assert path is not None
            numbers = list(map(float, re.findall(r"-?[0-9.]+", path.attrib["d"])))
            paths[source, target] = list(zip(numbers[::2], numbers[1::2], strict=True))
    return Picture(boxes, lines, paths, float(root.attrib["width"]), float(root.attrib["height"]))


@pytest.mark.parametrize("plan", PLANS)
def test_every_stage_and_every_connection_is_drawn(plan: Plan) -> None:
    picture = drawn(plan)
    assert [box.texts[2] for box in picture.boxes.values()] == [stage.component.name for stage in plan.stages]
    assert set(picture.lines) == {(name, stage.name) for stage in plan.stages for name in stage.upstream}
    for stage in plan.stages:
        for wire in stage.wires:
            kind = plan.stage(wire.stage).component.output_types[wire.output].kind
            assert kind in picture.lines[wire.stage, stage.name].split(", ")


@pytest.mark.parametrize("plan", PLANS)
def test_nothing_lies_on_anything_and_all_goes_down(plan: Plan) -> None:
    picture = drawn(plan)
    for one, other in combinations(picture.boxes.values(), 2):
        assert abs(one.x - other.x) >= BOX or abs(one.y - other.y) >= HEIGHT, (one, other)
    for box in picture.boxes.values():
        assert 0 <= box.x <= picture.width - BOX and 0 <= box.y <= picture.height - HEIGHT
    for (source, target), points in picture.paths.items():
        heights = [y for _, y in points]
        assert heights == sorted(heights), "a line never turns back"
        for name in picture.boxes.keys() - {source, target}:
            box = picture.boxes[name]
            inside = [(x, y) for x, y in points if box.x < x < box.x + BOX and box.y <= y <= box.y + HEIGHT]
            assert inside == [], f"{source} → {target} goes through {name}"


def test_marks_colour_boxes_and_are_written_out() -> None:
    plan = load_plan(pipeline_path("movielens_daily"))
    picture = drawn(plan, {"ingest": Mark("cached"), "train": Mark("done", "9.5 s"), "export": Mark("failed")})
    seen = {name: (box.fill, box.texts[1]) for name, box in picture.boxes.items()}
    assert seen["ingest"] == (COLOURS["cached"][0], "cached")
    assert seen["train"] == (COLOURS["done"][0], "9.5 s")
    assert seen["export"] == (COLOURS["failed"][0], "failed")
    assert seen["promote"] == (COLOURS["planned"][0], "")


def test_bare_order_is_drawn_as_such_and_long_names_are_cut() -> None:
    name = "a" * 60
    text = json.dumps({
        "name": "movielens_daily", "window": {"days": 1},
        "stages": {name: {"uses": "ingest_movielens"}, "b": {"uses": "ingest_movielens", "after": [name]}},
    })  # fmt: skip
    plan, problems = examine(parse(text.encode(), PIPELINES / "movielens_daily.yaml"))
    assert plan is not None, problems
    assert drawn(plan).lines == {(name, "b"): "order only"}
    assert "stroke-dasharray" in svg(plan)
    assert all(len(box.name) < 30 for box in drawn(plan).boxes.values())
