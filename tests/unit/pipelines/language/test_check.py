"""Does checking find what is wrong, all of it and in its place, and order what is right?"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pkgutil
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from components.platform.catalog import catalog
from components.platform.errors import MissingError
from components.platform.settings import ROOT
from pipelines.compare import rules as comparison_rules
from pipelines.compare.rules import RULES as COMPARISON_RULES
from pipelines.language import rules
from pipelines.language.check import examine, load_plan
from pipelines.language.document import Document
from pipelines.language.load import PIPELINES, parse, pipeline_names, pipeline_path, read
from pipelines.language.plan import Plan
from pipelines.language.problems import PipelineError, Problem
from pipelines.language.rules import RULES
from pipelines.language.rules.profile import PROFILE_RULES
from pipelines.language.rules.ranker import trainings

NAMES = pipeline_names()
TEXTS = {name: pipeline_path(name).read_text(encoding="utf-8") for name in NAMES}


def check(text: str, name: str = "movielens_daily") -> tuple[Plan | None, tuple[Problem, ...]]:
    return examine(parse(text.encode("utf-8", "surrogatepass"), PIPELINES / f"{name}.yaml"))


@cache
def tree(name: str) -> Any:
    """Return what a shipped pipeline says; read-only."""
    return read(pipeline_path(name)).value


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_pipeline_has_a_plan(name: str) -> None:
    plan = load_plan(pipeline_path(name))
    assert plan.name == name
    for stage in plan.stages:
        assert stage.places
        for at in stage.places:
            line = at.path.read_text(encoding="utf-8").splitlines()[at.line - 1]
            assert line.strip().startswith(f"{stage.written}:")
        wired = {wire.input for wire in stage.wires}
        assert {*stage.component.needed_inputs} <= wired <= {*stage.component.input_types}


def test_a_pipeline_is_found_by_name_and_a_miss_says_the_nearest() -> None:
    assert {"movielens_anchor", "movielens_daily", "movielens_memory"} <= {*NAMES}
    with pytest.raises(MissingError, match="did you mean 'movielens_daily'"):
        pipeline_path("movielens_dayly")
    with pytest.raises(MissingError):
        pipeline_path("../pipelines/movielens_daily")


def language_keys(document: Document) -> list[tuple[str | int, ...]]:
    """Keys that the language or a component gives meaning to; names that authors choose are none of these."""
    chosen = {("stages",): 2, ("params",): 2, ("stages", "promote", "with", "gate", "floors"): 6}
    chosen |= {("stages", "dataset", "with", "encode"): 5, ("stages", "labels", "with", "labels"): 5}
    for stage in ("train", "tune"):
        chosen |= {("stages", stage, "matrix"): 4, ("stages", stage, "matrix", "ranker"): 5}
    for stage in ("ingest", "ingest_bts"):
        table = ("stages", stage, "with")
        chosen |= {(*table, "feedback"): 5, (*table, "columns"): 5}
        chosen |= {(*table, role, "columns"): 6 for role in ("users", "items")}
        for owner in (table, (*table, "items")):
            place = (*owner, "values")
            chosen |= {place: len(place) + 1, (*place, "campaign"): len(place) + 2}
    return sorted(
        (where for where in document.keys if chosen.get(where[:-1]) != len(where)),
        key=lambda where: tuple(map(str, where)),
    )


@cache
def keys_of(name: str) -> tuple[Document, list[tuple[str | int, ...]]]:
    document = parse(TEXTS[name].encode(), pipeline_path(name))
    return document, language_keys(document)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_misspelt_key_is_told_at_its_place(name: str, data: st.DataObject) -> None:
    text = TEXTS[name]
    document, keys = keys_of(name)
    where = data.draw(st.sampled_from(keys))
    span = document.keys[where]
    lines = text.split("\n")
    line = lines[span.line - 1]
    key = line[span.column - 1 : span.column - 1 + span.width]
    at = data.draw(st.integers(0, len(key)))
    letter = data.draw(st.sampled_from("qxz_7"))
    wrong = data.draw(st.sampled_from([key[:at] + letter + key[at:], key[:at] + letter + key[at + 1 :]]))
    assume(wrong != key)
    lines[span.line - 1] = line[: span.column - 1] + wrong + line[span.column - 1 + len(key) :]
    plan, problems = check("\n".join(lines), name)
    assert plan is None
    assert (span.line, span.column) in {(problem.line, problem.column) for problem in problems}


WORDS = st.sampled_from(["${params.epochs}", "${params.x}", "ingest.events", "train", "@daily", "1 2 3 4 5"])
KEYS = st.sampled_from(["uses", "in", "with", "after", "type", "default", "cron", "days", "str", "0"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-10, 10)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [where]
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(inner, (*where, key))
    return found


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_file_it_is_judged_not_tripped_over(data: st.DataObject) -> None:
    """Any subtrees of a good file are replaced by any values: the outcome is a plan or problems, nothing else."""
    value = copy.deepcopy(tree(data.draw(st.sampled_from(NAMES))))
    for _ in range(data.draw(st.integers(1, 4))):
        *parents, last = data.draw(st.sampled_from(places(value)[1:] or [("name",)]))
        inner = value
        for key in parents:
            inner = inner[key]
        inner[last] = data.draw(JSON)
    plan, problems = check(json.dumps(value, ensure_ascii=False))
    assert (plan is None) == bool(problems)


@given(st.text(max_size=200) | st.sampled_from(sorted(TEXTS.values())).flatmap(
    lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, 30), st.text(max_size=8)).map(
        lambda cut: text[: cut[0]] + cut[2] + text[cut[0] + cut[1] :])))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_text_gives_a_plan_or_problems(text: str) -> None:
    plan, problems = check(text)
    assert (plan is None) == bool(problems)


@st.composite
def orders(draw: st.DrawFn) -> tuple[list[str], dict[str, list[str]]]:
    """Stages in any order of the file, each waiting for stages that come earlier in a hidden order."""
    hidden = [f"s{index}" for index in range(draw(st.integers(1, 8)))]
    waits = {
        name: draw(st.lists(st.sampled_from(hidden[:at]), unique=True)) if at else [] for at, name in enumerate(hidden)
    }
    return draw(st.permutations(hidden)), waits


def pipeline_of(order: list[str], waits: dict[str, list[str]]) -> str:
    stages = {name: {"uses": "ingest_household", "after": waits[name]} for name in order}
    return json.dumps({"name": "movielens_daily", "window": {"days": 1}, "stages": stages})


@given(orders())
@settings(deadline=None)
def test_each_stage_comes_after_all_it_waits_for_and_early_in_the_file_comes_first(
    case: tuple[list[str], dict[str, list[str]]],
) -> None:
    order, waits = case
    plan, problems = check(pipeline_of(order, waits))
    assert plan is not None, problems
    planned = [stage.name for stage in plan.stages]
    assert sorted(planned) == sorted(order)
    for at, name in enumerate(planned):
        earlier = planned[:at]
        assert set(waits[name]) <= set(earlier)
        # Nothing that stands earlier in the file was free to run here.
        free = [other for other in planned[at:] if set(waits[other]) <= set(earlier)]
        assert min(free, key=order.index) == name


@given(orders(), st.data())
@settings(deadline=None)
def test_a_circle_is_always_found(case: tuple[list[str], dict[str, list[str]]], data: st.DataObject) -> None:
    order, waits = case
    length = data.draw(st.integers(1, len(order)))
    ring = data.draw(st.permutations(order))[:length]
    waits = {name: list(earlier) for name, earlier in waits.items()}
    for name, earlier in zip(ring, [*ring[1:], ring[0]], strict=True):
        waits[name] = [*waits[name], earlier]
    _, problems = check(pipeline_of(order, waits))
    assert problems and all("wait for each other" in problem.message for problem in problems)


def test_a_narrower_artifact_fits_and_a_wider_one_does_not() -> None:
    text = TEXTS["movielens_daily"]
    assert check(text.replace("in: {table: contract.table}", "in: {table: ingest.events}"))[0] is not None
    _, problems = check(text.replace("table: contract.table", "table: contract.docs"))
    assert ["takes events_table, but contract.docs is data_docs" in p.message for p in problems] == [True]


def test_a_broken_file_beside_it_breaks_no_other_pipeline(tmp_path: Path) -> None:
    shutil.copytree(PIPELINES / "shared", tmp_path / "shared")
    (tmp_path / "movielens_daily.yaml").write_text("stages: [")
    (tmp_path / "movielens_memory.yaml").write_text(TEXTS["movielens_memory"])
    assert load_plan(tmp_path / "movielens_memory.yaml").name == "movielens_memory"
    (tmp_path / "movielens_daily.yaml").unlink()
    with pytest.raises(PipelineError, match="no pipeline 'movielens_daily'"):
        load_plan(tmp_path / "movielens_memory.yaml")


def test_every_rule_is_asked_once_takes_one_draft_and_says_what_it_asks_for() -> None:
    asked = [*RULES, *PROFILE_RULES, *COMPARISON_RULES]
    assert len(set(asked)) == len(asked)
    assert all(rule.__doc__ and rule.__doc__.endswith(".") for rule in asked)
    assert all([*inspect.signature(rule).parameters] == ["draft"] for rule in asked)
    rooms = [importlib.import_module(f"{rules.__name__}.{room.name}") for room in pkgutil.iter_modules(rules.__path__)]
    written = {
        function
        for room in (*rooms, comparison_rules)
        for name, function in inspect.getmembers(room, inspect.isfunction)
        if not name.startswith("_") and [*inspect.signature(function).parameters] == ["draft"]
    }
    assert written - {trainings} == {*asked}


def test_loading_is_light() -> None:
    """Every DAG file is parsed again and again: no engine is imported."""
    code = (
        "import sys\n"
        "from pipelines.language.check import load_plan\n"
        "from pipelines.language.load import pipeline_path\n"
        "load_plan(pipeline_path('movielens_daily'))\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {
        "torch",
        "ray",
        "feast",
        "mlflow",
        "great_expectations",
        "onnxruntime",
        "pandas",
        "pyarrow",
        "numpy",
        "polars",
    }
    assert set(modules.split()) & (heavy | {"airflow", "rich", "typer", "fsspec", "sklearn", "matplotlib"}) == set()


def test_a_config_is_checked_as_strictly_as_its_component_declares_it() -> None:
    assert set(catalog()["train_ranker"].config.model_fields) >= {"epochs", "workers"}
    for wrong in ("true", '"2"', "2.5", "[2]", "null"):
        _, problems = check(TEXTS["movielens_daily"].replace("workers: 2", f"workers: {wrong}"))
        assert [problem.message.startswith("workers must be a whole number") for problem in problems] == [True], wrong
