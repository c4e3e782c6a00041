"""How do the evaluation's figures and page reach the MLflow run of the training?"""

from __future__ import annotations

import re
import time
from pathlib import Path

from components.platform.artifacts import EvaluationReport
from components.platform.errors import MissingError, RetryableError
from registry.evaluation import ALL, Evaluation
from registry.versions.database import reason_of, shown, without_login

FOLDER = "evaluation"
_BATCH = 1000
"""Metrics that MLflow takes in one call."""
_FORBIDDEN = re.compile(r"[^\w\-.: ]|^\.*$")
"""What may not stand in a part of a metric's name; MLflow also refuses empty parts and dots alone."""


def log_evaluation(tracking_uri: str, run_id: str, report: Evaluation, directory: Path) -> None:
    """Write metrics, `report.html` and the plots to one run; the same call again changes nothing.

    Args:
        tracking_uri: MLflow tracking server or database.
        run_id: run of the training.
        report: the figures.
        directory: folder with `report.html` and `plots`.

    Raises:
        MissingError: the run does not exist, or was deleted.
        RetryableError: MLflow could not be reached or written.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in metric_values(report).items()]
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        if client.get_run(run_id).info.lifecycle_stage != "active":
            raise MissingError(
                f"run {run_id} of MLflow at {shown(tracking_uri)}, which trained this model, was deleted: restore it "
                "there and run again to have the figures in it"
            )
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        client.log_artifact(run_id, str(directory / EvaluationReport.page.file), FOLDER)
        client.log_artifacts(run_id, str(directory / "plots"), f"{FOLDER}/plots")
    except (MlflowException, OSError) as error:
        if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":
            raise MissingError(
                f"MLflow at {shown(tracking_uri)} has no run {run_id}, which trained this model: "
                "point MLFLOW_TRACKING_URI at the tracker of the training, or train again without the cache"
            ) from error
        raise _unreachable(tracking_uri, run_id, error) from error


def metric_values(report: Evaluation) -> dict[str, float]:
    """Return every defined value by its MLflow name: ``<split>/<task>/<metric>``, with the domain before the metric."""
    values: dict[str, float] = {}
    for cell in report.cells:
        where = f"{report.split}/{cell.task}" + ("" if cell.domain == ALL else f"/{_FORBIDDEN.sub('_', cell.domain)}")
        values |= {f"{where}/{m}": i.value for m, i in cell.metrics.items() if i.value is not None}
    return values


def _unreachable(tracking_uri: str, run_id: str, error: Exception) -> RetryableError:
    return RetryableError(
        f"cannot log the evaluation to run {run_id} of MLflow at {shown(tracking_uri)}: "
        f"{reason_of(without_login(error, tracking_uri))}; nothing was published, bring MLflow back and run again"
    )
