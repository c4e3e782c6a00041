"""Does every picture of a plan show every stage, every wire and nothing else?"""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from pipelines.language.check import examine, load_plan
from pipelines.language.load import PIPELINES, parse, pipeline_names, pipeline_path
from pipelines.language.plan import Plan, Prediction
from pipelines.show.render import as_json, mermaid, table, text_graph

PLANS = [pytest.param(load_plan(pipeline_path(name)), id=name) for name in pipeline_names()]


def wires(plan: Plan) -> set[tuple[str, str, str, str]]:
    return {(wire.stage, wire.output, stage.name, wire.input) for stage in plan.stages for wire in stage.wires}


@pytest.mark.parametrize("plan", PLANS)
def test_the_mermaid_graph_has_the_stages_and_the_wires(plan: Plan) -> None:
    first, *lines = mermaid(plan).splitlines()
    assert first == "graph LR"
    nodes = re.findall(r'^ +stage_(\w+)\["(\w+)<br/><small>(\w+)</small>"\]$', "\n".join(lines), re.MULTILINE)
    edges = re.findall(r"^  stage_(\w+) -- (\w+) --> stage_(\w+)$", "\n".join(lines), re.MULTILINE)
    # Those of a group stand together, wherever it lies in the order of work.
    assert sorted(nodes) == sorted((stage.name, stage.name, stage.component.name) for stage in plan.stages)
    kinds = {(s, plan.stage(s).component.output_types[o].kind, t) for s, o, t, _ in wires(plan)}
    assert set(edges) == kinds
    groups = {stage.group for stage in plan.stages if stage.group}
    assert sorted(re.findall(r"^  subgraph group_(\w+)", "\n".join(lines), re.MULTILINE)) == sorted(groups)
    wired = {(one, to) for one, _, to in kinds}
    waits = {(up, stage.name) for stage in plan.stages for up in stage.upstream} - wired
    bare = re.findall(r"^  stage_(\w+) -\.-> stage_(\w+)$", "\n".join(lines), re.MULTILINE)
    assert set(bare) == waits
    assert len(nodes) + len(edges) + len(bare) + 2 * len(groups) == len(lines), "a group opens and ends"


def test_groups_and_bare_order_are_drawn_and_mermaids_own_words_are_safe() -> None:
    text = json.dumps({
        "name": "movielens_daily", "window": {"days": 1},
        "stages": {
            "end": {"uses": "ingest_household", "group": "graph"},
            "subgraph": {"uses": "ingest_household", "after": ["end"]},
        },
    })  # fmt: skip
    plan, problems = examine(parse(text.encode(), PIPELINES / "movielens_daily.yaml"))
    assert plan is not None, problems
    assert mermaid(plan).splitlines() == [
        "graph LR",
        '  stage_subgraph["subgraph<br/><small>ingest_household</small>"]',
        '  subgraph group_graph["graph"]',
        '    stage_end["end<br/><small>ingest_household</small>"]',
        "  end",
        "  stage_end -.-> stage_subgraph",
    ]
    assert "  after end" in text_graph(plan)


@pytest.mark.parametrize("plan", PLANS)
def test_the_text_graph_names_every_reader(plan: Plan) -> None:
    found, maker = set(), ""
    for line in text_graph(plan).splitlines()[1:]:
        if match := re.fullmatch(r"(\w+) \((\w+)\).*", line):
            maker = match[1]
        elif match := re.fullmatch(r"  (\w+): \w+(?: → (.*))?", line):
            found |= {(maker, match[1], *reader.split(".")) for reader in (match[2] or "").split(", ") if reader}
    assert found == wires(plan)


@pytest.mark.parametrize("plan", PLANS)
def test_the_json_is_json_and_wires_the_same(plan: Plan) -> None:
    value = json.loads(json.dumps(as_json(plan)))
    assert value["name"] == plan.name
    found = {
        (*source.split("."), stage["name"], port)
        for stage in value["stages"]
        for port, sources in stage["in"].items()
        for source in (sources if isinstance(sources, list) else [sources])
    }
    assert found == wires(plan)
    assert [stage["name"] for stage in value["stages"]] == [stage.name for stage in plan.stages]


@pytest.mark.parametrize("plan", PLANS)
def test_the_table_has_one_row_per_stage_with_and_without_predictions(plan: Plan) -> None:
    found = tuple(Prediction(stage.name, "miss", "k", "config.x [a] → [b]", (), 1.25) for stage in plan.stages)
    predicted = replace(plan, predictions=found)
    for shown in (table(plan), table(predicted)):
        assert shown.row_count == len(plan.stages)
    out = io.StringIO()
    Console(file=out, width=250).print(table(predicted))
    assert out.getvalue().count("config.x [a] → [b]") == len(plan.stages)
    assert "1.2 s" in out.getvalue()


@pytest.mark.parametrize("plan", PLANS[:1])
def test_graphs_mark_what_comes_from_the_cache(plan: Plan) -> None:
    first, *rest = plan.stages
    found = (Prediction(first.name, "hit", "k", "", (), 1.0),)
    found += tuple(Prediction(stage.name, "runs", None, "", (), None) for stage in rest)
    predicted = replace(plan, predictions=found)
    assert mermaid(predicted).splitlines()[-1] == f"  class stage_{first.name} hit"
    assert text_graph(predicted).count(": hit\n") == 1
    assert "hit" not in mermaid(plan) + text_graph(plan)
