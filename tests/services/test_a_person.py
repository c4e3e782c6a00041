"""Does the person decide whom Airflow knows, once, with PostgreSQL below it, and after a clear as well?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.integration.airflow.conftest import make_world
from tests.integration.airflow.stack import Stack, serving
from tests.local_servers import ask_airflow, wait_for
from tests.services.servers import Servers

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
USERS = {"admin": "one of the family", "ada": "another one of it"}


@pytest.fixture(scope="module")
def stack(engines: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Airflow with a scheduler, PostgreSQL and two users, and a pipeline whose second stage asks one of them."""
    world = make_world(tmp_path_factory.mktemp("person"), engines)
    file = world.pipeline(
        "asks",
        "  first: {uses: write_words}\n"
        "  decides: {uses: ask_words, in: {words: first.words}, with: {approval: {within: 1h, by: [ada]}}}\n",
    )
    passwords = world.home / "airflow" / "passwords.json"
    passwords.write_text(json.dumps(USERS))
    servers = Servers()
    servers.folder.chmod(0o711)
    servers.start_postgres()
    try:
        variables = {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": servers.postgres_url("airflow"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,ada:op",
        }
        with serving(world, {"asks": file}, **variables) as stack:
            yield stack
    finally:
        servers.__exit__()


def asking(stack: Stack, user: str, folder: Path) -> Any:
    """Return what asks Airflow as one of its users."""
    passwords = folder / f"{user}.json"
    passwords.write_text(json.dumps({user: USERS[user]}))
    return lambda *request: ask_airflow(stack.airflow, passwords, *request)


def test_who_is_named_decides_once_and_nobody_else(stack: Stack, tmp_path: Path) -> None:
    admin, ada = asking(stack, "admin", tmp_path), asking(stack, "ada", tmp_path)
    assert wait_for(lambda: "asks" in [dag["dag_id"] for dag in admin("GET", "/dags")["dags"]], 180)
    admin("PATCH", "/dags/asks", {"is_paused": False})
    run = admin("POST", "/dags/asks/dagRuns", {"logical_date": None, "conf": {}})["dag_run_id"]
    task = f"/dags/asks/dagRuns/{quote(run)}/taskInstances/decides"

    def waits() -> bool:
        return bool(admin("GET", task)["state"] == "awaiting_input")

    assert wait_for(waits, 180), admin("GET", task)
    first = admin("GET", f"{task}/-1/hitlDetails")
    assert [user["id"] for user in first["assigned_users"]] == ["ada"]

    time.sleep(5)  # until the scheduler has seen that the worker let go
    which = {"dag_run_id": run, "task_ids": ["decides"], "only_failed": False, "dry_run": False}
    admin("POST", "/dags/asks/clearTaskInstances", which)
    assert wait_for(lambda: admin("GET", task)["try_number"] == 2 and waits(), 180), admin("GET", task)
    again = admin("GET", f"{task}/-1/hitlDetails")
    assert (again["subject"], again["body"]) == (first["subject"], first["body"])

    yes = {"chosen_options": ["Promote"], "params_input": {"note": "read the page"}}
    with pytest.raises(HTTPError, match="403"):
        admin("PATCH", f"{task}/-1/hitlDetails", yes)
    time.sleep(5)
    ada("PATCH", f"{task}/-1/hitlDetails", yes)
    with pytest.raises(HTTPError, match="409"):
        ada("PATCH", f"{task}/-1/hitlDetails", {"chosen_options": ["Refuse"], "params_input": {"note": ""}})
    assert wait_for(lambda: admin("GET", task)["state"] in ("success", "failed"), 180)
    log = json.dumps(admin("GET", f"{task}/logs/2"))
    assert "approved by ada: read the page" in log and admin("GET", task)["state"] == "success"
