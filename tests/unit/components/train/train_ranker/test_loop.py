"""Does the loop learn what is there, nothing else, and the same for any number of workers?"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.data.training_set import SPLITS, EncodedSplit, read_encoded, read_schema, write_encoded
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.tasks import tasks_of
from components.train.train_ranker.config import Config, EpochReport
from components.train.train_ranker.feed import open_split
from components.train.train_ranker.job import TrainingJob, read_progress
from components.train.train_ranker.loop import Replica, judge, predict, score_of, train
from registry.metrics import Requests, value_of

ROOT = Path(__file__).resolve().parents[5]
Change = Callable[[EncodedSplit], EncodedSplit]
Fit = Callable[..., tuple[dict[str, torch.Tensor], list[EpochReport]]]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def job_of(dataset: Path, directory: Path, **config: Any) -> TrainingJob:
    directory.mkdir(parents=True, exist_ok=True)
    config.setdefault("ranker", RankerConfig.of(name="esmm", embedding_width=8, hidden=(16, 8)))
    return TrainingJob(name="test", dataset=dataset, directory=directory, config=Config(**config))


@pytest.fixture
def fit(tmp_path: Path, training_set_dir: Path) -> Fit:
    """Train in this process; return the kept weights and the epochs."""

    def run(dataset: Path = training_set_dir, **config: Any) -> tuple[dict[str, torch.Tensor], list[EpochReport]]:
        job = job_of(dataset, tmp_path / f"run{len(list(tmp_path.iterdir()))}", **config)
        train(job, Replica())
        weights = load_file(str(job.directory / "weights.safetensors"))
        return weights, [progress.report for progress in read_progress(job.directory)]

    return run


@pytest.fixture
def altered(tmp_path: Path, training_set_dir: Path) -> Callable[..., Path]:
    """Copy the training set with some of its splits changed."""

    def copy(change: Change, *splits: str) -> Path:
        schema = read_schema(training_set_dir)
        target = tmp_path / f"altered{len(list(tmp_path.iterdir()))}"
        target.mkdir()
        shutil.copy(training_set_dir / "schema.json", target / "schema.json")
        for name in SPLITS:
            rows = read_encoded(training_set_dir, name, schema)
            write_encoded(target / "encoded" / f"{name}.arrow", change(rows) if name in splits else rows)
        return target

    return copy


def test_the_tables_of_a_run_are_drawn_to_zero_where_it_asks_for_it(fit: Fit) -> None:
    plain, drawn = (fit(epochs=1, tables={"mini_batch_aware": aware})[0]["embedding.weight"] for aware in (0, 1000))
    assert float(drawn.norm()) < 0.7 * float(plain.norm())


def relabelled(rows: EncodedSplit, labels: dict[str, np.ndarray[Any, Any]]) -> EncodedSplit:
    return EncodedSplit(features=rows.features, labels=labels, domain=rows.domain, user=rows.user)


def shuffled(rows: EncodedSplit) -> EncodedSplit:
    order = np.random.default_rng(1).permutation(rows.rows)
    return relabelled(rows, {name: values[order] for name, values in rows.labels.items()})


def one_class(rows: EncodedSplit) -> EncodedSplit:
    return relabelled(rows, {name: np.zeros_like(values) for name, values in rows.labels.items()})


def first(rows: EncodedSplit, count: int) -> EncodedSplit:
    return EncodedSplit(
        features={name: values[:count] for name, values in rows.features.items()},
        labels={name: values[:count] for name, values in rows.labels.items()},
        domain=rows.domain[:count],
        user=rows.user[:count],
    )


@pytest.mark.parametrize("name", ["esmm", "lr"])
def test_it_beats_chance_and_a_shuffled_control_does_not(name: str, fit: Fit, altered: Callable[..., Path]) -> None:
    ranker = RankerConfig.of(name=name)
    config = {"ranker": ranker, "epochs": 6, "batch_size": 256, "learning_rate": 0.003 if name == "esmm" else 0.03}
    for dataset, low, high in ((None, 0.62, 1.0), (altered(shuffled, "train"), 0.4, 0.6)):
        _, history = fit(**({} if dataset is None else {"dataset": dataset}), **config)
        kept = next(report for report in reversed(history) if report.best)
        for task in ("like", "love"):
            assert low < kept.metrics[f"validation/{task}/auc"] < high, (task, kept)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(fit: Fit) -> None:
    ranker = RankerConfig.of(name="esmm", hidden=(16, 8), dropout=0.3)
    (first_weights, first_history), (again, again_history), (other, _) = (
        fit(ranker=ranker, epochs=2, seed=seed) for seed in (5, 5, 6)
    )
    assert first_history == again_history
    assert all(torch.equal(first_weights[name], again[name]) for name in first_weights)
    assert not all(torch.equal(first_weights[name], other[name]) for name in first_weights)


TWO_WORKERS = """
import sys
from pathlib import Path
import torch, torch.distributed as dist
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import train
from components.train.train_ranker.loop import Replica
meeting, rank, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
for file in files:
    train(TrainingJob.model_validate_json(Path(file).read_text()), Replica(rank=rank, world=2))
