"""Is a package that pip installed listed, validated, planned and run, and planned anew when its code changes?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipelines.scaffold.write import write_example
from tests import commands
from tests.homes import ready

YAML = """
name: counting
description: Count the rows of a small table, with a ranker beside it that is only checked.
schedule: null
window: {end: "2024-02-01", days: 31}
stages:
  ingest:
    uses: ingest_table
    with: {files: seen.csv, user: who, item: what, timestamp: at, feedback: {click: click}}
  tally:
    uses: tally_rows
    in: {table: ingest.events}
    with: {at_least: 2}
"""
RANKER = """
  dataset:
    uses: build_training_set
    in: {events: ingest.events, features: features.feature_tables}
    with: {feature_service: movielens_ranker, feedback: [click]}
  train:
    uses: train_ranker
    in: {dataset: dataset.training_set}
    with: {ranker: {name: tower_net, slope: 1.5, gamma: [1]}}
"""
SEVERAL = """
import json, sys
from typer.testing import CliRunner
from pipelines.cli.main import app
results = [CliRunner().invoke(app, arguments) for arguments in json.loads(sys.argv[1])]
print(json.dumps([[result.exit_code, result.stdout] for result in results]))
"""
"""Commands that change nothing, in one process: each of its own would load the same modules again."""
Rankmill = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two packages that `rankmill new` wrote and pip installed."""
    folder = tmp_path_factory.mktemp("site")
    sources = [tmp_path_factory.mktemp("source") / name for name in ("tally_rows", "tower_net")]
    write_example("component", "tally_rows", sources[0].parent)
    write_example("ranker", "tower_net", sources[1].parent)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", folder, *sources], check=True, capture_output=True)
    return folder


@pytest.fixture
def folder(tmp_path: Path, site: Path) -> Path:
    """A folder with a pipeline that uses them, and a copy of the packages."""
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "counting.yaml").write_text(YAML)
    (tmp_path / "seen.csv").write_text("who,what,at,click\nu,i,2024-01-05,1\nv,i,2024-01-06,0\nv,j,2024-01-07,0\n")
    return tmp_path


@pytest.fixture
def environ(folder: Path) -> dict[str, str]:
    """Variables of a process that has the packages on its path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW", "RANKMILL"))}
    return kept | {
        "PYTHONPATH": str(folder / "site"),
        "RANKMILL_HOME": str(folder / "home"),
        "COLUMNS": "400",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


@pytest.fixture
def rankmill(folder: Path, environ: dict[str, str]) -> Rankmill:
    """Run the command line where the packages are on the path."""
    return partial(commands.rankmill, env=environ, cwd=folder)


def test_it_is_listed_described_and_valid(folder: Path, environ: dict[str, str]) -> None:
    commands = [
        ["components"], ["components", "tally_rows"], ["schema"], ["components", "train_ranker"],
        ["validate", "counting.yaml"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, json.dumps(commands)],
        cwd=folder, env=environ, capture_output=True, text=True, check=True,
    )  # fmt: skip
    codes, (listed, described, schema, trains, _) = zip(*json.loads(done.stdout.splitlines()[-1]), strict=True)
    assert codes == (0,) * len(commands), done.stdout + done.stderr
    assert "tally_rows" in listed and "(package tally-rows 0.1.0)" in listed
    assert listed.count("(package") == 1, "ours carry no package"
    assert "uses: tally_rows" in described
    definitions = json.loads(schema)["$defs"]
    assert "at_least" in definitions["tally_rows"]["properties"]
    ranker = json.dumps(definitions["train_ranker"]["properties"]["ranker"])
    assert "tower_net" in ranker and "What a unit passes on of a number below zero" in ranker
    assert "ranker.slope" in trains


def test_a_wrong_block_of_it_is_found_where_it_stands(rankmill: Rankmill, folder: Path) -> None:
    file = folder / "counting.yaml"
    file.write_text(YAML.replace("at_least", "at_lest") + RANKER)
    said = rankmill("validate", "counting.yaml")
    assert said.returncode == 2
    assert "counting.yaml:13:12" in said.stderr and "did you mean 'at_least'" in said.stderr
    assert "slope must be less than 1" in said.stderr and "not 1.5" in said.stderr
    assert "ranker 'tower_net' has no 'gamma': leave it out" in said.stderr


@pytest.mark.engine
def test_it_runs_is_cached_and_runs_again_when_its_package_changes(
    rankmill: Rankmill, folder: Path, engines: Path
) -> None:
    ready(folder / "home", engines)
    done = rankmill("run", "counting.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = (folder / "home" / "artifacts" / "tally_rows").glob("*/count/count.json")
    assert count.read_text() == "3"

    def plan() -> str:
        return next(line for line in rankmill("plan", "counting.yaml").stdout.splitlines() if "tally_rows" in line)

    assert "nothing changed since" in plan()
    site = folder / "site"
    (site / "tally_rows" / "__init__.py").write_text('"""Changed."""\n')
    assert "code tally_rows/__init__.py changed" in plan()
    (info,) = site.glob("tally_rows-*.dist-info")
    metadata = info / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 0.1.0", "Version: 0.2.0"))
    assert "tally_rows@1 of tally-rows 0.1.0 → tally_rows@1 of tally-rows 0.2.0" in plan()


def test_a_package_that_broke_stops_only_what_uses_it(rankmill: Rankmill, folder: Path) -> None:
    (folder / "site" / "tally_rows" / "config.py").write_text("import no_such_module\n")
    said = rankmill("validate", "counting.yaml")
    assert said.returncode == 2 and "counting.yaml:11:11" in said.stderr
    assert "of package tally-rows 0.1.0 (tally_rows.config:COMPONENT) fails to load" in said.stderr
    assert "No module named 'no_such_module'" in said.stderr
    assert rankmill("validate", "movielens_daily").returncode == 0
    listed = rankmill("components")
    assert "train_ranker" in listed.stdout and "package tally-rows 0.1.0" in listed.stderr
