"""How do versions and runs leave MLflow for good, with their files?

MLflow deletes in two steps: what is deleted is only marked, and is taken away where its database is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from features.ground.remote_files import name_below
from registry.versions.client import ListedVersion
from registry.versions.database import asking, locked, require, sqlite_file
from registry.versions.tracking import KEY
from registry.versions.version_files import roots_of

if TYPE_CHECKING:
    from mlflow import MlflowClient


def old_runs(tracking_uri: str, before: datetime, keep: Collection[str]) -> tuple[str, ...]:
    """Return the ids of the ended runs that stages began before a moment, but for some; runs of others are not ours.

    Raises:
        MissingError: there is no database yet.
        RetryableError: MLflow cannot be reached.
    """
    require(tracking_uri)
    found: list[str] = []
    where = f"attributes.start_time < {int(before.timestamp() * 1000)} and attributes.status != 'RUNNING'"
    with asking(tracking_uri) as client:
        for one in client.search_experiments():
            token = None
            while True:
                page = client.search_runs([one.experiment_id], where, max_results=1000, page_token=token)
                found += [run.info.run_id for run in page if KEY in run.data.tags and run.info.run_id not in keep]
                token = page.token
                if not token:
                    break
    return tuple(sorted(found))


def forget(
    tracking_uri: str, artifact_root: str | None, versions: Sequence[ListedVersion], runs: Sequence[str]
) -> tuple[int, int, bool]:
    """Delete versions and runs, with their files where MLflow's database is a file of this machine.

    A version that got an alias meanwhile stays, and so does the run that it came from. Files outside the configured
    roots stay: whoever may write to MLflow may say that they lie anywhere.

    Returns:
        How many versions and runs were deleted, and whether their files are gone too. On a server of MLflow they are
        only marked, and `mlflow gc` frees them there.

    Raises:
        RetryableError: MLflow cannot be reached; some may be deleted already.
    """
    models: list[str] = []
    gone, spared = 0, set[str]()
    with locked(tracking_uri), asking(tracking_uri) as client:
        for listed in versions:
            version = listed.version
            aliases = client.get_registered_model(version.model).aliases
            if str(version.version) in {str(number) for number in aliases.values()}:
                spared.add(listed.run_id)
                continue
            client.delete_model_version(version.model, str(version.version))
            gone += 1
            if version.model_uri.startswith("models:/m-"):
                models.append(version.model_uri.removeprefix("models:/").partition("/")[0])
        ended = [run for run in runs if run not in spared]
        places = [(str(client.get_logged_model(one).artifact_location), one, "logged_model") for one in models]
        places += [(str(client.get_run(one).info.artifact_uri), one, "run") for one in ended]
        for _, one, kind in places:
            (client.delete_run if kind == "run" else client.delete_logged_model)(one)
        freed = sqlite_file(tracking_uri) is not None
        for uri, one, kind in places if freed else ():
            _free(client, uri, one, kind, roots_of(tracking_uri, artifact_root))
    return gone, len(ended), freed


def _free(client: MlflowClient, uri: str, marked: str, kind: str, roots: Sequence[str]) -> None:
    """Take away a marked run or model; `mlflow gc` would take away whatever else people have marked as well."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if any(name_below(root, uri) is not None for root in roots):
        get_artifact_repository(uri).delete_artifacts()
    store = client._tracking_client.store
    if (delete := getattr(store, f"_hard_delete_{kind}", None)) is not None:  # none of its public names
        delete(marked)
