"""What does one trial do? It trains as `train_ranker` does with one worker, and ends where it falls behind."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from components.platform.errors import RankmillError
from components.train.train_ranker.checkpoints import rewind
from components.train.train_ranker.job import Failure, Progress, read_progress
from components.train.tune_ranker.records import TrialJob
from components.train.tune_ranker.rungs import stopped

log = logging.getLogger("rankmill")


def run_trial(config: dict[str, str]) -> None:
    """Run a trial in a process of Ray Tune, which is told of each epoch; how it came out is in its folder.

    Args:
        config: ``trial``, the file of a `TrialJob`.
    """
    from ray import tune

    from components.train.train_ranker.ray_launch import keep_freed_memory

    keep_freed_memory()
    job = TrialJob.model_validate_json(Path(config["trial"]).read_text(encoding="utf-8"))
    perform(job, lambda epoch, best: tune.report({"epoch": epoch, "best": best}))


def perform(job: TrialJob, tell: Callable[[int, float], None]) -> None:
    """Train until the end, or until the trial falls behind; one that was interrupted goes on from its checkpoint.

    Whatever it fails with is left in its folder: a trial that diverges is a result.

    Args:
        job: what to do.
        tell: called after each epoch with its number and the best value so far.
    """
    import torch

    from components.train.train_ranker.loop import Replica, train

    folder = job.training.directory
    # As many threads whatever runs beside it, because sums in another order are other sums.
    torch.set_num_threads(1)
    Failure.forget(folder)

    def behind() -> bool:
        best = job.judge.best([line.report for line in read_progress(folder)])
        if best:
            tell(len(best), best[-1])
        return stopped(best, job.trial.cutoffs)

    def ends(_: Progress) -> bool:
        return behind()

    try:
        if rewind(folder) is not None and behind():
            return
        train(job.training, Replica(device=torch.device("cuda" if job.on_gpu else "cpu")), ends)
    except RankmillError as error:
        Failure.write(folder, error)
    except Exception as error:  # a trial must not end the search
        log.exception("trial %d failed", job.trial.number)
        Failure.write(folder, RankmillError(f"{type(error).__name__}: {error}"))
