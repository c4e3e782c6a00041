"""Does the flow of a plan hold every stage once, below everything that it reads?"""

from __future__ import annotations

import json

import pytest

from pipelines.language.check import examine, load_plan
from pipelines.language.load import PIPELINES, parse, pipeline_names, pipeline_path
from pipelines.language.plan import Plan
from pipelines.show.pages.flow import Mark, levels


@pytest.mark.parametrize("plan", [pytest.param(load_plan(pipeline_path(name)), id=name) for name in pipeline_names()])
def test_every_stage_stands_below_what_it_reads_and_names_it(plan: Plan) -> None:
    rows = levels(plan, {})
    at = {box.name: number for number, row in enumerate(rows) for box in row}
    assert sum(map(len, rows)) == len(plan.stages) and {*at} == {stage.name for stage in plan.stages}
    for box in (box for row in rows for box in row):
        stage = plan.stage(box.name)
        assert at[box.name] == max((at[name] + 1 for name in stage.upstream), default=0)
        assert len(box.reads) == len(stage.upstream)
        for wire in stage.wires:
            kind = plan.stage(wire.stage).component.output_types[wire.output].kind
            assert any(kind in read for read in box.reads if read.startswith(f"{wire.stage}: "))


def test_marks_stand_at_their_stages_and_bare_order_is_told() -> None:
    text = json.dumps({
        "name": "movielens_daily", "window": {"days": 1},
        "stages": {"a": {"uses": "ingest_household"}, "b": {"uses": "ingest_household", "after": ["a"]}},
    })  # fmt: skip
    plan, problems = examine(parse(text.encode(), PIPELINES / "movielens_daily.yaml"))
    assert plan is not None, problems
    ((a,), (b,)) = levels(plan, {"a": Mark("done", "9.5 s")})
    assert a.mark == Mark("done", "9.5 s") and b.mark == Mark()
    assert (a.reads, b.reads) == ((), ("after a",))
