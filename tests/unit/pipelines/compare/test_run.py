"""Does a comparison choose on validation, run every seed, go on from the store, and survive an entry that fails?"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.data.training_set import read_schema
from components.platform import catalog
from components.platform.errors import BadInputError, MissingError
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.train_ranker.config import EpochReport
from pipelines.cli import main as cli
from pipelines.compare.execution import Bench, Trained
from pipelines.compare.load import Comparison, comparison_file, comparison_names, load_comparison
from pipelines.compare.record import Record, read_record
from pipelines.compare.results import DOCS
from pipelines.compare.run import Outcome, chosen_entries, chosen_seeds, run_comparison
from pipelines.compare.spec import Candidate
from pipelines.language.load import OWN
from tests.homes import ready
from tests.known_graphs import KnownGraphs
from tests.training_here import training_here

PIPELINE = """
name: toy
window: {days: 30, end: 2024-01-31}
params: {seed: {type: integer, default: 0}}
stages:
  rows: {uses: make_world, with: {seed: "${params.seed}"}}
  unread: {uses: count_numbers, with: {fail: nobody needs this stage}}
"""
FILE = """
name: toy_rankers
title: Toy
labels: drawn from a logistic truth
pipeline: toy
dataset: rows
seed_param: seed
with: {epochs: 2, batch_size: 512}
seeds: [0, 1]
entries:
  lr: {ranker: {name: lr}, grid: [{with: {learning_rate: 5.0}}, {with: {learning_rate: 0.05}}]}
  trees: {baseline: lightgbm}
