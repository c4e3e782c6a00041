"""How does the training process run the loop on Ray Train workers, and end with one sentence when it cannot?

Run as ``python -m components.train.train_ranker.ray_launch JOB.json`` under `components.platform.process_tree`.

Two defaults of the C libraries cost a step on a CPU a third of its time. Threads of OpenMP that wait for work either
sleep at once, and are slow to wake some hundred times a step, or turn for so long that two trainings on the same
processors take five times as long as one after the other. And glibc gives freed blocks of some MiB back to the system,
to ask for them again at the next step, one page of 4 KiB at a time.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from components.platform.errors import BadInputError, RankmillError, RetryableError
from components.platform.settings import python_path
from components.train.train_ranker.config import Elastic
from components.train.train_ranker.job import Failure, RayJob, TrainingJob, run_job
from components.train.train_ranker.ray_access import close_to_others, show_token
from features.ground.imports import importing

if TYPE_CHECKING:
    from components.train.train_ranker.file_meeting import FileMeeting
    from components.train.train_ranker.loop import Replica

OBJECT_STORE_BYTES = 200 * 1024 * 1024
"""Rows are read from memory-mapped files, so Ray's object store carries next to nothing."""
SMALL_CLUSTER = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
"""A local cluster lives for one run on one machine: without the helpers of a shared one it starts in half the time."""
SESSIONS = "r"
"""Folder of Ray's sockets and logs, which Ray opens to everybody, inside one that nobody else may enter."""
MEETING = "meeting"
"""Folder of a training on a cluster where its workers find each other."""
RESIZE_SECONDS = 30.0
"""How often a cluster is asked whether it has room for more workers, or for fewer."""
LOCAL_WORKERS = 1
"""Most workers that need no cluster: one talks to nobody, so it runs in the training process itself."""
SPINS = 10_000
"""Turns, a tenth of a millisecond or so, before a thread that waits for work sleeps. Measured on two processors, ms a
step: alone 24, two trainings beside each other 68; with threads that sleep at once 36 and 41, by default 23 and 238."""
KEPT_BYTES = 2**30
"""Freed memory that the process may keep for itself."""
LARGE_BYTES = 32 * 2**20
"""Blocks of at least this size go back when they are freed: the most that glibc accepts here."""
# Numbers of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
log = logging.getLogger("rankmill")


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that a process needs before it imports torch."""
    return {"OMP_NUM_THREADS": str(max(1, threads)), "GOMP_SPINCOUNT": str(SPINS)}


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of what it frees; where the C library is not glibc, nothing changes."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def usable_cpus() -> int:
    """Return the CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refuse_oversized(workers: int, available: float, what: str, where: str) -> None:
    """Fail at once instead of waiting for resources that will never come.

    Raises:
        BadInputError: there are fewer of `what` than workers.
    """
    if workers > available:
        raise BadInputError(
            f"workers: {workers} need {workers} {what}, {where} has {available:g}: "
            f"lower workers to at most {max(1, int(available))}, or use a larger cluster"
        )


