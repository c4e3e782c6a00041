"""How does a stage train on a cluster that outlives it? A Ray job under a name of its own, found again after a crash.

The job's id is made from the stage's key, so submitting twice is submitting once: a scheduler's task that dies leaves
the job running, and its next try attaches to it instead of starting another.
"""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from components.platform.errors import RetryableError
from components.platform.settings import python_path
from components.train.train_ranker.job import RayJob
from components.train.train_ranker.ray_access import show_token

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PATIENCE_SECONDS = 60.0
"""How long a cluster may not answer before its job counts as lost."""
_POLL_SECONDS = 0.2
log = logging.getLogger("rankmill")


def takes_jobs(address: str | None) -> bool:
    """Return whether an address is that of a cluster's job server: ``http://host:8265``."""
    return address is not None and address.startswith(("http://", "https://"))


class RemoteJob:
    """A training process on a cluster, with the face of `components.platform.process_tree.ProcessTree`.

    Leaving the block with an error stops the job; being killed does not.

    Args:
        job: what to compute; its `ray_address` is the job server's.
        log: file that gets the job's output once it is over.
        prepare: called before the job is submitted, and not when it is running already.
    """

    def __init__(self, job: RayJob, log: Path, prepare: Callable[[], None]) -> None:
        self.job, self.log, self.prepare = job, log, prepare
        self.id = f"rankmill-{job.name}"
        self._silent_since: float | None = None

    def __enter__(self) -> Self:
        """Submit the job, or find it running.

        Raises:
            RetryableError: the cluster does not answer.
        """
        address = str(self.job.ray_address)
        try:
            client = self._client
            known = {info.submission_id: info for info in client.list_jobs()}
            if self.id in known and not known[self.id].status.is_terminal():
                log.info("attaching to job %s, which is running on %s", self.id, address)
                return self
            if self.id in known:
                client.delete_job(self.id)
            self.prepare()
            file = self.job.model_copy(update={"ray_address": "auto"}).write()
            client.submit_job(
                entrypoint=shlex.join([sys.executable, "-m", self.job.module, str(file)]),
                submission_id=self.id,
                runtime_env={"env_vars": _environment()},
            )
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise RetryableError(
                f"the Ray cluster at {address} takes no job: {reason}; start it, or correct RANKMILL_RAY_ADDRESS"
            ) from error
        log.info("submitted job %s to %s", self.id, address)
        return self

    def wait(self, seconds: float) -> int | None:
        """Return the job's exit status, or None when it still runs after `seconds`.

        Raises:
            RetryableError: the cluster does not answer for a minute, or knows nothing of the job.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = self._exit_status()
            if found is not None:
                self._keep_output()
                return found
            if time.monotonic() > deadline:
                return None
            time.sleep(min(_POLL_SECONDS, seconds))

    @cached_property
    def _client(self) -> JobSubmissionClient:
        """The job server; making it asks for its version, so it fails where nobody answers."""
        show_token()
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(str(self.job.ray_address))

    def _exit_status(self) -> int | None:
        try:
            info = self._client.get_job_info(self.id)
        except (OSError, RuntimeError) as error:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if "does not exist" in str(error) or now - self._silent_since > PATIENCE_SECONDS:
                raise RetryableError(
                    f"the Ray cluster at {self.job.ray_address} lost job {self.id}: "
                    f"{str(error).strip().splitlines()[0][:200]}; run again"
                ) from error
            return None
        self._silent_since = None
        if not info.status.is_terminal():
            return None
        if info.driver_exit_code is not None:
            code = int(info.driver_exit_code)
            return 128 - code if code < 0 else code
        return 0 if info.status == "SUCCEEDED" else 137

    def _keep_output(self) -> None:
        try:
            self.log.write_text(self._client.get_job_logs(self.id), encoding="utf-8")
        except (OSError, RuntimeError) as error:
            log.warning("the output of job %s is not to be had: %s", self.id, error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the job if the block ends with an error while it runs."""
        if kind is None or issubclass(kind, RetryableError):
            return
        try:
            self._client.stop_job(self.id)
        except (OSError, RuntimeError) as failed:
            log.warning("job %s may still run: %s", self.id, failed)


def _environment() -> dict[str, str]:
    """Return what the job needs: no variable of this process's own, because Ray logs and shows them all."""
    return {
        "PYTHONPATH": python_path(),
        "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # the driver says how many threads its workers take
    }