"""


@pytest.fixture(scope="module", autouse=True)
def _components() -> Iterator[None]:
    """Components offered by an installed package, as a third party would offer them."""
    offered = [
        EntryPoint("make_world", "tests.unit.pipelines.compare.worlds_component:MAKE", catalog.ENTRY_POINTS),
        EntryPoint("count_numbers", "tests.example_component:COUNT", catalog.ENTRY_POINTS),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "entry_points", lambda group: offered)
        patch.setitem(sys.modules, "lightgbm", None)  # whether or not it is installed here
        catalog.catalog.cache_clear()
        yield
    catalog.catalog.cache_clear()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    (folder / "toy.yaml").write_text(PIPELINE)
    path = folder / "comparisons" / "toy_rankers.yaml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def comparison(file: Path) -> Comparison:
    return load_comparison(file)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("world") / "home", engines)


@pytest.fixture(scope="module")
def first(comparison: Comparison, settings: Settings, graphs: KnownGraphs) -> tuple[Outcome, list[str]]:
    told: list[str] = []
    with training_here(), graphs.used():
        return run_comparison(comparison, (0, 1), ("lr", "trees"), settings, told.append), told


def record_of(outcome: Outcome) -> Record:
    assert outcome.record is not None
    return outcome.record


@pytest.mark.engine
def test_the_grid_is_decided_on_validation_and_the_chosen_one_runs_every_seed(
    first: tuple[Outcome, list[str]], settings: Settings
) -> None:
    row = record_of(first[0]).rows["lr"]
    assert [tried.change for tried in row.tried] == [{"learning_rate": 5.0}, {"learning_rate": 0.05}]
    assert row.tried[1].score > row.tried[0].score + 0.02, "the other learning rate is far too large"
    assert row.config == {"epochs": 2, "batch_size": 512, "learning_rate": 0.05, "ranker": {"name": "lr"}}
    assert [run.seed for run in row.runs] == [0, 1]
    assert row.tried[1].score == pytest.approx(sum(row.runs[0].validation[name] for name in ("like", "love")) / 2)
    for run in row.runs:
        record = open_store(settings).find("train_ranker", run.key)
        assert record is not None
        folder = open_store(settings).fetch(record.outputs["ranker"].load())
        history = [EpochReport.model_validate(h) for h in json.loads((folder / "history.json").read_text())]
        best = next(report for report in reversed(history) if report.best)
        assert run.validation["like"] == best.metrics["validation/like/auc"] and run.epoch == best.epoch
        assert set(run.test) == {"like", "love", "love_given_like"}
        area = run.test["like"]["auc"]
        assert area is not None and 0.55 < area < 1
    assert row.runs[0].test != row.runs[1].test, "each seed has rows of its own"


@pytest.mark.parametrize(("by", "order"), [("auc", [0.1, 0.2]), ("log_loss", [0.2, 0.1])])
def test_a_config_is_chosen_by_what_the_training_set_is_judged_by(
    by: str, order: list[float], comparison: Comparison, training_set_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(training_set_dir, tmp_path / "set")
    schema = read_schema(tmp_path / "set")
    roles = schema.declaration.model_copy(update={"judge_by": by})
    (tmp_path / "set" / "schema.json").write_text(schema.model_copy(update={"declaration": roles}).model_dump_json())
    other = "log_loss" if by == "auc" else "auc"

    def trained(value: float) -> Trained:
        metrics = {f"validation/{task}/{by}": value for task in ("like", "love")}
        metrics |= {f"validation/{task}/{other}": 0.5 for task in ("like", "love")}
        report = EpochReport(epoch=1, train_loss=0.5, metrics=metrics, best=True)
        monkeypatch.setattr(Bench, "stage", lambda *_: None)
        monkeypatch.setattr(Bench, "folder", lambda *_: tmp_path / "set")
        monkeypatch.setattr(Bench, "kept_epoch", lambda *_: (report, 1))
        bench = Bench(comparison, Settings.at(tmp_path), datetime.now(UTC), "r")
        candidate = Candidate(change={}, config={}, origin={}, where=())
        dataset = ArtifactRef(kind="training_set", uri="", digest="")
        return bench.train(catalog.catalog()["train_ranker"], "lr", candidate, 0, dataset)

    ways = sorted(map(trained, (0.1, 0.2)), key=lambda way: way.score)
    assert [way.mean for way in ways] == order and ways[0].validation == dict.fromkeys(("like", "love"), order[0])


@pytest.mark.engine
def test_sizes_are_those_of_the_weights(first: tuple[Outcome, list[str]], settings: Settings) -> None:
    from safetensors.numpy import load_file

    run = record_of(first[0]).rows["lr"].runs[0]
    record = open_store(settings).find("train_ranker", run.key)
    assert record is not None and run.epoch_seconds is not None and run.epoch_seconds > 0
    weights = load_file(open_store(settings).fetch(record.outputs["ranker"].load()) / "weights.safetensors")
    tables = sum(value.size for name, value in weights.items() if "embedding" in name)
    assert (run.embedding, run.dense) == (tables, sum(value.size for value in weights.values()) - tables)


@pytest.mark.engine
def test_an_entry_that_fails_is_told_and_the_others_stand(first: tuple[Outcome, list[str]]) -> None:
    outcome, told = first
    assert list(outcome.failures) == ["trees"] and "LightGBM is not installed: run `pip install" in told[-1]
    assert list(record_of(outcome).rows) == ["lr"]
    # Two candidates on the first seed, the chosen one on the other; the trees end before they count.
    assert [line.partition("]")[0] for line in told if line.startswith("[")] == ["[1/5", "[2/5", "[3/5"]


@pytest.mark.engine
def test_the_second_run_takes_everything_from_the_store(
    comparison: Comparison, settings: Settings, first: tuple[Outcome, list[str]]
) -> None:
    again = run_comparison(comparison, (0, 1), ("lr",), settings, lambda line: None)
    assert (again.trainings, again.cached, first[0].cached) == (3, 3, 0)
    assert again.record == first[0].record


@pytest.mark.engine
def test_the_command_writes_page_and_record_and_ends_badly_when_an_entry_failed(
    file: Path, settings: Settings, first: tuple[Outcome, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(settings.home))
    runner, out = CliRunner(), ["--out", str(tmp_path)]
    good = runner.invoke(cli.app, ["compare", str(file), "--only", "lr", *out])
    assert good.exit_code == 0, good.output
    assert read_record(tmp_path / "results" / "toy_rankers.json") == first[0].record
    page = (tmp_path / "RESULTS.md").read_text()
    assert "## Toy" in page and "Not measured yet: `trees`." in page
    bad = runner.invoke(cli.app, ["compare", str(file), "--only", "trees", *out])
    assert bad.exit_code == 1
    assert (tmp_path / "RESULTS.md").read_text() == page, "a failed entry loses nothing that was published"
    (tmp_path / "RESULTS.md").unlink()
    assert runner.invoke(cli.app, ["compare", str(file), "--render", *out]).exit_code == 0
    assert (tmp_path / "RESULTS.md").read_text() == page


@pytest.mark.engine
def test_an_own_comparison_is_found_by_name_and_written_beside_its_file(
    file: Path, settings: Settings, first: tuple[Outcome, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(settings.home))
    own = tmp_path / "own"
    shutil.copytree(file.parent.parent, own)
    monkeypatch.setenv(OWN, str(own))
    assert {"toy_rankers", "kuairand"} <= {*comparison_names()}
    shared = DOCS / "results" / "toy_rankers.json"
    ran = CliRunner().invoke(cli.app, ["compare", "toy_rankers", "--only", "lr", "--at", "2024-01-31"])
    assert ran.exit_code == 0, ran.output
    folder = own / "comparisons"
    assert not shared.exists() and f"{folder / 'RESULTS.md'}" in ran.output
    record = read_record(folder / "results" / "toy_rankers.json")
    assert (record.data.at, record.rows) == (datetime(2024, 1, 31, tzinfo=UTC), record_of(first[0]).rows)
    page = (folder / "RESULTS.md").read_text()
    assert "`rankmill compare toy_rankers --at 2024-01-31`" in page
    # Found by nothing but its place.
    monkeypatch.delenv(OWN)
    (folder / "RESULTS.md").unlink()
    other = folder / "toy_others.yaml"
    other.write_text(FILE.replace("toy_rankers", "toy_others"))
    assert CliRunner().invoke(cli.app, ["compare", str(other), "--render"]).exit_code == 0
    assert (folder / "RESULTS.md").read_text() == page


@pytest.mark.engine
def test_the_window_of_a_comparison_ends_with_the_day_that_it_is_for(
    file: Path, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "toy.yaml").write_text(PIPELINE.replace(", end: 2024-01-31", ""))
    (tmp_path / "comparisons").mkdir()
    own = tmp_path / "comparisons" / file.name
    shutil.copy(file, own)
    moment = datetime(2024, 1, 31, 5, tzinfo=UTC)
    bench = Bench(load_comparison(own), settings, moment, "compare__now")
    assert f"{bench.window(0)}" == "[2024-01-01T00:00:00Z, 2024-01-31T00:00:00Z)"
    with pytest.raises(BadInputError, match="--at is 'soon'"):
        CliRunner().invoke(cli.app, ["compare", str(own), "--at", "soon"], catch_exceptions=False)


@pytest.mark.engine
def test_a_comparison_without_its_data_does_not_stop_the_others(
    file: Path, settings: Settings, first: tuple[Outcome, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(settings.home))
    folder = tmp_path / "comparisons"
    folder.mkdir()
    (tmp_path / "dry.yaml").write_text(
        PIPELINE.replace("name: toy", "name: dry").replace("with: {seed:", "with: {dry: true, seed:")
    )
    dry = FILE.replace("toy_rankers", "a_dry_one").replace("pipeline: toy", "pipeline: dry")
    (folder / "a_dry_one.yaml").write_text(dry)
    result = CliRunner().invoke(
        cli.app, ["compare", str(folder / "a_dry_one.yaml"), str(file), "--seeds", "2", "--out", str(tmp_path)]
    )
    assert result.exit_code == 1
    assert [path.stem for path in (tmp_path / "results").iterdir()] == ["toy_rankers"]


def test_only_what_is_in_the_file_can_be_asked_for(comparison: Comparison) -> None:
    assert chosen_seeds(comparison, None) == (0, 1) and chosen_seeds(comparison, 1) == (0,)
    with pytest.raises(BadInputError, match="has 2 seeds and 3 are asked for: ask for 1 to 2"):
        chosen_seeds(comparison, 3)
    assert chosen_entries(comparison, ["trees", "lr"]) == ("lr", "trees")
    with pytest.raises(BadInputError, match=r"no entry 'lrr' \(did you mean 'lr'\?\)"):
        chosen_entries(comparison, ["lrr"])


def test_only_the_stages_behind_the_training_set_are_run(comparison: Comparison) -> None:
    assert [stage.name for stage in comparison.stages] == ["rows"]
    assert comparison.output == "training_set"


def test_a_comparison_may_judge_the_rows_of_a_pipeline_by_another_metric() -> None:
    shipped = load_comparison(comparison_file("movielens_100k_gauc"))
    assert shipped.stages[-1].config["judge_by"] == "gauc"
    plain = load_comparison(comparison_file("movielens_100k_time"))
    assert [stage.config for stage in plain.stages[:-1]] == [stage.config for stage in shipped.stages[:-1]]
    assert shipped.stages[-1].config == plain.stages[-1].config | {"judge_by": "gauc"}


def test_an_unknown_name_is_an_error_of_its_own() -> None:
    result = CliRunner().invoke(cli.app, ["compare", "nobody"])
    assert isinstance(result.exception, MissingError)
