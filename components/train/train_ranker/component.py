"""How is the train stage run? Ray in a child process that cannot outlive it, MLflow told epoch by epoch."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from components.platform.artifacts import Ranker
from components.platform.contract import MLFLOW_RUN_ID, ComponentConfig, RunContext
from components.platform.errors import RankmillError, RetryableError
from components.platform.process_tree import ProcessTree
from components.train.ranker_files import CONFIG, WEIGHTS
from components.train.searched import ARCHITECTURE, ChosenBy, read_searched, searched_config
from components.train.searched import FILE as CHOSEN
from components.train.train_ranker.attention import ATTENTION
from components.train.train_ranker.checkpoints import rewind
from components.train.train_ranker.config import EPOCH_SECONDS, PARAMETERS, Config, EpochReport, Inputs, Outputs
from components.train.train_ranker.job import (
    TRAININGS,
    Adaptation,
    Failure,
    Progress,
    RayJob,
    TrainingJob,
    lock_of,
    read_progress,
    read_size,
)
from components.train.train_ranker.ray_launch import refuse_oversized, usable_cpus
from components.train.train_ranker.remote import RemoteJob, takes_jobs
from components.train.tuned import ORIGIN, TUNED, Origin, read_tuning, told, tuned_config
from features.ground.files import locked
from features.ground.imports import importing

POLL_SECONDS = 0.3
LOG = "train.log"
RESTARTS = 3
"""How often a stage starts training again, from its newest checkpoint, before the scheduler has to."""
_SOCKET_ROOM = 40
"""Ray's socket names need some 65 of the 107 characters a Unix socket path may have."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Train, follow the epochs, and publish the best one.

    Raises:
        BadInputError: the ranker does not fit the data, there are too few CPUs or GPUs, training diverged, or what
            a search found is of another ranker.
        RetryableError: a worker was lost, or MLflow cannot be written.
    """
    found = None if inputs.tuned is None else read_tuning(context.local(inputs.tuned))
    if found is not None:
        config = tuned_config(config, found)
        context.note(f"from tuning, trial {found.winner}: {told(found.values)}")
        context.annotate(TUNED, told(found.values))
    pairs = None if inputs.architecture is None else read_searched(context.local(inputs.architecture))
    if pairs is not None:
        config = searched_config(config, pairs)
        context.note(f"from the search of pairs: {pairs.told}")
        context.annotate(ARCHITECTURE, pairs.told)
    with new_job(context, context.local(inputs.dataset), config) as job:
        history = run_job(job, context, config)
        draft = context.draft("ranker")
        fill(draft, job, history)
        if inputs.tuned is not None and found is not None:
            origin = Origin(tuned=inputs.tuned.digest, trial=found.winner, values=found.values)
            (draft / ORIGIN).write_text(origin.model_dump_json(indent=2), encoding="utf-8")
        if inputs.architecture is not None and pairs is not None:
            chosen = ChosenBy(
                architecture=inputs.architecture.digest,
                memorise=pairs.of("memorise"),
                factorise=pairs.of("factorise"),
            )
            (draft / CHOSEN).write_text(chosen.model_dump_json(indent=2), encoding="utf-8")
    best = best_of(history)
    context.note(f"{config.ranker.name}: epoch {best.epoch} of {len(history)} kept, validation {areas(best)}")
    return Outputs(ranker=Ranker(uri=str(draft)))


@contextmanager
def new_job(
    context: RunContext, dataset: Path, config: Config, adaptation: Adaptation | None = None
) -> Iterator[TrainingJob]:
    """Yield a job whose folder is named by the stage's key: the same stage, started again, finds its checkpoints there.

    The folder is deleted when the block ends well, and stays when it does not.

    Raises:
        BadInputError: this machine has too few CPUs for the workers.
    """
    settings = context.settings
    if not settings.ray_address:
        refuse_oversized(config.least_workers, usable_cpus(), "CPUs", "this machine")
    work = settings.home / TRAININGS / context.key[:32]
    waits = partial(context.progress, "another run trains the same ranker; waiting for it to end")
    with locked(lock_of(work), on_wait=waits):
        yield TrainingJob(
            name=f"train-{context.key[:16]}",
            dataset=dataset,
            directory=work,
            config=config,
            ray_address=settings.ray_address,
            adaptation=adaptation,
        )
        shutil.rmtree(work, ignore_errors=True)


def best_of(history: list[EpochReport]) -> EpochReport:
    """Return the epoch whose weights were kept."""
    return next(report for report in reversed(history) if report.best)


def run_job(job: TrainingJob, context: RunContext, params: ComponentConfig) -> list[EpochReport]:
    """Run the training process to its end and return its epochs; weights and `curves.png` are in the job's directory.

    Raises:
        BadInputError: the ranker does not fit the data, there are too few GPUs, or training diverged.
        RetryableError: a worker was lost, or MLflow cannot be written.
    """
    history: list[EpochReport] = []
    seconds: list[float] = []
    with ExitStack() as stack:
        tree = _started(job, context)
        stack.enter_context(tree)
        # The child starts while MLflow is imported here.
        with importing():
            from components.train.train_ranker.attention import read_attention
            from components.train.train_ranker.curves import draw_curves
            from registry.versions.tracking import tracked

        with tracked(
            context.settings.tracking_uri,
            context.settings.mlflow_artifacts,
            name=context.pipeline,
            run_name=context.run_id,
            key=context.key,
            params=params.model_dump(mode="json"),
            tags={"rankmill.stage": context.stage} | _search_tags(context),
        ) as mlflow_run:
            context.annotate(MLFLOW_RUN_ID, mlflow_run.run_id)

            def follow(progress: Progress) -> None:
                history.append(progress.report)
                if progress.report.epoch > 0:  # 0 is judged only
                    seconds.append(progress.train_seconds)
                mlflow_run.log_metrics(progress.metrics, step=progress.report.epoch)
                mark = f", {progress.workers} workers" if progress.workers > 1 else ""
                mark += ", best so far" if progress.report.best else ""
                context.progress(
                    f"epoch {progress.report.epoch}/{job.config.epochs}: loss {progress.report.train_loss:.4f}, "
                    f"validation {areas(progress.report)} ({progress.seconds:.1f} s{mark})"
                )
                if progress.warning is not None:
                    context.note(progress.warning)

            restarts = 0
            while True:
                try:
                    _wait(tree, job, context, len(history), follow)
                    break
                except RetryableError as error:
                    stack.close()
                    restarts += 1
                    if restarts > RESTARTS:
                        raise
                    context.note(f"training starts again: {error}")
                    tree = _started(job, context)
                    stack.enter_context(tree)
            curves = job.directory / "curves.png"
            draw_curves(history, curves, read_attention(job.directory))
            mlflow_run.log_files(curves)
    # Wall-clock time is an annotation, not a file, so that the same weights make the same artifact.
    context.annotate(EPOCH_SECONDS, f"{sum(seconds) / len(seconds):.4f}")
    for kind, count in read_size(job.directory).items():
        context.annotate(f"{kind}_{PARAMETERS}", str(count))
    return history


def _search_tags(context: RunContext) -> dict[str, str]:
    """Return the tags that tell which parameters of the run searches chose; all others are the stage's own."""
    return {
        f"rankmill.{kind}": context.annotations[kind] for kind in (TUNED, ARCHITECTURE) if kind in context.annotations
    }


