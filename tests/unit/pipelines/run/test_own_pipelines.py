"""Do pipelines of the user's own folder have names, stubs, checks and a place in Airflow as the shipped ones do?"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.platform.errors import BadInputError, MissingError
from pipelines.cli.main import app
from pipelines.language.check import load_plan
from pipelines.language.load import OWN, PIPELINES, hidden_files, own_folder, pipeline_names, pipeline_path
from pipelines.language.problems import PipelineError
from pipelines.run.airflow_home import bundles
from pipelines.run.stubs import DAGS, every_stale_stub, stub_of, write_every_stub

TEXT = """name: {name}
window: {{days: 7}}
stages:
  ingest:
    uses: ingest_table
    with: {{files: log.csv, user: uid, item: iid, timestamp: at, feedback: {{click: clicked}}}}
"""
DEFINITIONS = 'from feast import FeatureService\nshop = FeatureService(name="shop_ranker", features=[])\n'
FEATURES = """  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: shop_ranker, definitions: shop_features.py}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop_daily.yaml").write_text(TEXT.format(name="shop_daily"))
    monkeypatch.setenv(OWN, str(folder))
    return folder


def test_an_own_pipeline_is_found_by_name(own: Path) -> None:
    assert {"shop_daily", "movielens_daily"} <= {*pipeline_names()}
    assert pipeline_path("shop_daily") == own / "shop_daily.yaml"
    with pytest.raises(MissingError, match=r"no pipeline 'shop_dayly' \(did you mean 'shop_daily'\?\)"):
        pipeline_path("shop_dayly")
    (stage,) = load_plan(pipeline_path("shop_daily")).stages
    assert stage.config["files"] == str(own / "log.csv")


def test_a_shipped_pipeline_keeps_its_name(own: Path) -> None:
    (own / "movielens_daily.yaml").write_text(TEXT.format(name="movielens_daily"))
    assert pipeline_path("movielens_daily") == PIPELINES / "movielens_daily.yaml"
    with pytest.raises(PipelineError, match="'movielens_daily' is the name of a shipped pipeline"):
        load_plan(own / "movielens_daily.yaml")
    load_plan(PIPELINES / "movielens_daily.yaml")


def test_a_name_of_two_pipelines_is_refused_on_the_command_line_and_gets_no_stub(own: Path) -> None:
    mine, theirs = own / "movielens_daily.yaml", PIPELINES / "movielens_daily.yaml"
    mine.write_text(TEXT.format(name="movielens_daily"))
    (own / "dags").mkdir()
    (own / "dags" / "movielens_daily.py").write_text(stub_of("movielens_daily", "# {name}, {mark}"))
    for command in (["plan", "movielens_daily"], ["run", "movielens_daily"], ["validate", "movielens_daily"]):
        run = CliRunner().invoke(app, command)
        said = str(run.exception) if isinstance(run.exception, BadInputError) else run.output
        assert run.exit_code != 0
        assert f"there are two pipelines 'movielens_daily', {mine} and the shipped {theirs}: rename yours" in said
    assert CliRunner().invoke(app, ["validate", str(theirs)]).exit_code == 0

    run = CliRunner().invoke(app, ["stubs", "--write"])
    assert run.exit_code == 2
    assert f"{mine} gets no stub: a shipped pipeline is named 'movielens_daily'" in run.output
    assert [file.name for file in (own / "dags").iterdir()] == ["shop_daily.py"], "the scheduler sees no second DAG"
    mine.unlink()
    assert CliRunner().invoke(app, ["stubs", "--check"]).exit_code == 0


@pytest.mark.parametrize("value", ["shop", "/no/such/folder"])
def test_the_folder_must_be_there(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(OWN, value)
    with pytest.raises(BadInputError, match=f"{OWN} is '{value}': set it to the absolute path of a folder"):
        own_folder()


def test_without_a_folder_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWN, raising=False)
    assert own_folder() is None and bundles() == {}


def test_stubs_are_written_into_the_own_folder_and_kept_in_step(own: Path) -> None:
    before = {file.name: file.read_bytes() for file in DAGS.glob("*.py")}
    assert every_stale_stub() == [f"{own}/dags/shop_daily.py is missing"]
    assert write_every_stub() == [f"wrote {own}/dags/shop_daily.py"]
    assert every_stale_stub() == [] and write_every_stub() == []
    (own / "shop_daily.yaml").rename(own / "shop_nightly.yaml")
    assert len(every_stale_stub()) == 2
    write_every_stub()
    assert [file.name for file in (own / "dags").iterdir()] == ["shop_nightly.py"]
    assert {file.name: file.read_bytes() for file in DAGS.glob("*.py")} == before


