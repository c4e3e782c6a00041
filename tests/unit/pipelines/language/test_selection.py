"""Does a part of a pipeline hold the right stages, and is the command that continues a run the right one?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.platform.errors import BadInputError, MissingError
from pipelines.language.params import parse_moment
from pipelines.language.plan import ALL, Plan, Selection, left_out, select
from pipelines.run.run import command_to_continue
from tests.example_component import COUNT
from tests.unit.pipelines.language.test_predict import stage

MOMENT = datetime(2026, 3, 1, 2, tzinfo=UTC)


def plan_of(upstream: dict[str, tuple[str, ...]], end: str | None = "2026-01-01") -> Plan:
    from pipelines.language.spec import PipelineSpec

    stages = tuple(replace(stage(name, COUNT, {}), upstream=before) for name, before in upstream.items())
    spec = {
        "name": "toy",
        "window": {"days": 1, **({"end": end} if end else {})},
        "params": {
            "count": {"type": "integer", "default": 3},
            "fast": {"type": "boolean", "default": False},
            "text": {"type": "string", "default": ""},
        },
        "stages": {name: {"uses": "count_numbers"} for name in upstream},
    }
    return Plan(PipelineSpec.model_validate(spec), Path("toy.yaml"), stages)


DIAMOND = plan_of({"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "e": ("c", "d"), "f": ()})


def starts(plan: Plan) -> dict[str, str]:
    return {planned.name: planned.start for planned in plan.stages}


def test_from_a_stage_means_it_and_all_after_it_with_what_they_need() -> None:
    assert select(DIAMOND, ALL) is DIAMOND
    part = select(DIAMOND, Selection("from", "b"))
    assert starts(part) == {"a": "taken", "b": "anew", "c": "taken", "d": "anew", "e": "anew"}
    alone = select(DIAMOND, Selection("only", "d"))
    assert starts(alone) == {"a": "taken", "b": "taken", "d": "anew"}


@given(st.data())
def test_a_part_is_closed_and_never_takes_what_follows_what_runs(data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 8)))]
    subsets = [data.draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i in range(len(names))]
    plan = plan_of({name: tuple(sorted(before)) for name, before in zip(names, subsets, strict=True)})
    extent = data.draw(st.sampled_from(["from", "only"]))
    part = select(plan, Selection(extent, data.draw(st.sampled_from(names))))  # type: ignore[arg-type]  # drawn above
    found = starts(part)
    for planned in part.stages:
        assert {*planned.upstream} <= {*found}
        if planned.start == "taken" and extent == "from":
            assert all(found[name] == "taken" for name in planned.upstream)


def test_a_run_may_end_early_and_leave_stages_out() -> None:
    assert starts(select(DIAMOND, Selection(to="c"))) == {"a": "cache", "c": "cache"}
    assert starts(select(DIAMOND, Selection(without=("d",)))) == {name: "cache" for name in "abcf"}
    middle = select(DIAMOND, Selection("from", "b", "d"))
    assert starts(middle) == {"a": "taken", "b": "anew", "d": "anew"}
    assert starts(select(DIAMOND, Selection("from", "a", without=("b", "f")))) == {"a": "anew", "c": "anew"}
    assert str(Selection.of("b", None, "d", ["f", "f", "c"])) == "--from b --to d --except f --except c"


def test_what_is_left_out_is_said() -> None:
    assert left_out(DIAMOND, ALL) == left_out(DIAMOND, Selection("from", "b")) == ""
    assert left_out(DIAMOND, Selection(without=("e",))) == "--except leaves out e"
    assert left_out(DIAMOND, Selection(without=("d",))) == "--except leaves out d, and with it e, which needs it"
    said = left_out(DIAMOND, Selection(to="d", without=("f",)))
    assert said == "--to d leaves out c, e; --except leaves out f"


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (
            Selection(to="d", without=("b",)),
            "--to d and --except b exclude each other, since d needs b: give one of them",
        ),
        (Selection("from", "b", without=("b",)), "--from b and --except b exclude each other: give"),
        (Selection("from", "b", "c"), "--from b --to c leaves no stage of toy to run"),
        (Selection(without=("a", "f")), "leaves no stage of toy"),
    ],
)
def test_options_that_leave_nothing_are_refused(selection: Selection, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        select(DIAMOND, selection)


@given(st.data())
def test_a_part_needs_nothing_that_it_leaves_out(data: st.DataObject) -> None:
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 8)))]
    subsets = [data.draw(st.sets(st.sampled_from(names[:i]))) if i else set() for i in range(len(names))]
    plan = plan_of({name: tuple(sorted(before)) for name, before in zip(names, subsets, strict=True)})
    one = st.sampled_from(names)
    asked = Selection.of(
        data.draw(st.none() | one), None, data.draw(st.none() | one), data.draw(st.lists(one, max_size=2))
    )
    try:
        part = select(plan, asked)
    except BadInputError:
        return
    found = starts(part)
    assert not {*found} & {*asked.without}
    for planned in part.stages:
        assert {*planned.upstream} <= {*found}
    if asked.to:
        assert asked.to in found and {name for name, how in found.items() if how != "taken"} <= plan.before([asked.to])
    if not asked.stage:
        left = {*names} - {*found}
        assert all(
            left & plan.after([name]) == plan.after([name]) for name in left & plan.before([asked.to or names[-1]])
        )


def test_wrong_options_are_told() -> None:
    with pytest.raises(MissingError, match=r"no stage 'aa' \(did you mean 'a'\?\)"):
        select(plan_of({"a": (), "b": ()}), Selection("from", "aa"))
    with pytest.raises(BadInputError, match="exclude each other"):
        Selection.of("a", "b")
    with pytest.raises(BadInputError, match="--except and --only exclude each other"):
        Selection.of(None, "b", None, ["a"])
    with pytest.raises(MissingError, match="toy has no stage 'x'"):
        select(DIAMOND, Selection(to="x"))
    with pytest.raises(BadInputError, match="--at is 'yesterday'"):
        parse_moment("yesterday")
    assert parse_moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_moment("2026-03-01T02:00:00+02:00") == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("finished", "failed", "selection", "rest"),
    [
        ("a f c", "b", ALL, "--from b"),
        ("a f", "b", ALL, ""),  # c is due as well, and nothing after b
        ("a f c b d", "e", ALL, "--from e"),
        ("a b", "d", Selection("only", "d"), "--only d"),
        ("a c b", "d", Selection("from", "b"), "--from d"),
        ("a", "b", Selection("from", "a"), "--from a"),
        ("a", "", ALL, ""),
        ("a f c", "b", Selection(to="d"), "--from b --to d"),
        ("a f", "b", Selection(without=("e",)), "--except e"),
        ("a f c", "b", Selection(without=("e",)), "--from b --except e"),
    ],
)
def test_a_run_continues_where_it_failed_unless_more_is_due(
    finished: str, failed: str, selection: Selection, rest: str
) -> None:
    said = command_to_continue(
        "toy", DIAMOND, selection=selection, params={"count": 3, "fast": False, "text": ""}, moment=MOMENT,
        profile=None, finished={*finished.split()}, failed=failed,
    )  # fmt: skip
    assert said == f"rankmill run toy {rest}".strip()


def test_the_command_repeats_what_decides_the_result() -> None:
    said = command_to_continue(
        "my pipelines/toy.yaml", plan_of({"a": ()}, end=None), selection=ALL,
        params={"count": 7, "fast": True, "text": "it's"}, moment=MOMENT, profile="prod", finished=set(), failed="a",
    )  # fmt: skip
    assert said == (
        "rankmill run 'my pipelines/toy.yaml' --profile prod --param count=7 --param fast=true "
        "--param 'text=it'\"'\"'s' --at 2026-03-01T02:00:00+00:00 --from a"
    )
