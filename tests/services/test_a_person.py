"""With PostgreSQL below Airflow: does the person decide whom it knows, once, after a clear as well, and who is told?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote

import pytest

from tests.integration.airflow.conftest import make_world
from tests.integration.airflow.stack import Stack, serving
from tests.local_servers import ask_airflow, wait_for
from tests.receiver import Receiver, receiving
from tests.services.servers import Servers

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
USERS = {"admin": "one of the family", "ada": "another one of it"}
CALL = "{webhook: {connection: on_call}}"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Where the people are told."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(engines: Path, tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Stack]:
    """Airflow with a scheduler, PostgreSQL and two users, a pipeline that asks one of them and one that fails."""
    world = make_world(tmp_path_factory.mktemp("person"), engines)
    file = world.pipeline(
        "asks",
        "  first: {uses: write_words}\n"
        "  decides: {uses: ask_words, in: {words: first.words}, with: {approval: {within: 1h, by: [ada]}}}\n"
        "  rings: {uses: ring_words, in: {words: decides.words}, with: {text: hush}}\n"
        "  loud: {uses: shout_words, in: {words: first.words}, when: rings.bell}\n",
        f"notify: {{approval: {CALL}}}",
    )
    broken = world.pipeline(
        "breaks", "  first: {uses: write_words, with: {outcome: mistake}}\n", f"notify: {{failure: {CALL}}}"
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
            "AIRFLOW_CONN_ON_CALL": f"{receiver.url}/hooks/s3cretpath",
        }
        with serving(world, {"asks": file, "breaks": broken}, **variables) as stack:
            yield stack
    finally:
        servers.__exit__()


def started(ask: Callable[..., Any], dag: str) -> str:
    """Start a run of a DAG once Airflow knows it, and return its id."""
    assert wait_for(lambda: dag in [one["dag_id"] for one in ask("GET", "/dags")["dags"]], 180)
    ask("PATCH", f"/dags/{dag}", {"is_paused": False})
    return str(ask("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": {}})["dag_run_id"])


def asking(stack: Stack, user: str, folder: Path) -> Any:
    """Return what asks Airflow as one of its users."""
    passwords = folder / f"{user}.json"
    passwords.write_text(json.dumps({user: USERS[user]}))
    return lambda *request: ask_airflow(stack.airflow, passwords, *request)


def test_who_is_named_decides_once_and_nobody_else(stack: Stack, receiver: Receiver, tmp_path: Path) -> None:
    admin, ada = asking(stack, "admin", tmp_path), asking(stack, "ada", tmp_path)
    run = started(admin, "asks")
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
    assert admin("GET", task)["state"] == "success"
    said = "approved by ada: read the page"  # what a task says reaches the log after its state has
    assert wait_for(lambda: said in json.dumps(admin("GET", f"{task}/logs/2")), 60), admin("GET", f"{task}/logs/2")

    def state() -> str:
        return str(admin("GET", f"/dags/asks/dagRuns/{quote(run)}")["state"])

    assert wait_for(lambda: state() in ("success", "failed"), 180) and state() == "success"
    tasks = admin("GET", f"/dags/asks/dagRuns/{quote(run)}/taskInstances")["task_instances"]
    assert {task["task_id"]: task["state"] for task in tasks}["loud"] == "skipped"
    told = [body for body in receiver.bodies if body["event"] == "approval"]
    assert told and {body["stage"] for body in told} == {"decides"} and quote(run) in told[0]["run_url"]
    assert "probe v7" in told[0]["what"]


def test_who_is_on_call_is_told_of_a_failure(stack: Stack, receiver: Receiver, tmp_path: Path) -> None:
    admin = asking(stack, "admin", tmp_path)
    run = started(admin, "breaks")
    assert wait_for(lambda: any(body["event"] == "failure" for body in receiver.bodies), 180)
    (body,) = [body for body in receiver.bodies if body["event"] == "failure"]
    assert (body["pipeline"], body["stage"]) == ("breaks", "first") and "unsupported operand" in body["what"]
    assert quote(run) in body["run_url"]
