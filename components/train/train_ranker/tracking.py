"""What does MLflow learn about a training run, and when? Parameters at the start, metrics after each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.train.train_ranker.job import Progress
from registry.versions.client import experiment
from registry.versions.database import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "rankmill.key"
"""Tag that holds the cache key of the stage."""


@dataclass(frozen=True)
class TrackedRun:
    """An open MLflow run.

    Attributes:
        run_id: MLflow's id.
    """

    run_id: str
    client: MlflowClient
    tracking_uri: str

    def log_epoch(self, progress: Progress) -> None:
        """Add an epoch's metrics, named like ``validation_like_auc``, with the epoch as step.

        Raises:
            RetryableError: MLflow cannot be written.
        """
        import time

        from mlflow.entities import Metric

        values = {name.replace("/", "_"): value for name, value in progress.report.metrics.items()}
        values |= {
            "train_loss": progress.report.train_loss, "epoch_seconds": progress.seconds, "workers": progress.workers,
        }  # fmt: skip
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, progress.report.epoch) for name, value in sorted(values.items())]
        with explained(self.tracking_uri):
            self.client.log_batch(self.run_id, metrics=metrics)

    def log_file(self, path: Path) -> None:
        """Add a file to the run's artifacts.

        Raises:
            RetryableError: MLflow cannot be written.
        """
        with explained(self.tracking_uri):
            self.client.log_artifact(self.run_id, str(path))


@contextmanager
def tracked(
    tracking_uri: str,
    artifact_root: str,
    *,
    name: str,
    run_name: str,
    key: str,
    params: Mapping[str, Any],
    tags: dict[str, str],
) -> Iterator[TrackedRun]:
    """Open a run for the length of a ``with`` block: FINISHED when it ends well, FAILED when it raises.

    A run of the same key that is still open was killed, and is closed as that.

    Args:
        tracking_uri: MLflow tracking URI.
        artifact_root: URI of the folder for files when MLflow is embedded.
        name: experiment.
        run_name: name of the run.
        key: cache key of the stage, kept as the tag `KEY`.
        params: parameters, nested ones become ``outer.inner``.
        tags: tags.

    Raises:
        RetryableError: MLflow cannot be written.
    """
    experiment_id = experiment(tracking_uri, name, artifact_root)
    from mlflow import MlflowClient
    from mlflow.entities import Param

    with explained(tracking_uri):
        client = MlflowClient(tracking_uri=tracking_uri)
        for dead in client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}' and attributes.status = 'RUNNING'"):
            client.set_terminated(dead.info.run_id, "KILLED")
        run_id = client.create_run(experiment_id, run_name=run_name, tags=tags | {KEY: key}).info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in _flat(params)])
    try:
        yield TrackedRun(run_id=run_id, client=client, tracking_uri=tracking_uri)
    except BaseException:
        with explained(tracking_uri):
            client.set_terminated(run_id, "FAILED")
        raise
    with explained(tracking_uri):
        client.set_terminated(run_id, "FINISHED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
