"""Does every shipped DAG parse, fast, light and by itself?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.language.load import pipeline_names, pipelines_in
from pipelines.run.stubs import DAGS, stale_stubs

ROOT = DAGS.parent
HEAVY = {"torch", "ray", "feast", "mlflow", "great_expectations", "onnxruntime", "onnx", "pandas", "pyarrow"}
HEAVY |= {"numpy", "polars", "duckdb", "sklearn", "matplotlib"}
PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
def describe(dag):
    schedule = dag.timetable
    return {
        "tasks": {
            t.task_id: {
                "upstream": sorted(t.upstream_task_ids), "retries": t.retries, "owner": t.owner, "doc": t.doc_md,
                "retry_delay": t.retry_delay.total_seconds(),
                "timeout": t.execution_timeout and t.execution_timeout.total_seconds(),
                "outlets": [[a.name, a.uri] for a in t.outlets],
            }
            for t in dag.tasks
        },
        "params": {n: [dag.params.get_param(n).value, dag.params.get_param(n).schema] for n in dag.params},
        "tags": sorted(dag.tags), "doc": dag.doc_md, "catchup": dag.catchup, "active": dag.max_active_runs,
        "schedule": type(schedule).__name__,
        "cron": getattr(getattr(schedule, "timetable", schedule), "expression", None),
        "assets": [[a.name, a.uri] for a in getattr(getattr(schedule, "asset_condition", None), "objects", [])],
        "file": dag.fileloc,
    }
print("RESULT" + json.dumps({
    "errors": bag.import_errors, "dags": {name: describe(dag) for name, dag in bag.dags.items()},
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def parse(folder: Path, home: Path, path: str = "") -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env = kept | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "PYTHONPATH": path}
    command = [sys.executable, "-c", PARSE, str(folder)]
    done = subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert "RESULT" in done.stdout, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.rpartition("RESULT")[2])
    return result


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return parse(DAGS, tmp_path_factory.mktemp("home"), str(ROOT))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The bare tree in another place, as a DAG bundle has it."""
    for room in ("dags", "pipelines", "components", "registry", "features"):
        shutil.copytree(ROOT / room, tmp_path / "tree" / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tree"


def test_every_pipeline_is_a_dag_without_import_errors(shipped: dict[str, Any]) -> None:
    assert shipped["errors"] == {}
    assert tuple(sorted(shipped["dags"])) == pipeline_names()


def test_stubs_are_what_is_generated_and_safe_mode_sees_them() -> None:
    assert stale_stubs(pipeline_names()) == []
    for name in pipeline_names():
        words = (DAGS / f"{name}.py").read_text().lower()
        assert "airflow" in words and "dag" in words


def test_parsing_imports_no_engine(shipped: dict[str, Any]) -> None:
    assert sorted(HEAVY & {*shipped["modules"]}) == []


def test_a_plan_imports_the_components_that_its_pipeline_names() -> None:
    code = (
        "import sys\nfrom pipelines.language.check import load_plan\n"
        "from pipelines.language.load import pipeline_path\n"
        "load_plan(pipeline_path('movielens_daily'))\n"
        "print(*(name for name in sys.modules if name.startswith('components.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "components.train.train_ranker.config" in done.stdout
    assert not {"components.judge.simulate_policy.config", "components.ingest.ingest_household.config"} & {
        *done.stdout.split()
    }


def test_a_dag_says_what_its_file_says(shipped: dict[str, Any]) -> None:
    dag = shipped["dags"]["movielens_daily"]
    assert dag["cron"] == "0 2 * * *" and dag["catchup"] is False and dag["active"] == 1
    assert {"movielens", "ranking"} <= {*dag["tags"]}
    assert "Nightly multi-task ranker" in dag["doc"] and "`train_ranker`" in dag["doc"]
    train = dag["tasks"]["train"]
    assert train["upstream"] == ["dataset"] and train["owner"] == "ranking"
    assert (train["retries"], train["retry_delay"], train["timeout"]) == (2, 300, 3600)
    assert "uses: train_ranker" in train["doc"] and "uses: export_onnx" not in train["doc"]
    assert train["outlets"] == [["movielens_daily.train.ranker", "rankmill://movielens_daily/train/ranker"]]


def test_params_are_a_form(shipped: dict[str, Any]) -> None:
    params = shipped["dags"]["movielens_daily"]["params"]
    default, schema = params["epochs"]
    assert isinstance(default, int) and schema["type"] == "integer"
    assert (schema["minimum"], schema["maximum"]) == (1, 100)
    default, schema = params["as_of"]
    assert default == "1998-04-24" and schema["type"] == "string" and schema["format"] == "date"


def test_the_memory_waits_for_a_promotion_or_the_clock(shipped: dict[str, Any]) -> None:
    memory, daily = shipped["dags"]["movielens_memory"], shipped["dags"]["movielens_daily"]
    assert memory["schedule"] == "AssetOrTimeSchedule" and memory["cron"] == "*/30 * * * *"
    assert memory["assets"] == daily["tasks"]["promote"]["outlets"]
    assert shipped["dags"]["movielens_anchor"]["cron"] is None


def test_a_bundle_uses_its_own_tree_and_a_broken_file_breaks_its_dag_and_those_that_take_from_it(
    copy: Path, tmp_path: Path
) -> None:
    broken = copy / "pipelines" / "movielens_daily.yaml"
    broken.write_text(broken.read_text().replace("uses: train_ranker", "uses: train_rankr"))

    result = parse(copy / "dags", tmp_path)

    names = (
        "movielens_1m",
        "movielens_daily",
        "movielens_explored",
        "movielens_many",
        "movielens_searched",
        "movielens_tuned",
        "movielens_weekly",
    )  # movielens_continued has a `train` of its own
    assert set(result["dags"]) == {*pipelines_in(copy / "pipelines")} - {*names}
    errors = {Path(file).stem: message for file, message in result["errors"].items()}
    assert tuple(sorted(errors)) == names
    line = 1 + broken.read_text()[: broken.read_text().index("train_rankr")].count("\n")
    for message in errors.values():
        assert f"pipelines/movielens_daily.yaml:{line}:" in message
        assert "did you mean 'train_ranker'?" in message


def test_a_stub_refuses_packages_of_another_tree(copy: Path, tmp_path: Path) -> None:
    stub = copy / "dags" / "movielens_daily.py"
    code = f"import sys, pipelines, runpy; runpy.run_path({str(stub)!r})"
    env = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "ImportError: package 'pipelines'" in last and str(ROOT) in last and str(copy) in last
