"""Does Airflow take every pipeline that `validate` takes, and do its pages show what the YAML says?"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.language.check import load_plan
from pipelines.language.load import PIPELINES, pipelines_in
from pipelines.language.plan import Plan
from tests.commands import Command
from tests.integration.airflow.conftest import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(420)]

GOLDEN = ROOT / "tests" / "golden"
FILES = [*pipelines_in(PIPELINES).values(), *sorted((GOLDEN / "accepted").glob("*.yaml"))]
REFUSED = GOLDEN / "errors" / "group_not_convex.yaml"


def say(program: str, folder: Path, engines: Path, *files: Path) -> Any:
    """Return what a program of this folder says about pipeline files, in a process and with an Airflow of its own."""
    (empty,) = (engines / "airflow").glob("template-*.db")
    shutil.copyfile(empty, folder / "airflow.db")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RANKMILL"))}
    done = Command(
        *map(str, (folder, *files)),
        env=kept | {"PYTHONPATH": str(ROOT)},
        main=f"tests.integration.airflow.{program}:main",
    ).wait(400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> dict[str, Any]:
    """What Airflow says about all files, asked once."""
    answers: dict[str, Any] = say("pages", tmp_path_factory.mktemp("pages"), engines, *FILES, REFUSED)
    return answers


def page(airflow: dict[str, Any], dag: str, part: str) -> Any:
    """Return the JSON of the one page whose address holds `part`."""
    (found,) = (answer["body"] for address, answer in airflow[dag].items() if part in address)
    return found


def test_only_what_validate_refuses_is_an_import_error(airflow: dict[str, Any]) -> None:
    assert set(airflow["errors"]) == {REFUSED.stem}
    assert "put them into the group" in airflow["errors"][REFUSED.stem]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:30])
def test_every_page_of_a_pipeline_opens(airflow: dict[str, Any], path: Path) -> None:
    assert {
        address: answer["status"] for address, answer in airflow[path.stem].items() if answer["status"] != 200
    } == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:30])
def test_tasks_and_groups_are_those_of_the_file(airflow: dict[str, Any], path: Path) -> None:
    plan = load_plan(path)
    told = {task["task_id"]: task for task in page(airflow, path.stem, "/tasks")["tasks"]}
    assert {*told} == {stage.name for stage in plan.stages}
    for stage in plan.stages:
        later = {other.name for other in plan.stages if stage.name in other.upstream}
        assert {*told[stage.name]["downstream_task_ids"]} == later
        assert told[stage.name]["retries"] == stage.retries
        assert seconds(told[stage.name]["execution_timeout"]) == (
            stage.timeout.total_seconds() if stage.timeout else None
        )
        assert seconds(told[stage.name]["retry_delay"]) == stage.retry_delay.total_seconds()
    assert drawn(page(airflow, path.stem, "/ui/grid/structure")) == wanted(plan)
    assert drawn(page(airflow, path.stem, "external_dependencies")["nodes"]) == wanted(plan)


def seconds(told: dict[str, Any] | None) -> float | None:
    return told["days"] * 86_400 + told["seconds"] if told else None


def wanted(plan: Plan) -> set[tuple[str, str]]:
    """Each stage with the group it is drawn in, empty for none."""
    return {(stage.name, stage.group or "") for stage in plan.stages}


def drawn(nodes: list[dict[str, Any]], group: str = "") -> set[tuple[str, str]]:
    """The tasks of a page's tree of nodes, each with its group; what is no task is left out."""

    def walk() -> Iterator[tuple[str, str]]:
        for node in nodes:
            if node.get("children"):
                yield from drawn(node["children"], node["id"])
            elif node.get("type", "task") in ("task", None) and not node["id"].endswith("_join_id"):
                yield node["id"], group

    return {*walk()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:30])
def test_the_dag_says_what_the_file_says(airflow: dict[str, Any], path: Path) -> None:
    spec = load_plan(path).spec
    dag = page(airflow, path.stem, "/details")
    assert {tag["name"] for tag in dag["tags"]} == {*spec.tags, "rankmill"}
    assert (dag["description"] or "", dag["owners"]) == (spec.description, [spec.owner])
    assert {name: param["value"] for name, param in dag["params"].items()} == {
        name: param.default for name, param in spec.params.items()
    }


def test_what_comes_while_a_run_is_active_starts_one_that_sees_it_all(tmp_path: Path, engines: Path) -> None:
    """Airflow lists only the oldest event with the second run, which begins after the last: see the documentation."""
    home = tmp_path / "airflow"
    home.mkdir()
    file = tmp_path / "waits.yaml"
    shortest = (GOLDEN / "accepted" / "shortest.yaml").read_text()
    file.write_text(f"schedule: {{assets: [shortest.i.events]}}\n{shortest.replace('name: shortest', 'name: waits')}")
    (tmp_path / "shortest.yaml").write_text(shortest)
    assert say("waiting", home, engines, file) == [[[1], 1], [[2], 4]]
