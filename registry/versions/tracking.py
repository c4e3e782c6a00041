"""What does MLflow learn about a run, and when? Parameters at the start, figures and files on the way, how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.ground.errors import BadInputError, MissingError
from registry.versions.database import asking, initialise, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "rankmill.key"
"""Tag that holds the cache key of the stage."""
PARENT = "mlflow.parentRunId"
"""Tag by which MLflow shows a run below another one."""
_BATCH = 1000
"""Metrics that MLflow takes in one call."""


@dataclass(frozen=True)
class TrackedRun:
    """A run of MLflow that takes figures and files; what it cannot take raises the sentences of `explained`."""

    tracking_uri: str
    run_id: str

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add figures by name.

        Raises:
            RetryableError: MLflow cannot be reached or written.
        """
        with asking(self.tracking_uri) as client:
            from mlflow.entities import Metric

            now = int(time.time() * 1000)
            metrics = [Metric(name, value, now, step) for name, value in sorted(values.items())]
            for start in range(0, len(metrics), _BATCH):
                client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def log_child(
        self,
        name: str,
        params: Mapping[str, Any],
        steps: Mapping[int, Mapping[str, float]],
        tags: Mapping[str, str],
        *,
        failed: bool,
    ) -> None:
        """Add a run that is over below this one: a trial of a search.

        Args:
            name: what it is called.
            params: what it was given.
            steps: figures by name, by step.
            tags: what else is known of it.
            failed: whether it ended without a result.

        Raises:
            RetryableError: MLflow cannot be reached or written.
        """
        with asking(self.tracking_uri) as client:
            from mlflow.entities import Metric, Param

            now = int(time.time() * 1000)
            experiment_id = client.get_run(self.run_id).info.experiment_id
            below = {PARENT: self.run_id} | dict(tags)
            run_id = client.create_run(experiment_id, run_name=name, tags=below).info.run_id
            metrics = [Metric(key, value, now, step) for step, found in steps.items() for key, value in found.items()]
            given = [Param(key, str(value)) for key, value in _flat(params)]
            for start in range(0, max(1, len(metrics)), _BATCH):
                client.log_batch(run_id, metrics=metrics[start : start + _BATCH], params=[] if start else given)
            client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def log_files(self, path: Path, folder: str | None = None) -> None:
        """Add a file, or everything in a folder, to the run's artifacts; equal names are replaced.

        Raises:
            RetryableError: MLflow cannot be reached or written.
        """
        with asking(self.tracking_uri) as client:
            (client.log_artifacts if path.is_dir() else client.log_artifact)(self.run_id, str(path), folder)


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

    Raises:
        RetryableError: MLflow cannot be reached or written.
    """
    experiment_id = experiment(tracking_uri, name, artifact_root)
    with asking(tracking_uri) as client:
        from mlflow.entities import Param

        for dead in client.search_runs([experiment_id], f"tags.`{KEY}` = '{key}' and attributes.status = 'RUNNING'"):
            client.set_terminated(dead.info.run_id, "KILLED")
        run_id = client.create_run(experiment_id, run_name=run_name, tags=tags | {KEY: key}).info.run_id
        client.log_batch(run_id, params=[Param(key, str(value)) for key, value in _flat(params)])
    ended = "FAILED"
    try:
        yield TrackedRun(tracking_uri, run_id)
        ended = "FINISHED"
    finally:
        with asking(tracking_uri) as client:
            client.set_terminated(run_id, ended)


def run_of_training(tracking_uri: str, run_id: str) -> TrackedRun:
    """Return the run that trained a model, to add what was found out later.

    Raises:
        MissingError: this tracker does not hold the run, or it was deleted.
        RetryableError: MLflow cannot be reached.
    """
    with asking(tracking_uri) as client:
        stage = lifecycle_stage(client, run_id)
    if stage is None:
        raise MissingError(
            f"MLflow at {shown(tracking_uri)} has no run {run_id}, which trained this model: "
            "point MLFLOW_TRACKING_URI at the tracker of the training, or train again without the cache"
        )
    if stage != "active":
        raise MissingError(
            f"run {run_id} of MLflow at {shown(tracking_uri)}, which trained this model, was deleted: restore it "
            "there and run again to have the figures in it"
        )
    return TrackedRun(tracking_uri, run_id)


def lifecycle_stage(client: MlflowClient, run_id: str) -> str | None:
    """Return whether a run is ``active`` or ``deleted``, None when this tracker holds no such run."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage)
    except MlflowException as error:
        if "RESOURCE_DOES_NOT_EXIST" in str(error.error_code):
            return None
        raise


def experiment(tracking_uri: str, name: str, artifact_root: str | None = None) -> str:
    """Return the id of an experiment, created with its files under `artifact_root` when it is new.

    Raises:
        BadInputError: an experiment of this name was deleted.
        RetryableError: the database is locked or the server does not answer.
    """
    initialise(tracking_uri, artifact_root)
    with asking(tracking_uri) as client:
        found = client.get_experiment_by_name(name)
        if found is None:
            located = artifact_root is not None and not tracking_uri.startswith("http")
            try:
                return str(client.create_experiment(name, f"{artifact_root}/{name}" if located else None))
            except Exception as error:
                if "RESOURCE_ALREADY_EXISTS" not in str(getattr(error, "error_code", "")):
                    raise
                found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise BadInputError(f"MLflow experiment {name!r} was deleted: restore it in MLflow or rename the pipeline")
        return str(found.experiment_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
