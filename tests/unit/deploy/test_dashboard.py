"""Does the dashboard show every count of a service, none that it does not have, by labels that it has?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from registry.serving.live.counters import Counters

DASHBOARD = json.loads((Path(__file__).resolve().parents[3] / "docs" / "deploy" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
NAMED = re.compile(r"rankmill_\w+")
GIVEN = {"job", "instance", "le"}
"""Labels that Prometheus adds, and the one of every histogram."""


def counted() -> dict[str, set[str]]:
    """Return the labels of every name that a service's page may hold."""
    collectors = {*Counters.make().registry._collector_to_names}
    found: dict[str, set[str]] = {}
    for collector in collectors:
        labels, name = {*collector._labelnames}, collector._name
        kind = type(collector).__name__
        ends = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}[kind]
        found |= {f"{name}{end}": labels for end in ends}
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_name_is_counted_by_the_service() -> None:
    named = {name for expression in expressions() for name in NAMED.findall(expression)}
    assert named - {*counted()} == set()
    asked = DASHBOARD["templating"]["list"][1]["query"]
    assert {*NAMED.findall(asked)} <= {*counted()}


def test_every_count_of_the_service_is_shown() -> None:
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for text in expressions() for name in NAMED.findall(text)}
    hidden = {re.sub(r"_(bucket|sum|count)$", "", name) for name in counted()} - shown
    assert hidden == set(), "add a panel to docs/deploy/grafana.json"


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_groups_by_labels_that_there_are(expression: str) -> None:
    grouped = {label.strip() for group in re.findall(r" by \(([^)]*)\)", expression) for label in group.split(",")}
    known = set.union(*(counted()[name] for name in NAMED.findall(expression)))
    assert grouped - GIVEN <= known
    assert all(text == "" for text in re.findall(r"rankmill_\w+_total(?!\{job=~\"\$job\"\}\[)", expression))
    assert expression.count("(") == expression.count(")")
    for name in NAMED.findall(expression):
        assert name.endswith(("_total", "_bucket")) == (f"rate({name}" in expression), "counts grow, gauges do not"


def test_legends_and_places_are_right() -> None:
    for panel in PANELS:
        assert panel["title"] and panel["description"] and panel["targets"]
        for target in panel["targets"]:
            labels = {*re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])}
            grouped = " ".join(re.findall(r" by \(([^)]*)\)", target["expr"]))
            assert labels <= {*re.findall(r"\w+", grouped)}, target
    at = [panel["gridPos"] for panel in PANELS]
    cells = [(x, place["y"]) for place in at for x in range(place["x"], place["x"] + place["w"])]
    assert len(cells) == len({*cells}) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
