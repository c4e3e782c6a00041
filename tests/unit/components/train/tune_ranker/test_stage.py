"""What does the stage say when a search cannot be made, ends early, fails, or was made in less time than there is now?

The trials run in this process, without Ray: what Ray Tune does is the business of an integration test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from components.platform.artifacts import TrainingSet
from components.platform.errors import BadInputError, RankmillError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.train.train_ranker.job import Failure
from components.train.tune_ranker import component, samplers
from components.train.tune_ranker.config import Config
from components.train.tune_ranker.records import (
    Judge,
    Planned,
    Record,
    TrialJob,
    TuningJob,
    append_record,
    mend,
    read_records,
    record_of,
    training_of,
)
from components.train.tune_ranker.search import Search
from components.train.tune_ranker.trial import perform
from components.train.tuned import Tuning, block_of, read_tuning, tuned_config
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_path
from pipelines.language.plan import Prediction
from pipelines.show.render import as_json
from pipelines.show.tuned import tuned_lines
from tests.homes import ready
from tests.stages import run_stage
from tests.trained import publish
from tests.worlds import write_training_set

SEARCH: dict[str, Any] = {
    "ranker": {"name": "dnn", "embedding_width": 4, "hidden": [8]},
    "epochs": 1,
    "space": {"learning_rate": [0.01, 0.003], "batch_size": [64, 256]},
    "search": "grid",
    "trials": 5,
}


class Here:
    """Takes the place of the tuning process: trials one after the other in this one, `most` of them."""

    def __init__(self, job: TuningJob, prepare: Callable[[], None], most: int) -> None:
        self.job, self.left = job, most

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: Any) -> None:
        """End nothing: it ran here."""

    def wait(self, seconds: float) -> int:
        """Make the trials and return the status that the process would have."""
        job = self.job
        metric, tasks = job.config.metric_of(job.judge_by, job.feedback)
        judge = Judge(metric=metric, tasks=tasks)
        search = Search(job.config, judge, read_records(job.directory))
        while isinstance(trial := search.next(late=self.left < 1), Planned):
            self.left -= 1
            made = TrialJob(trial=trial, training=training_of(job, trial, search.block), judge=judge)
            made.write()
            perform(made, lambda epoch, best: None)
            record = record_of(trial, judge, job.folder(trial.number))
            append_record(job.directory, record)
            search.over(record)
        return 0


@contextmanager
def tuning_here(most: int = 10**6) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component, "start_process", lambda job, prepare: Here(job, prepare, most))
        yield


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, engines: Path) -> Settings:
    return ready(tmp_path_factory.mktemp("stage") / "home", engines)


@pytest.fixture(scope="module")
def dataset(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    return publish(settings, TrainingSet, write_training_set(tmp_path_factory.mktemp("set") / "made", rows=400))


def found(settings: Settings, result: StageResult) -> tuple[Tuning, Path]:
    folder = open_store(settings).fetch(result.outputs["tuned"].load())
    return read_tuning(folder), folder


def test_a_search_ends_with_its_budget_and_goes_on_with_more(settings: Settings, dataset: ArtifactRef) -> None:
    with tuning_here(most=2):
        short = run_stage(settings, "tune_ranker", {**SEARCH, "budget": "1m"}, dataset=dataset)
    tuning, _ = found(settings, short)
    assert (tuning.trials, tuning.wanted, tuning.cut_short) == (2, 5, True)
    assert short.notes[-1] == "the budget ended the search after 2 of 5 trials"
    assert run_stage(settings, "tune_ranker", {**SEARCH, "budget": "30s"}, dataset=dataset).cached
    with tuning_here(most=3) as _:  # enough only if the first two are not made again
        whole = run_stage(settings, "tune_ranker", {**SEARCH, "budget": "2m"}, dataset=dataset)
    tuning, folder = found(settings, whole)
    assert not whole.cached and (tuning.trials, tuning.cut_short) == (5, False)
    assert pq.read_table(folder / "trials.parquet")["number"].to_pylist() == [0, 1, 2, 3, 4]
    assert run_stage(settings, "tune_ranker", SEARCH, dataset=dataset).cached


def test_when_every_trial_fails_one_sentence_says_why_the_first_did(settings: Settings, dataset: ArtifactRef) -> None:
    broken = {**SEARCH, "ranker": {"name": "esmm", "hidden": [8]}, "learning_rate": 1e30}
    broken["space"] = {"learning_rate": [1e28, 1e29], "batch_size": [32]}
    with (
        tuning_here(),
        pytest.raises(BadInputError, match=r"all 3 trials failed: change the space.* \(the first: .+\)"),
    ):
        run_stage(settings, "tune_ranker", broken, dataset=dataset)


def test_what_a_machine_cannot_hold_is_said_before_anything_starts(
    settings: Settings, dataset: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(component, "start_process", lambda job, prepare: pytest.fail("it started"))
    with pytest.raises(BadInputError, match="at_once: 400 need a processor each, and this machine has"):
        run_stage(settings, "tune_ranker", {**SEARCH, "seed": 8, "at_once": 400}, dataset=dataset)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**28))
    with pytest.raises(BadInputError, match=r"1 trials need about 0\.6 GiB, and 0\.2 GiB are free"):
        run_stage(settings, "tune_ranker", {**SEARCH, "seed": 9}, dataset=dataset)


def test_optuna_says_on_the_page_what_counts(settings: Settings, dataset: ArtifactRef) -> None:
    pytest.importorskip("optuna")
    space = {"learning_rate": {"log": [1e-4, 0.03]}, "batch_size": [64, 320]}
    with tuning_here():
        result = run_stage(
            settings, "tune_ranker", {**SEARCH, "search": "optuna", "space": space, "trials": 6}, dataset=dataset
        )
    tuning, folder = found(settings, result)
    assert (tuning.trials, tuning.failed) == (6, 0)
    assert "<th>importance</th>" in (folder / "tuned.html").read_text()


def test_a_metric_that_training_does_not_measure_is_refused(settings: Settings, dataset: ArtifactRef) -> None:
    with pytest.raises(BadInputError, match="training measures auc, log_loss on validation"):
        run_stage(settings, "tune_ranker", {**SEARCH, "metric": "validation/gauc/mean"}, dataset=dataset)


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(RankmillError, match="install the extra `tune`"):
        samplers.sampler_of("optuna", (), 0)


def test_the_plan_says_which_knobs_are_replaced_and_by_what(settings: Settings, dataset: ArtifactRef) -> None:
    plan = load_plan(pipeline_path("movielens_tuned"))
    (line,) = tuned_lines(plan, settings)
    assert line.startswith("train trains with what tune will find for learning_rate, ranker.dropout, ")
    (entry,) = [stage for stage in as_json(plan)["stages"] if "tuned" in stage]
    assert entry["name"] == "train" and entry["tuned"]["learning_rate"] == "tune"
    with tuning_here():
        result = run_stage(settings, "tune_ranker", SEARCH, dataset=dataset)
    hit = Prediction("tune", "hit", result.key, "", (), None)
    tuning, _ = found(settings, result)
    (line,) = tuned_lines(replace(plan, predictions=(hit,)), settings)
    rate = tuning.values["learning_rate"]
    assert (
        line == f"train trains with what tune found: batch_size {tuning.values['batch_size']}, learning_rate {rate:g}."
    )


def test_values_go_into_the_block_as_it_was_written() -> None:
    """Keys of a part that the values take away were never written, so they are no fault."""
    from components.train.train_ranker.config import Config as TrainConfig

    config = TrainConfig.model_validate(
        {
            "ranker": {"name": "dnn", "interaction": "dcnv2", "dropout": 0.1},
            "workers": 2,
            "tables": {"optimiser": "adam"},
        }
    )
    made = Tuning(
        ranker="dnn", metric="validation/auc/mean", search="random", seed=0, space={}, dataset="", trials=2, wanted=2,
        failed=0, budget=None, winner=1, epochs=1, value=0.5, own=0.4, mean=None, optimism=None, repeats=(),
        values={"ranker.interaction": "none", "learning_rate": 0.5},
    )  # fmt: skip
    tuned = tuned_config(config, made)
    assert (tuned.learning_rate, tuned.workers, tuned.tables.optimiser) == (0.5, 2, "adam")
    assert (tuned.ranker.interaction, tuned.ranker.dropout) == ("none", 0.1)  # type: ignore[attr-defined]
    clash = made.model_copy(update={"values": {"tables.learning_rate": 0.1}})
    with pytest.raises(BadInputError, match="the values found do not go together with the stage's own, tables"):
        tuned_config(config, clash)


class Killed(BaseException):
    """The process is gone, here and now."""


def test_a_trial_that_was_killed_takes_the_epochs_that_are_left_and_ends_where_it_is_behind(
    settings: Settings, dataset: ArtifactRef, tmp_path: Path
) -> None:
    config = Config.model_validate({**SEARCH, "epochs": 3, "patience": 3})
    judge = Judge(metric="auc", tasks=("like", "love"))

    def made(name: str, **planned: Any) -> TrialJob:
        job = TuningJob(
            name=name, dataset=open_store(settings).fetch(dataset.load()), directory=tmp_path / name, config=config,
            judge_by="auc", feedback=judge.tasks,
        )  # fmt: skip
        trial = Planned(number=1, kind="search", values={"batch_size": 64}, seed=0, **planned)
        block = block_of(config, config.ranker)
        one = TrialJob(trial=trial, training=training_of(job, trial, block), judge=judge)
        one.write()
        return one

    def outcome(one: TrialJob) -> tuple[str, list[dict[str, float]]]:
        record = record_of(one.trial, judge, one.training.directory)
        return record.state, [report.metrics for report in record.epochs]

    def dies(epoch: int, best: float) -> None:
        raise Killed

    quiet, killed, behind = made("quiet"), made("killed"), made("behind", cutoffs={1: 2.0})
    perform(quiet, lambda epoch, best: None)
    told: list[int] = []
    with pytest.raises(Killed):
        perform(killed, dies)
    perform(killed, lambda epoch, best: told.append(epoch))
    assert told == [1, 2, 3]  # the first is told again, and not trained again
    assert outcome(killed) == outcome(quiet) and len(outcome(quiet)[1]) == 3
    with pytest.raises(Killed):
        perform(behind, dies)
    perform(behind, lambda epoch, best: None)
    assert outcome(behind) == ("stopped", outcome(quiet)[1][:1])


def test_half_a_line_of_a_killed_process_is_no_trial(tmp_path: Path) -> None:
    record = Record(number=0, kind="own", values={}, seed=0, state="failed", epochs=(), reason="no")
    append_record(tmp_path, record)
    with (tmp_path / "trials.jsonl").open("a") as stream:
        stream.write('{"number": 1, "ki')
    assert read_records(tmp_path) == [record]
    mend(tmp_path)
    append_record(tmp_path, record)
    assert read_records(tmp_path) == [record, record]


def test_a_trial_whose_process_is_gone_says_so(tmp_path: Path) -> None:
    trial = Planned(number=3, kind="search", values={}, seed=0)
    judge = Judge(metric="auc", tasks=("click",))
    assert record_of(trial, judge, tmp_path).reason == "it made no epoch"
    Failure.write(tmp_path, BadInputError("the loss is no number"))
    assert record_of(trial, judge, tmp_path).reason == "the loss is no number"
    assert record_of(trial, judge, tmp_path, lost="it was killed").state == "failed"


def test_a_config_does_not_depend_on_how_it_came() -> None:
    made = Config.model_validate(SEARCH)
    assert Config.model_validate_json(made.model_dump_json()) == made