def test_a_bundle_that_the_user_names_stays(own: Path) -> None:
    (name,) = bundles()
    assert bundles({OWN: str(own), name: "[]"}) == {}


@pytest.mark.engine
def test_airflow_reads_both_folders_and_an_own_stub_is_a_dag(own: Path, tmp_path: Path) -> None:
    write_every_stub()
    code = (
        "import json\n"
        "from airflow.dag_processing.bundles.manager import DagBundlesManager\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "places = {b.name: str(b.path) for b in DagBundlesManager().get_all_dag_bundles()}\n"
        "bag = DagBag(places['own-pipelines'])\n"
        "print('FOUND' + json.dumps([places, {n: d.fileloc for n, d in bag.dags.items()}, bag.import_errors]))\n"
    )
    env = os.environ | bundles() | {"AIRFLOW_HOME": str(tmp_path / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS)}
    env |= {"PYTHONPATH": str(DAGS.parent), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "FOUND" in done.stdout, done.stdout + done.stderr
    places, dags, errors = json.loads(done.stdout.rpartition("FOUND")[2])
    assert places == {"dags-folder": str(DAGS), "own-pipelines": str(own / "dags")}
    assert dags == {"shop_daily": str(own / "dags" / "shop_daily.py")} and errors == {}


def written(own: Path, definitions: str, features: str = FEATURES) -> Path:
    (own / "shop_features.py").write_text(definitions)
    (own / "shop_daily.yaml").write_text(TEXT.format(name="shop_daily") + features)
    return own / "shop_daily.yaml"


def test_validation_reads_definitions_and_never_runs_them(own: Path) -> None:
    trap = own / "ran"
    plan = load_plan(written(own, f"open({str(trap)!r}, 'w')\n{DEFINITIONS}"))
    assert plan.stage("features").config["definitions"] == str(own / "shop_features.py")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("definitions", "sentence"),
    [
        ("def (:\n", r"shop_features.py:1: invalid syntax: correct the file"),
        ("x = 1\n\0", r"shop_features.py:1: .*: correct the file"),
        (
            DEFINITIONS.replace("shop_ranker", "shop_rank"),
            r"shop_features.py has no feature service 'shop_ranker' \(did you",
        ),
        ("x = 1\n", r"shop_features.py has no feature service 'shop_ranker'$"),
    ],
)
def test_definitions_that_cannot_work_are_told_before_anything_runs(own: Path, definitions: str, sentence: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load_plan(written(own, definitions))
    (problem,) = caught.value.problems
    assert re.search(sentence, problem.message), problem.message


def test_a_service_whose_name_is_computed_is_left_to_the_run(own: Path) -> None:
    load_plan(
        written(own, 'from feast import FeatureService\nshop = FeatureService(name="shop" + "_x", features=[])\n')
    )


def test_a_link_out_of_the_folder_is_outside(own: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(DEFINITIONS)
    path = written(own, DEFINITIONS)
    (own / "shop_features.py").unlink()
    (own / "shop_features.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(PipelineError, match="lies outside the pipeline's folder"):
        load_plan(path)


def test_validation_names_own_files_that_no_name_leads_to(own: Path) -> None:
    (own / "movielens_daily.yaml").write_text(TEXT.format(name="movielens_daily"))
    (own / "shop_weekly.yml").write_text(TEXT.format(name="shop_weekly"))
    assert [path.name for path in hidden_files()] == ["movielens_daily.yaml", "shop_weekly.yml"]
    with pytest.raises(MissingError, match=r"shop_weekly.yml is no .yaml file, rename it to shop_weekly.yaml"):
        pipeline_path("shop_weekly")
    for path, said in zip(hidden_files(), ("is the name of a shipped pipeline", "rename it to"), strict=True):
        with pytest.raises(PipelineError, match=said):
            load_plan(path)
    run = CliRunner().invoke(app, ["validate"])
    assert run.exit_code == 2 and "shipped pipeline" in run.output