def _started(job: TrainingJob, context: RunContext) -> ProcessTree | RemoteJob:
    """Return the training process, which goes on from the newest checkpoint in the job's folder."""

    def prepare() -> None:
        if position := rewind(job.directory):
            context.progress(f"training goes on from epoch {position.epoch}, step {position.step}")

    return start_process(job, prepare)


def start_process(job: RayJob, prepare: Callable[[], None]) -> ProcessTree | RemoteJob:
    """Return the process of a job; what an earlier one left in its folder of Ray is gone.

    Args:
        job: what to compute.
        prepare: called once the folder is there, unless the job is running already.
    """

    def begin() -> None:
        job.directory.mkdir(parents=True, exist_ok=True)
        Failure.forget(job.directory)
        shutil.rmtree(job.directory / "ray", ignore_errors=True)
        prepare()

    if takes_jobs(job.ray_address):
        return RemoteJob(job, job.directory / LOG, begin)
    begin()
    sockets = _short_folder()
    file = job.model_copy(update={"ray_temp": sockets}).write()
    return ProcessTree([sys.executable, "-m", job.module, str(file)], log=job.directory / LOG, cleanup=[sockets])


def _wait(
    tree: ProcessTree | RemoteJob, job: TrainingJob, context: RunContext, seen: int, follow: Callable[[Progress], None]
) -> None:
    """Follow the training process until it ended well.

    Raises:
        RankmillError: it did not.
    """
    code = None
    while code is None:
        code = tree.wait(POLL_SECONDS)
        for progress in read_progress(job.directory, skip=seen):
            follow(progress)
            seen += 1
    if code or not seen or Failure.read(job.directory) is not None:
        raise_failure(job, code, context)


