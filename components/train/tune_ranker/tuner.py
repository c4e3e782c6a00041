"""How does the tuning process run trials on Ray Tune, and end with one sentence when it cannot?

Run as ``python -m components.train.tune_ranker.tuner JOB.json`` under `components.platform.process_tree`.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

from components.platform.settings import python_path
from components.train.train_ranker.job import run_job
from components.train.train_ranker.ray_launch import connect, refuse_oversized, set_access, thread_environment
from components.train.tune_ranker.records import Judge, TuningJob, read_records
from components.train.tune_ranker.search import Search

QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Ray Tune writes no files of its own but those that it cannot do without; the folder with them is deleted."""
TRIES = 2
"""How often a trial whose process is lost starts again, from its checkpoint."""
log = logging.getLogger("rankmill")


def tune(job: TuningJob) -> None:
    """Run trials until the search is over; each that ends is a line of `trials.jsonl`.

    Raises:
        BadInputError: fewer GPUs than trials at once where they are asked for.
        RetryableError: the cluster cannot be reached.
    """
    config = job.config
    environment = {"PYTHONPATH": python_path()} | thread_environment(1) | QUIET
    os.environ |= environment
    set_access(job)
    metric, tasks = config.metric_of(job.judge_by, job.feedback)
    judge = Judge(metric=metric, tasks=tasks)
    records = read_records(job.directory)
    search = Search(config, judge, records)
    import ray
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner, with_resources

    from components.train.tune_ranker.suggest import Suggestions
    from components.train.tune_ranker.trial import run_trial

    connect(job, environment)
    try:
        where = f"the Ray cluster at {job.ray_address}" if job.ray_address else "this machine"
        gpus = ray.cluster_resources().get("GPU", 0)
        if config.device == "cuda":
            refuse_oversized(1, gpus, "GPUs", where)
        share = min(1.0, gpus / config.at_once) if config.device != "cpu" else 0.0
        spent = sum(record.seconds for record in records) / config.at_once
        suggestions = Suggestions(job, search, judge, share > 0, spent)
        tuner = Tuner(
            with_resources(run_trial, {"cpu": 1} | ({"gpu": share} if share else {})),
            tune_config=TuneConfig(
                search_alg=suggestions,
                metric="best",
                mode="max",
                num_samples=-1,
                max_concurrent_trials=config.at_once,
                reuse_actors=True,
            ),
            run_config=RunConfig(
                name=job.name,
                storage_path=str(job.directory / "ray"),
                failure_config=FailureConfig(max_failures=TRIES),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        tuner.fit()
        log.info("the search is over")
    finally:
        ray.shutdown()
        shutil.rmtree(job.directory / "ray", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_job(TuningJob, Path(sys.argv[1]), tune))
