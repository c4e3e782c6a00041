"""How is the tuning stage run? Ray Tune in a child process that cannot outlive it, MLflow told trial by trial."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from components.platform.artifacts import Tuned
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError, RankmillError, RetryableError
from components.train.train_ranker.component import POLL_SECONDS, RESTARTS, raise_failure, start_process
from components.train.train_ranker.job import TRAININGS, Failure, lock_of
from components.train.train_ranker.ray_launch import usable_cpus
from components.train.tune_ranker.config import Config, Inputs, Outputs
from components.train.tune_ranker.records import Judge, Planned, Record, TuningJob, mend, read_records
from components.train.tune_ranker.search import Search
from components.train.tuned import FILE, Tuning, told
from features.declaration import Declaration, RankerSchema
from features.ground.files import locked
from features.ground.imports import importing

PROCESS_BYTES = 600 * 2**20
"""Memory of a trial beside its tables: torch, and rows that are read from mapped files. Trials of `movielens_tuned`
held 520 and 550 MiB of their own, of tables hardly any."""
COPIES = 4
"""A table in training is there as weights, gradient and two moments of Adam."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Make trials until the search is over and publish what was found.

    A stage that was killed goes on with the trial that was next. The test split is never read.

    Raises:
        BadInputError: every trial failed, the metric is not one that training measures, or there are too few CPUs.
        RetryableError: the cluster was lost, or MLflow cannot be written.
    """
    from components.data.training_set import read_schema

    dataset = context.local(inputs.dataset)
    schema = read_schema(dataset)
    judge = _judge(config, schema.declaration)
    settings = context.settings
    if not settings.ray_address:
        _check_machine(config, schema)
    work = settings.home / TRAININGS / context.key[:32]
    waits = partial(context.progress, "another run makes the same search; waiting for it to end")
    with locked(lock_of(work), on_wait=waits):
        job = TuningJob(
            name=f"tune-{context.key[:16]}",
            dataset=dataset,
            directory=work,
            config=config,
            judge_by=schema.declaration.judge_by,
            feedback=schema.declaration.feedback,
            ray_address=settings.ray_address,
        )
        _follow(job, judge, context)
        search, cut_short = _replay(config, judge, read_records(work))
        found = _tuning(search, config, judge, inputs.dataset.digest, cut_short)
        draft = context.draft("tuned")
        _write(draft, found, search, config, judge)
        if not cut_short:  # else a stage with more time goes on from there
            shutil.rmtree(work, ignore_errors=True)
    _tell(found, search, context)
    return Outputs(tuned=Tuned(uri=str(draft)))


def _judge(config: Config, roles: Declaration) -> Judge:
    metric, tasks = config.metric_of(roles.judge_by, roles.feedback)
    measured = {"auc", "log_loss", roles.judge_by}
    if metric not in measured:
        raise BadInputError(
            f"metric {config.metric!r}: training measures {', '.join(sorted(measured))} on validation: take one of "
            f"them, or give build_training_set judge_by: {metric}"
        )
    return Judge(metric=metric, tasks=tasks)


def _check_machine(config: Config, schema: RankerSchema) -> None:
    """Make sure that the trials that run at once have a processor and memory each.

    Raises:
        BadInputError: they have not.
    """
    import psutil

    cpus = usable_cpus()
    if config.at_once > cpus:
        raise BadInputError(
            f"at_once: {config.at_once} need a processor each, and this machine has {cpus}: lower at_once to {cpus}, "
            "or use a cluster"
        )
    widths = [getattr(config.ranker, "embedding_width", 16)]
    entry = config.space.get("ranker.embedding_width")
    if entry is not None:
        wide = entry if isinstance(entry, tuple) else entry.log if hasattr(entry, "log") else (entry.to,)
        widths += [int(one) for one in wide if isinstance(one, int | float)]
    rows = sum(field.size for field in schema.fields)
    needed = config.at_once * (PROCESS_BYTES + COPIES * 4 * rows * max(widths))
    free = psutil.virtual_memory().available
    if needed > free:
        raise BadInputError(
            f"at_once: {config.at_once} trials need about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are "
            "free here: lower at_once, leave out the largest embedding_width, or use a cluster"
        )


def _follow(job: TuningJob, judge: Judge, context: RunContext) -> None:
    """Run the tuning process to its end, and tell MLflow and the log of each trial.

    Raises:
        RankmillError: it did not end well.
    """
    job.directory.mkdir(parents=True, exist_ok=True)
    mend(job.directory)
    if done := len(read_records(job.directory)):
        context.progress(f"the search goes on after {done} trials")
    process = start_process(job, lambda: None)
    with importing():
        from registry.versions.tracking import TrackedRun, tracked

    def follow(record: Record, run: TrackedRun) -> None:
        steps = {
            report.epoch: {name.replace("/", "_"): value for name, value in report.metrics.items()}
            | {"train_loss": report.train_loss}
            for report in record.epochs
        }
        tags = {"rankmill.stage": context.stage, "rankmill.trial": str(record.number), "rankmill.state": record.state}
        name = f"trial {record.number}" if record.of is None else f"trial {record.of}, seed {record.seed}"
        params = {**record.values, "seed": record.seed}
        run.log_child(name, params, steps, tags, failed=record.state == "failed")
        context.progress(_line(record, judge))

    settings = context.settings
    with tracked(
        settings.tracking_uri,
        settings.mlflow_artifacts,
        name=context.pipeline,
        run_name=context.run_id,
        key=context.key,
        params=job.config.model_dump(mode="json"),
        tags={"rankmill.stage": context.stage},
    ) as run:
        context.annotate(MLFLOW_RUN_ID, run.run_id)
        seen, restarts = 0, 0
        while True:
            with process:
                code = None
                while code is None:
                    code = process.wait(POLL_SECONDS)
                    for record in read_records(job.directory, skip=seen):
                        follow(record, run)
                        seen += 1
            try:
                if code or Failure.read(job.directory) is not None or not seen:
                    raise_failure(job, code, context)
                return
            except RetryableError as error:
                restarts += 1
                if restarts > RESTARTS:
                    raise
                context.note(f"the search goes on: {error}")
                mend(job.directory)
                process = start_process(job, lambda: None)


def _line(record: Record, judge: Judge) -> str:
    what = (
        f"trial {record.number} ({told(record.values)})"
        if record.of is None
        else f"trial {record.of} with seed {record.seed}"
    )
    if record.state == "failed":
        return f"{what} failed: {record.reason}"
    mark = f", stopped after epoch {len(record.epochs)}" if record.state == "stopped" else ""
    return f"{what}: {judge.metric} {record.value:.4f}{mark} ({record.seconds:.1f} s)"


def _replay(config: Config, judge: Judge, records: Sequence[Record]) -> tuple[Search, bool]:
    """Return the search as it ended, and whether trials are missing because the budget was used up."""
    cut_short = isinstance(answer := Search(config, judge, records).next(), Planned) and answer.kind != "repeat"
    search = Search(config, judge, records)
    search.next(late=True)
    return search, cut_short


def _tuning(search: Search, config: Config, judge: Judge, dataset: str, cut_short: bool) -> Tuning:
    """Return what was found.

    Raises:
        BadInputError: nothing was, because every trial failed.
    """
    results = search.results
    searched = [record for record in results if record.of is None]
    failed = [record for record in searched if record.state == "failed"]
    if not search.best():
        first = min(failed, key=lambda record: record.number, default=None)
        raise BadInputError(
            f"all {len(searched)} trials failed: change the space, or the knobs that all trials share "
            f"(the first: {first.reason if first else 'none ended'})"
        )
    repeats = search.repeated()
    number = repeats[0].trial
    winner = next(record for record in searched if record.number == number)
    if winner.value is None or winner.kept is None:
        raise RankmillError(f"trial {number} has no value: report this, with its trials.jsonl")
    mean = repeats[0].mean
    own = next((record.value for record in searched if record.kind == "own"), None)
    return Tuning(
        ranker=config.ranker.name,
        metric=config.metric or f"validation/{judge.metric}/mean",
        search=config.search,
        seed=config.seed,
        space=config.model_dump(mode="json")["space"],
        dataset=dataset,
        trials=len(searched),
        wanted=config.trials if cut_short else len(searched),
        failed=len(failed),
        budget=config.budget.total_seconds() if config.budget and cut_short else None,
        winner=number,
        values=winner.values,
        epochs=winner.kept,
        value=winner.value,
        own=own,
        repeats=tuple(repeats) if config.repeat_best else (),
        mean=mean,
        optimism=None if mean is None else judge.better(winner.value) - judge.better(mean),
    )


def _write(draft: Path, found: Tuning, search: Search, config: Config, judge: Judge) -> None:
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.train.tune_ranker.page import write_page

    (draft / FILE).write_text(found.model_dump_json(indent=2), encoding="utf-8")
    results = search.results
    columns = {
        "number": pa.array([one.number for one in results], pa.int64()),
        "kind": pa.array([one.kind for one in results], pa.string()),
        "of": pa.array([one.of for one in results], pa.int64()),
        "seed": pa.array([one.seed for one in results], pa.int64()),
        "values": pa.array([json.dumps(one.values, sort_keys=True) for one in results], pa.string()),
        "state": pa.array([one.state for one in results], pa.string()),
        "value": pa.array([one.value for one in results], pa.float64()),
        "kept": pa.array([one.kept for one in results], pa.int64()),
        "epochs": pa.array([json.dumps([e.model_dump() for e in one.epochs]) for one in results], pa.string()),
        "reason": pa.array([one.reason for one in results], pa.string()),
    }
    pq.write_table(pa.table(columns), draft / "trials.parquet")
    write_page(draft, found, results, judge, search.importance())


def _tell(found: Tuning, search: Search, context: RunContext) -> None:
    stopped = sum(record.state == "stopped" for record in search.results)
    ended = f", {stopped} stopped early" if stopped else ""
    ended += f", {found.failed} failed" if found.failed else ""
    context.note(f"trial {found.winner} of {found.trials}{ended}: {told(found.values)}")
    own = "" if found.own is None else f", {found.own:.4f} with the stage's own knobs"
    context.note(f"{found.metric} {found.value:.4f}{own}")
    if found.mean is not None:
        context.note(f"with other seeds {found.mean:.4f}: {found.optimism:+.4f} of the best value is luck")
    if found.cut_short:
        context.note(f"the budget ended the search after {found.trials} of {found.wanted} trials")
