"""Do parameters keep their type, do wrong ones get refused, and which days does a window hold?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.platform.catalog import catalog
from components.platform.errors import BadInputError
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path
from pipelines.language.params import check_params, misfit, parse_params, resolve_config, resolve_window, written
from pipelines.language.plan import PlannedStage
from pipelines.language.spec import ParamSpec, PipelineSpec

VALUE = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def spec(**params: dict[str, Any]) -> PipelineSpec:
    return PipelineSpec.model_validate(
        {"name": "p", "window": {"days": 7}, "params": params, "stages": {"a": {"uses": "ingest_household"}}}
    )


def stage(config: dict[str, Any]) -> PlannedStage:
    return PlannedStage("a", catalog()["train_ranker"], config, (), (), None, 0, timedelta(0), None, "all")


@given(VALUE, VALUE)
def test_a_reference_becomes_the_value_itself_wherever_it_stands(first: Any, second: Any) -> None:
    config = {"a": "${params.x}", "b": {"c": [1, "${params.y}", "text ${params.x}"]}, "d": None, "e": "${params.x }"}
    found = resolve_config(stage(config), {"x": first, "y": second})
    assert found == {"a": first, "b": {"c": [1, second, "text ${params.x}"]}, "d": None, "e": "${params.x }"}
    assert (type(found["a"]), type(found["b"]["c"][1])) == (type(first), type(second))
    assert config["a"] == "${params.x}"


@given(st.text().filter(lambda text: "${" not in text))
def test_a_config_without_references_stays_as_it_is(text: str) -> None:
    assert resolve_config(stage({"a": text, "b": [text]}), {}) == {"a": text, "b": [text]}


def test_a_value_that_looks_like_a_reference_is_not_replaced_again() -> None:
    assert resolve_config(stage({"a": "${params.x}"}), {"x": "${params.y}", "y": 1}) == {"a": "${params.y}"}


def test_a_missing_parameter_is_told() -> None:
    with pytest.raises(BadInputError, match=r"a\.b needs the param 'x'"):
        resolve_config(stage({"a": {"b": "${params.x}"}}), {})


DAY = {"type": "string", "format": "date", "default": "2026-01-31"}
MOMENT = {"type": "string", "format": "date-time", "default": "2026-01-31T02:00:00Z"}


@pytest.mark.parametrize(
    ("declared", "good", "bad"),
    [
        ({"type": "integer", "default": 1}, [0, -3], [True, 1.0, "1", None, [1]]),
        ({"type": "number", "default": 1}, [0, 0.5], [True, "1", float("nan"), float("inf")]),
        ({"type": "boolean", "default": True}, [True, False], [0, 1, "true"]),
        ({"type": "string", "default": "a"}, ["", "${params.x}"], [1, None]),
        ({"type": "integer", "default": 2, "minimum": 1, "maximum": 3}, [1, 3], [0, 4]),
        ({"type": "string", "default": "a", "enum": ["a", "b"]}, ["b"], ["c", ""]),
        (DAY, ["2024-02-29"], ["2026-02-29", "20260131", "2026-1-3", ""]),
        ({"type": "array", "default": []}, [[], [1, "a", None]], [None, {}, "[]"]),
        (
            {"type": "array", "items": {"type": "number"}, "default": []},
            [[], [1, 0.5]],
            [["a"], [True], [float("nan")]],
        ),
        ({"type": "object", "default": {}}, [{}, {"a": [1]}], [None, [], "{}"]),
        ({"type": "integer", "nullable": True, "default": None, "minimum": 1}, [None, 1], [0, "null"]),
        ({"type": "string", "enum": ["a"], "nullable": True, "default": "a"}, [None, "a"], ["b", 1]),
        (MOMENT, ["2026-01-31T02:00:00+08:00"], ["2026-01-31T02:00:00", "2026-01-31"]),
    ],
)
def test_a_value_fits_its_declaration_or_is_refused(declared: dict[str, Any], good: list[Any], bad: list[Any]) -> None:
    param = ParamSpec.model_validate(declared)
    assert [misfit(param, value) for value in good] == [None] * len(good)
    for value in bad:
        assert (misfit(param, value) or "").startswith(("must be ", "must hold "))


def test_defaults_fill_up_and_everything_wrong_is_told_at_once() -> None:
    declared = spec(epochs={"type": "integer", "default": 3, "minimum": 1}, rate={"type": "number", "default": 0.1})
    assert check_params(declared, {"rate": 1}) == {"epochs": 3, "rate": 1}
    with pytest.raises(BadInputError) as caught:
        check_params(declared, {"epoch": 1, "rate": "x", "epochs": 0})
    message = str(caught.value)
    assert "no param 'epoch' (did you mean 'epochs'?)" in message
    assert "'rate' must be a number" in message and "'epochs' must be at least 1" in message


def test_a_command_line_gives_each_parameter_its_own_type() -> None:
    declared = spec(
        i={"type": "integer", "default": 0}, n={"type": "number", "default": 0},
        b={"type": "boolean", "default": False}, s={"type": "string", "default": ""},
    )  # fmt: skip
    found = parse_params(declared, ["i=7", "n=7", "b=true", "s=a=b"])
    assert found == {"i": 7, "n": 7.0, "b": True, "s": "a=b"}
    assert [type(value) for value in found.values()] == [int, float, bool, str]
    assert parse_params(declared, ["s=7"])["s"] == "7"
    for wrong in (["i"], ["i=1", "i=2"], ["i=1.5"], ["b=yes"], ["x=1"], ["n=nan"]):
        with pytest.raises(BadInputError):
            parse_params(declared, wrong)


def test_a_param_without_a_default_must_be_given() -> None:
    declared = spec(
        days={"type": "array", "items": {"type": "string"}}, most={"type": "integer", "nullable": True, "default": 3},
        more={"type": "object", "default": {}},
    )  # fmt: skip
    found = parse_params(declared, ['days=["mon"]', "most=null", 'more={"a": 1}'])
    assert found == {"days": ["mon"], "most": None, "more": {"a": 1}}
    assert parse_params(declared, ["days=[]"]) == {"days": [], "most": 3, "more": {}}
    with pytest.raises(BadInputError, match="param 'days' has no default: give each run a value, --param days=VALUE"):
        parse_params(declared, [])
    for wrong in ("days=mon", "days=[1]", "days={}", "days=[", "most=none"):
        with pytest.raises(BadInputError, match="must"):
            parse_params(declared, ["days=[]", wrong] if not wrong.startswith("days") else [wrong])


@pytest.mark.parametrize("value", [None, True, 3, 0.5, "a b", "null", [1, "a"], {"a": None}])
def test_a_value_is_written_as_the_command_line_reads_it(value: Any) -> None:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    kind = kinds.get(type(value), "string")
    declared = spec(x={"type": kind, **({"nullable": True} if value is None else {})})
    assert parse_params(declared, [f"x={written(value)}"]) == {"x": value}


def test_a_window_ends_at_midnight_utc() -> None:
    late = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=8)))  # 17:30 UTC of the day before
    assert resolve_window(spec(), {}, late) == Window(
        start=datetime(2026, 2, 21, tzinfo=UTC), end=datetime(2026, 2, 28, tzinfo=UTC)
    )
    daily = load_plan(pipeline_path("movielens_daily")).spec
    window = resolve_window(daily, check_params(daily, {"as_of": "1998-01-01"}), late)
    assert window.end == datetime(1998, 1, 1, tzinfo=UTC)
    assert window.end - window.start == timedelta(days=240)
    anchor = load_plan(pipeline_path("movielens_anchor")).spec
    assert resolve_window(anchor, {}, late).end == datetime(1998, 4, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "end", "known_until"),
    [
        ("0 2 * * *", None, datetime(2026, 1, 5, 2, tzinfo=UTC)),
        ("@daily", None, datetime(2026, 1, 5, tzinfo=UTC)),
        ("30 4 * * mon", None, datetime(2026, 1, 5, 4, 30, tzinfo=UTC)),
        ({"cron": "0 2 * * *", "partitioned": True}, None, datetime(2026, 1, 5, 2, tzinfo=UTC)),
        ("0 2 * * *", "2026-01-05", None),
        ({"assets": ["a.b.c"]}, None, None),
        (None, None, None),
    ],
)
def test_the_window_of_a_day_is_known_until_the_first_run_of_the_day(
    schedule: Any, end: str | None, known_until: datetime | None
) -> None:
    plain = spec().model_dump(mode="json", by_alias=True)
    daily = PipelineSpec.model_validate(plain | {"schedule": schedule, "window": {"days": 7, "end": end}})
    midnight = datetime(2026, 1, 5, tzinfo=UTC)
    found = {resolve_window(daily, {}, midnight + timedelta(hours=hour)) for hour in (0, 1, 2, 15, 23)}
    assert found == {Window(start=midnight - timedelta(days=7), end=midnight, known_until=known_until)}


def test_an_impossible_window_is_told() -> None:
    daily = load_plan(pipeline_path("movielens_daily")).spec
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for end, words in (("0001-02-03", "before the year 1"), ("soon", "give a date"), (None, "give a date")):
        with pytest.raises(BadInputError, match=words):
            resolve_window(daily, {"as_of": end}, now)