def raise_failure(job: RayJob, code: int, context: RunContext) -> NoReturn:
    """Say why the process of a job ended as it should not have; its log is kept with the run where that tells more.

    Raises:
        RankmillError: always, as what the process left, or by its exit status.
    """
    log = job.directory / LOG
    failure = Failure.read(job.directory)
    if failure is not None and type(failure) is not RankmillError:
        raise failure
    context.kept.mkdir(parents=True, exist_ok=True)
    kept = Path(shutil.copy(log, context.kept / "train.log"))
    if failure is not None:
        raise RankmillError(f"{failure}; its log is {kept}")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "it wrote nothing"
    if code >= 128:
        raise RetryableError(
            f"the training process was killed by signal {code - 128} (out of memory?): {last}; "
            f"its log is {kept}, run again"
        )
    raise RankmillError(f"the training process ended with status {code}: {last}; its log is {kept}")


def fill(draft: Path, job: TrainingJob, history: list[EpochReport]) -> None:
    """Write the files of a `Ranker` from those of a job that is done."""
    from features.encoding.files import copy_encoder

    shutil.copy(job.directory / WEIGHTS, draft / WEIGHTS)
    shutil.copy(job.directory / "curves.png", draft / "curves.png")
    shutil.copy(job.dataset / "schema.json", draft / "schema.json")
    copy_encoder(job.dataset, draft)
    if (job.directory / ATTENTION).is_file():  # only of rankers that have maps
        shutil.copy(job.directory / ATTENTION, draft / ATTENTION)
    (draft / CONFIG).write_text(job.config.ranker.model_dump_json(indent=2), encoding="utf-8")
    reports = [report.model_dump(mode="json") for report in history]
    (draft / "history.json").write_text(json.dumps(reports, indent=2), encoding="utf-8")


def areas(report: EpochReport) -> str:
    """Return the validation AUCs and what else rankers are judged by, e.g. ``AUC like 0.7356, love 0.7409``."""
    by_metric: dict[str, list[str]] = {"auc": []}
    for name, value in report.metrics.items():
        _, _, rest = name.partition("validation/")
        task, _, metric = rest.partition("/")
        if metric and metric != "log_loss":
            by_metric.setdefault(metric, []).append(f"{task} {value:.4f}")
    return "; ".join(
        f"{metric.upper()} {', '.join(values) or 'undefined (one class)'}" for metric, values in by_metric.items()
    )


def _short_folder() -> Path:
    """Return a new folder whose path leaves room for Ray's Unix sockets; the process tree deletes it."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="rankmill-ray-", dir=parent if len(parent) + 22 <= _SOCKET_ROOM else "/tmp"))  # noqa: S108 a new folder, only ours
