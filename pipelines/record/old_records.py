"""What do MLflow and the folder of runs still record of what is not kept, and how does it go?"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.contract import MLFLOW_RUN_ID
from components.platform.errors import MissingError
from components.platform.settings import Settings
from components.platform.store.collect import Stored
from pipelines.record.references import kept_runs
from pipelines.record.runs import recorded_runs

if TYPE_CHECKING:
    from pipelines.record.retention import Versions
    from registry.versions.client import ListedVersion


@dataclass(frozen=True)
class OldRecords:
    """What may go."""

    versions: tuple[ListedVersion, ...]
    """Registered versions."""
    runs: tuple[str, ...]
    """Ids of MLflow's runs that no kept version came from, and no stage in the store tells of."""
    folders: tuple[Path, ...]
    """Folders of runs of pipelines."""

    def __str__(self) -> str:
        return (
            f"{len(self.versions)} registered versions, {len(self.runs)} runs of MLflow and "
            f"{len(self.folders)} records of runs"
        )


def find_records(settings: Settings, versions: Versions, stay: Iterable[Stored], since: datetime) -> OldRecords:
    """Return what is recorded of versions that go, and of runs before a moment that nothing needs.

    Args:
        settings: where MLflow and the records are.
        versions: registered versions; those that stay keep the run that they came from.
        stay: stages that stay in the store; they keep the runs that they tell of.
        since: the moment, UTC.

    Raises:
        RankmillError: MLflow cannot be read; then nothing may be deleted.
    """
    from registry.versions.forget import old_runs

    records = [stage.record for stage in stay if stage.record is not None]
    told = {record.annotations[MLFLOW_RUN_ID] for record in records if MLFLOW_RUN_ID in record.annotations}
    kept = {run.folder for run in kept_runs(settings)}
    folders = [run.folder for run in recorded_runs(settings) if run.folder not in kept and run.start.started_at < since]
    try:
        runs = old_runs(settings.tracking_uri, since, {one.run_id for one in versions.stay} | told)
    except MissingError:  # MLflow was never used
        runs = ()
    return OldRecords(versions.go, runs, tuple(folders))


def delete_records(settings: Settings, old: OldRecords) -> Iterator[str]:
    """Delete what may go and yield what was done, line by line.

    Raises:
        RankmillError: MLflow did not let go of it; what was told is done.
    """
    from registry.versions.forget import forget

    if old.versions or old.runs:
        versions, runs, freed = forget(settings.tracking_uri, settings.mlflow_artifacts, old.versions, old.runs)
        later = "" if freed else "; their files go when `mlflow gc` runs on the server"
        yield f"{versions} registered versions and {runs} runs of MLflow deleted{later}"
    for folder in old.folders:
        shutil.rmtree(folder, ignore_errors=True)
    if old.folders:
        yield f"{len(old.folders)} records of runs deleted"