def launch(job: TrainingJob) -> None:
    """Run the job on Ray Train until it is done.

    Raises:
        BadInputError: more workers than CPUs, or GPUs when they are asked for.
        RetryableError: a worker or the cluster was lost.
    """
    workers = job.config.workers_for(usable_cpus()) if job.ray_address is None else job.config.least_workers
    environment = {"PYTHONPATH": python_path()} | thread_environment(usable_cpus() // workers)
    if workers <= LOCAL_WORKERS and job.ray_address is None:
        os.environ |= environment
        _launch_here(job)
        return
    set_access(job)
    if job.ray_address is None:
        refuse_oversized(job.config.least_workers, usable_cpus(), "CPUs", "this machine")
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from components.train.train_ranker.lone_cluster import LoneTrainer

    connect(job, environment)
    log.info("Ray is up")
    try:
        where = f"the Ray cluster at {job.ray_address}" if job.ray_address else "this machine"
        resources = ray.cluster_resources()
        refuse_oversized(job.config.least_workers, resources.get("CPU", 0), "CPUs", where)
        on_gpu = _use_gpu(job, resources.get("GPU", 0), where)
        room = resources.get("GPU" if on_gpu else "CPU", 0)
        log.info("starting %d workers, each with one %s", job.config.workers_for(room), "GPU" if on_gpu else "CPU")
        trainer = (DataParallelTrainer if job.ray_address else LoneTrainer)(
            _worker,
            train_loop_config={"job": job.model_dump_json()},
            backend_config=_meeting(job, "nccl" if on_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=_group(job, room),
                use_gpu=on_gpu,
                resources_per_worker={"CPU": 1} | ({"GPU": 1} if on_gpu else {}),
                elastic_resize_monitor_interval_s=RESIZE_SECONDS,
            ),
            # The folder is new in every process: what goes on from where is for checkpoints of our own to say.
            run_config=RunConfig(
                name=job.name, storage_path=str(job.directory / "ray"), failure_config=FailureConfig(max_failures=0)
            ),
        )
        _fit(trainer, job)
        log.info("the workers are done")
    finally:
        ray.shutdown()
        log.info("Ray is down")


def set_access(job: RayJob) -> None:
    """Say who may speak to the cluster; Ray reads it once, when it is imported."""
    if job.ray_address:
        show_token()
        return
    close_to_others(job.private)


def _meeting(job: TrainingJob, backend: str) -> FileMeeting:
    """Return how the workers find each other: through a file, because a server would be open to all."""
    from components.train.train_ranker.file_meeting import FileMeeting

    return FileMeeting(backend, job.directory / MEETING if job.ray_address else job.private)


def _group(job: TrainingJob, room: float) -> int | tuple[int, int]:
    """Return how many workers to start, or the least and the most of a group whose size follows the cluster's."""
    asked = job.config.workers
    return (asked.min, asked.max) if isinstance(asked, Elastic) and job.ray_address else job.config.workers_for(room)


def _launch_here(job: TrainingJob) -> None:
    """Run the job's only worker in this process: Ray would cost seconds and have nobody to bring together."""
    with importing():
        import torch

        from components.train.train_ranker.loop import Replica

    on_gpu = _use_gpu(job, torch.cuda.device_count(), "this machine")
    log.info("starting one worker in this process, on the %s", "GPU" if on_gpu else "CPU")
    try:
        _learn(job, Replica(device=torch.device("cuda" if on_gpu else "cpu")), usable_cpus())
    except Exception:
        log.exception("training failed")
        if Failure.read(job.directory) is None:
            raise
    log.info("the worker is done")


def connect(job: RayJob, environment: dict[str, str]) -> None:
    """Join the job's cluster, or start one on this machine that nobody else can see.

    Raises:
        RetryableError: the cluster cannot be reached.
    """
    import ray

    from components.train.train_ranker.lone_cluster import start

    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if job.ray_address:
        try:
            knock(job.ray_address)
            ray.init(address=job.ray_address, runtime_env={"env_vars": environment}, **common)
        except (OSError, ValueError, RuntimeError) as error:
            raise RetryableError(
                f"cannot reach the Ray cluster at {job.ray_address}: {error}; start it, or unset RANKMILL_RAY_ADDRESS"
            ) from error
        return
    # Local workers inherit this environment; a runtime_env would make Ray start each of them twice.
    for name, value in SMALL_CLUSTER.items():
        os.environ.setdefault(name, value)
    os.environ |= environment
    start(
        num_cpus=usable_cpus(),
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(job.private / SESSIONS),
        **common,
    )


def knock(address: str) -> None:
    """Open and close a connection, because Ray itself tries for minutes.

    Raises:
        OSError: nobody answers.
        ValueError: the address has no port.
    """
    url = urlsplit(address if "://" in address else f"ray://{address}")
    if address != "auto" and (url.hostname is None or url.port is None):
        raise ValueError(f"{address!r} is not host:port or ray://host:port")
    if address != "auto":
        socket.create_connection((str(url.hostname), int(url.port or 0)), timeout=10).close()


def _use_gpu(job: TrainingJob, gpus: float, where: str) -> bool:
    if job.config.device == "cuda":
        refuse_oversized(job.config.least_workers, gpus, "GPUs", where)
    return job.config.device != "cpu" and gpus >= job.config.least_workers


def _fit(trainer: Any, job: TrainingJob) -> None:
    from ray.train import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        log.exception("training failed")
        if Failure.read(job.directory) is not None:
            return
        causes = list(getattr(error, "worker_failures", {}).values())
        reason = str(causes[0] if causes else error).strip().splitlines()[-1]
        if causes and all(isinstance(cause, Exception) and _is_loss_of_worker(cause) for cause in causes):
            raise RetryableError(f"a training worker was lost: {reason}; run again") from error
        raise
    Failure.forget(job.directory)  # of workers that were stopped to start a group of another size


def _is_loss_of_worker(error: Exception) -> bool:
    from ray.exceptions import RayError, RayTaskError

    # How Ray Train says that a worker stopped answering has no public name.
    silent = type(error).__name__ in ("WorkerHealthCheckFailedError", "WorkerHealthCheckTimeoutError")
    return silent or (isinstance(error, RayError) and not isinstance(error, RayTaskError))


def _worker(config: dict[str, str]) -> None:
    """Run the loop as one worker of the group."""
    import ray.train
    from ray.train.torch import get_device

    from components.train.train_ranker.loop import Replica

    context = ray.train.get_context()
    replica = Replica(rank=context.get_world_rank(), world=context.get_world_size(), device=get_device())
    threads = max(1, usable_cpus() // context.get_local_world_size())
    logging.basicConfig(level=logging.INFO)
    _learn(TrainingJob.model_validate_json(config["job"]), replica, threads)


def _learn(job: TrainingJob, replica: Replica, threads: int) -> None:
    """Run the loop in this process, and leave in the job's directory why it failed."""
    with importing():
        import torch

        from components.train.train_ranker.attention import leave_attention
        from components.train.train_ranker.loop import train

    gc.freeze()  # what was imported stays, and need not be looked at between steps
    torch.set_num_threads(threads)
    keep_freed_memory()
    log.info("worker %d of %d", replica.rank + 1, replica.world)
    try:
        if not job.dataset.is_dir():
            raise BadInputError(
                f"a worker cannot see {job.dataset}: on a Ray cluster RANKMILL_HOME and RANKMILL_ARTIFACTS must be "
                "on storage that every node mounts"
            )
        ranker = train(job, replica)
        if replica.rank == 0:
            leave_attention(job, ranker)
    except RankmillError as error:
        Failure.write(job.directory, error)
        raise
    except Exception as error:
        # Written before the other workers notice, so that they do not report a lost worker instead.
        Failure.write(job.directory, RankmillError(f"training failed: {type(error).__name__}: {error}"))
        raise


if __name__ == "__main__":
    sys.exit(run_job(TrainingJob, Path(sys.argv[1]), launch))
