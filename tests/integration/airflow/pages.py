"""What does Airflow answer about pipelines? Their DAGs go the way of its DAG processor, then its API is asked.

Run in a process of its own, since Airflow reads its environment when it is imported: the arguments are a folder
with an empty database of Airflow and pipeline files, the answer on stdout is one JSON object, see `Answers`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.integration.airflow.stack import STUB

PAGES = (
    "/api/v2/dags/{dag}/details",
    "/api/v2/dags/{dag}/tasks",
    "/ui/grid/structure/{dag}",
    "/ui/structure/structure_data?dag_id={dag}",
    "/ui/structure/structure_data?dag_id={dag}&external_dependencies=true",
    "/ui/calendar/{dag}?logical_date_gte=2026-01-01T00:00:00Z&logical_date_lte=2027-12-31T00:00:00Z",
    "/ui/next_run_assets/{dag}",
    "/ui/dags?dag_ids={dag}",
    "/api/v2/dags/{dag}/dagRuns",
)
"""What Airflow's pages ask for when somebody opens a DAG."""
GIVEN = {"param_forms": {"until": "1998-04-24"}}
"""Params of a run by hand, by DAG, where they have no default."""


def answers(folder: Path, files: list[Path]) -> dict[str, Any]:
    """Return `errors` by file and, by DAG, the status and JSON of each of `PAGES` and of a run by hand."""
    errors = prepare(folder, files)
    return {"errors": errors} | _ask([path.stem for path in files if path.stem not in errors])


def prepare(folder: Path, files: list[Path]) -> dict[str, str]:
    """Let the Airflow whose empty database lies in a folder know the DAGs of files; return import errors by name."""
    dags = folder / "dags"
    dags.mkdir()
    for path in files:
        (dags / f"{path.stem}.py").write_text(STUB.format(file=path.resolve()))
    os.environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of-a-test" * 8,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    return _store(dags)


def _store(dags: Path) -> dict[str, str]:
    """Parse and store as the DAG processor does; return what it shows as import errors, by name."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session

    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dags, bundle_path=dags, bundle_name="dags-folder")
    sync_bag_to_db(bag, "dags-folder", None)
    with create_session() as session:
        return {Path(str(error.filename)).stem: str(error.stacktrace) for error in session.query(ParseImportError)}


def _ask(dags: list[str]) -> dict[str, Any]:
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    found: dict[str, Any] = {}
    with TestClient(create_app("core"), raise_server_exceptions=False) as client:
        client.headers["Authorization"] = f"Bearer {client.get('/auth/token').json()['access_token']}"
        for dag in dags:
            conf = GIVEN.get(dag, {})
            begun = client.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
            pages = {"run": begun} | {page: client.get(page.format(dag=dag)) for page in PAGES}
            found[dag] = {page: {"status": got.status_code, "body": _body(got)} for page, got in pages.items()}
    return found


def _body(response: Any) -> Any:
    try:
        return response.json()
    except ValueError:
        return response.text


def main() -> None:
    """Answer the arguments."""
    said = json.dumps(answers(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
    sys.stdout.write(f"\n{said}\n")