dist.destroy_process_group()
dear = {"torch._dynamo", "pandas", "ray"} & set(sys.modules)
assert not dear, f"{dear} take seconds to load, and nothing here needs them"
"""


def test_two_workers_make_the_model_of_one(tmp_path: Path, fit: Fit, altered: Callable[..., Path]) -> None:
    """A real gloo group of two processes; 257 rows in batches of 256 leave one worker without a row."""
    cases: dict[str, tuple[str, int]] = {
        "one batch": ("esmm", 600),
        "last batch smaller than the workers": ("esmm", 257),
        "the same with sums inside the ranker": ("adaptdhm", 257),
    }
    alone, jobs = {}, {}
    for case, (name, rows) in cases.items():
        config: dict[str, Any] = {
            "ranker": RankerConfig.of(name=name, embedding_width=8, hidden=(16, 8)),
            "epochs": 1, "batch_size": 1024 if rows == 600 else 256, "learning_rate": 0.01,
        }  # fmt: skip
        dataset = altered(lambda split, rows=rows: first(split, rows), "train")
        alone[case] = fit(dataset=dataset, **config)
        jobs[case] = job_of(dataset, tmp_path / case, **config)
    command = [sys.executable, "-c", TWO_WORKERS, str(tmp_path / "meet")]
    files = [str(job.write()) for job in jobs.values()]
    workers = [subprocess.Popen([*command, str(rank), *files], cwd=ROOT) for rank in (0, 1)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    for case, (one, one_history) in alone.items():
        two = load_file(str(jobs[case].directory / "weights.safetensors"))
        [progress] = read_progress(jobs[case].directory)
        assert one.keys() == two.keys(), case
        for name, values in one.items():
            torch.testing.assert_close(two[name], values, atol=1e-5, rtol=0, msg=f"{case}: {name}")
        assert progress.report.train_loss == pytest.approx(one_history[0].train_loss, abs=1e-5), case
        assert progress.report.metrics == pytest.approx(one_history[0].metrics, abs=1e-4), case


def test_each_epoch_shows_the_routing_of_a_ranker_that_routes(fit: Fit) -> None:
    _, history = fit(ranker=RankerConfig.of(name="adaptdhm", hidden=(8,)), epochs=2, batch_size=256)
    for report in history:
        shown = {name: value for name, value in report.metrics.items() if name.startswith("routing/")}
        assert {"routing/assignment_entropy", "routing/max_coefficient", "routing/centre_cosine_max"} < shown.keys()
        assert sum(shown[f"routing/usage_{k}"] for k in range(3)) == pytest.approx(1.0, abs=1e-5)
    assert "validation/like/auc" in history[0].metrics
    _, history = fit(ranker=RankerConfig.of(name="dnn", hidden=(8,)), epochs=1)
    assert not any(name.startswith("routing/") for name in history[0].metrics)


def test_it_stops_without_progress_and_keeps_the_best_epoch(
    fit: Fit, training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained far too fast it gets worse; the kept weights score what the best epoch scored."""
    weights, history = fit(epochs=30, patience=3, learning_rate=0.05, batch_size=128)
    best = [report.epoch for report in history if report.best][-1]
    areas = [(r.metrics["validation/like/auc"] + r.metrics["validation/love/auc"]) / 2 for r in history]
    assert len(history) == best + 3 < 30
    assert areas[best - 1] == max(areas)
    schema = read_schema(training_set_dir)
    ranker = build_ranker(RankerConfig.of(name="esmm", embedding_width=8, hidden=(16, 8)), schema)
    ranker.load_state_dict(weights)
    rows, tasks = open_split(training_set_dir, "validation", schema), tasks_of(schema.declaration)
    found = judge(predict(ranker, rows, tasks, Replica()), rows, tasks)
    assert found == pytest.approx(history[best - 1].metrics, abs=1e-9)


def test_conditionals_are_judged_on_rows_that_have_the_step_before(training_set_dir: Path) -> None:
    schema = read_schema(training_set_dir)
    rows, tasks = open_split(training_set_dir, "validation", schema), tasks_of(schema.declaration)
    # Right about love among the liked, absurd elsewhere: only the liked rows may count.
    absurd = np.where(rows.labels["like"] > 0, rows.labels["love"], 1.0)
    chance = np.full(rows.rows, 0.5)
    metrics = judge({"like": chance, "love": chance, "love_given_like": absurd}, rows, tasks)
    assert metrics["validation/love_given_like/auc"] == 1.0
    assert metrics["validation/like/auc"] == 0.5


def test_an_epoch_is_kept_for_what_rankers_are_judged_by(training_set_dir: Path) -> None:
    schema = read_schema(training_set_dir)
    rows, rng = read_encoded(training_set_dir, "validation", schema), np.random.default_rng(0)
    rows = replace(rows, request=rows.user)
    tasks = tasks_of(schema.declaration)
    answers = {task.name: rng.random(rows.rows) for task in tasks}
    for by in ("mrr", "gauc", "request_auc", "log_loss"):
        metrics = judge(answers, rows, tasks, by)
        for task in ("like", "love"):
            expected = value_of(by, rows.labels[task], answers[task], rows.user, Requests(rows.user))
            assert metrics[f"validation/{task}/{by}"] == pytest.approx(expected)
        mean = np.mean([metrics[f"validation/{task}/{by}"] for task in ("like", "love")])
        assert score_of(metrics, ("like", "love"), 9.0, by) == pytest.approx(-mean if by == "log_loss" else mean)
        assert score_of({}, ("like", "love"), 9.0, by) == -9.0


def test_training_keeps_the_epoch_by_the_declared_metric(fit: Fit, altered: Callable[..., Path]) -> None:
    """Steps so long that the order gets better while the probabilities get worse."""
    dataset = altered(lambda rows: rows)
    schema = read_schema(dataset)
    kept = []
    for by in ("auc", "log_loss"):
        roles = schema.declaration.model_copy(update={"judge_by": by})
        changed = schema.model_copy(update={"declaration": roles})
        (dataset / "schema.json").write_text(changed.model_dump_json(), encoding="utf-8")
        _, history = fit(dataset=dataset, ranker=RankerConfig.of(name="lr"), epochs=6, learning_rate=0.5, patience=6)
        best = [report.metrics for report in history if report.best][-1]
        means = [np.mean([r.metrics[f"validation/{t}/{by}"] for t in ("like", "love")]) for r in history]
        mean = np.mean([best[f"validation/{task}/{by}"] for task in ("like", "love")])
        assert mean == (max if by == "auc" else min)(means)
        kept.append([report.epoch for report in history if report.best][-1])
    assert kept[0] != kept[1]


def test_one_class_in_validation_leaves_auc_out_and_still_trains(fit: Fit, altered: Callable[..., Path]) -> None:
    _, history = fit(dataset=altered(one_class, "validation"), epochs=2)
    assert len(history) == 2
    assert {name for report in history for name in report.metrics if name.endswith("auc")} == set()
    assert all("validation/like/log_loss" in report.metrics for report in history)


def test_an_empty_validation_split_keeps_the_lowest_loss(fit: Fit, altered: Callable[..., Path]) -> None:
    _, history = fit(dataset=altered(lambda rows: first(rows, 0), "validation"), epochs=3)
    assert [report.metrics for report in history] == [{}, {}, {}]
    assert [report.best for report in history] == [True, True, True]


def test_an_empty_training_split_is_a_sentence(fit: Fit, altered: Callable[..., Path]) -> None:
    with pytest.raises(BadInputError, match="the training split has no rows: widen the window"):
        fit(dataset=altered(lambda rows: first(rows, 0), "train"))


def test_a_loss_that_is_not_a_number_names_epoch_and_step(fit: Fit, altered: Callable[..., Path]) -> None:
    def poisoned(rows: EncodedSplit) -> EncodedSplit:
        popularity = rows.features["popularity"].copy()
        popularity[7, 0] = np.nan
        return EncodedSplit(rows.features | {"popularity": popularity}, rows.labels, rows.domain, rows.user)

    dataset = altered(poisoned, "train")
    with pytest.raises(BadInputError, match=r"the loss is nan in epoch 1, step \d+, ") as found:
        fit(dataset=dataset, batch_size=256)
    for part in ("for like, love", "'popularity': from -", "1 of 768 not finite; lower learning_rate"):
        assert part in str(found.value)


def test_an_index_outside_its_table_is_a_sentence(fit: Fit, altered: Callable[..., Path]) -> None:
    def broken(rows: EncodedSplit) -> EncodedSplit:
        items = rows.padded()["item_id"]
        items[3] = 10_000
        return EncodedSplit(rows.features | {"item_id": items}, rows.labels, rows.domain, rows.user)

    with pytest.raises(BadInputError, match=r"field 'item_id' of the train split holds index 10000, its table has \d+"):
        fit(dataset=altered(broken, "train"))
