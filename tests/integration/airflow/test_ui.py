"""Does `rankmill ui` give a working Airflow and MLflow on loopback, and leave nothing behind?"""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.integration.airflow.conftest import World
from tests.integration.airflow.stack import Stack, serving
from tests.local_servers import ask_airflow_page, free_port, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.timeout(420)]


@pytest.fixture(scope="module")
def stack(world: World) -> Iterator[Stack]:
    files = {
        "talk": world.pipeline(
            "talk",
            '  first: {uses: write_words, with: {text: "${params.text}"}}\n'
            "  second: {uses: shout_words, in: {words: first.words}}\n",
            "params: {text: {type: string, default: hi}}",
        ),
        "echo": world.pipeline(
            "echo",
            "  first: {uses: write_words}\n",
            "schedule: {cron: '0 2 1 1 *', assets: [talk.second.words]}",
        ),
        "twin": world.pipeline("twin", "  first: {uses: write_words, with: {text: rest}}\n"),
        "asks": world.pipeline(
            "asks",
            "  first: {uses: write_words}\n"
            "  anybody: {uses: ask_words, in: {words: first.words}, with: {approval: {within: 1h}}}\n"
            "  ada: {uses: ask_words, in: {words: anybody.words}, with: {approval: {within: 30s, by: [ada]}}}\n",
        ),
        "broken": world.pipeline("broken", "  first: {uses: write_word}\n"),
    }
    with serving(world, files) as stack:
        yield stack


def test_it_says_where_the_pages_are_and_how_to_log_in(stack: Stack) -> None:
    said = stack.output.read_text()
    assert f"http://127.0.0.1:{stack.airflow}" in said and f"http://127.0.0.1:{stack.mlflow}" in said
    [(user, password)] = json.loads(stack.passwords.read_text()).items()
    assert stack.passwords.stat().st_mode & 0o777 == 0o600
    assert f"user {user}, password {password}, kept in {stack.passwords}" in said
    assert urlopen(f"http://127.0.0.1:{stack.mlflow}/", timeout=20).status == 200


def refused(url: str, host: str) -> int:
    """The status of an answer to a request without a login that names `host`."""
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(url, headers={"Host": host}), timeout=20)
    return caught.value.code


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost"])
def test_a_page_of_the_web_gets_no_token_and_no_answer(stack: Stack, host: str) -> None:
    """A name of the web may lead to 127.0.0.1: who has no password is nobody, whatever the request names."""
    airflow, mlflow = f"http://127.0.0.1:{stack.airflow}", f"http://127.0.0.1:{stack.mlflow}"
    assert refused(f"{airflow}/auth/token", host) == 403
    for path in ("/api/v2/dags", "/api/v2/connections", "/api/v2/variables"):
        assert refused(airflow + path, host) == 401
    if host != "localhost":
        assert refused(f"{mlflow}/ajax-api/2.0/mlflow/experiments/search?max_results=1", host) == 403
        assert refused(f"{mlflow}/api/2.0/mlflow/experiments/search?max_results=1", host) == 403


def test_a_triggered_run_succeeds_and_an_unknown_param_does_not(stack: Stack) -> None:
    assert wait_for(
        lambda: [d["dag_id"] for d in stack.ask("GET", "/dags")["dags"]] == ["asks", "echo", "talk", "twin"]
    )
    stack.ask("PATCH", "/dags/talk", {"is_paused": False})

    good = stack.trigger("talk", {"text": "rest"})
    assert wait_for(lambda: stack.state("talk", good) in ("success", "failed"))
    assert stack.state("talk", good) == "success"
    log = stack.ask("GET", f"/dags/talk/dagRuns/{quote(good)}/taskInstances/second/logs/1")
    assert "wrote REST" in json.dumps(log)
    events = {event["name"]: event["extra"] for event in stack.ask("GET", "/assets/events")["asset_events"]}
    assert set(events) == {"talk.first.words", "talk.second.words"}
    assert events["talk.second.words"]["uri"].endswith("/words") and len(events["talk.second.words"]["digest"]) == 64

    again = stack.trigger("talk", {"text": "rest"})
    assert wait_for(lambda: stack.state("talk", again) in ("success", "failed"))
    assert stack.state("talk", again) == "success"
    assert stack.ask("GET", "/assets/events")["total_entries"] == 2, "what comes from the store is no news"

    stack.ask("PATCH", "/dags/twin", {"is_paused": False})
    for _ in range(2):
        same = stack.trigger("twin", {})
        assert wait_for(lambda run=same: stack.state("twin", run) in ("success", "failed"))
    events = stack.ask("GET", "/assets/events")["asset_events"]
    assert [event["name"] for event in events].count("twin.first.words") == 1, (
        "its asset is new, whoever made the words"
    )

    bad = stack.trigger("talk", {"txt": "rest"})
    assert wait_for(lambda: stack.state("talk", bad) in ("success", "failed"))
    assert stack.state("talk", bad) == "failed"
    log = stack.ask("GET", f"/dags/talk/dagRuns/{quote(bad)}/taskInstances/first/logs/1")
    assert "no param 'txt'" in json.dumps(log)


def test_a_person_answers_in_airflow_as_who_they_are(stack: Stack) -> None:
    """The stage waits without a worker, goes on with who answered, and asks only whom the file names."""
    assert wait_for(lambda: "asks" in [dag["dag_id"] for dag in stack.ask("GET", "/dags")["dags"]])
    stack.ask("PATCH", "/dags/asks", {"is_paused": False})
    run = stack.trigger("asks", {})
    tasks = f"/dags/asks/dagRuns/{quote(run)}/taskInstances"

    def waits(stage: str) -> bool:
        return bool(stack.ask("GET", f"{tasks}/{stage}")["state"] == "awaiting_input")

    assert wait_for(lambda: waits("anybody")), stack.ask("GET", tasks)
    asked = stack.ask("GET", f"{tasks}/anybody/-1/hitlDetails")
    assert asked["subject"] == "May probe v7 become champion instead of v6?"
    assert "Verdict page: `/verdict.html`" in asked["body"] and asked["options"] == ["Promote", "Refuse"]
    assert asked["defaults"] == ["Refuse"] and asked["assigned_users"] == []
    yes = {"chosen_options": ["Promote"], "params_input": {"note": "looked"}}

    answered: set[int] = set()

    def went_on() -> bool:
        """Answer each try once; Airflow 3.3 fails one whose answer its scheduler reads before the worker's farewell."""
        task = stack.ask("GET", f"{tasks}/anybody")
        if task["state"] == "failed":
            again = {"dry_run": False, "dag_run_id": run, "task_ids": ["anybody"], "include_downstream": True}
            stack.ask("POST", "/dags/asks/clearTaskInstances", again)
        elif task["state"] == "awaiting_input" and task["try_number"] not in answered:
            time.sleep(5)
            stack.ask("PATCH", f"{tasks}/anybody/-1/hitlDetails", yes)
            answered.add(task["try_number"])
        return bool(task["state"] == "success")

    assert wait_for(went_on, 180), stack.ask("GET", f"{tasks}/anybody")
    assert wait_for(lambda: waits("ada")), stack.ask("GET", f"{tasks}/ada")
    tried = stack.ask("GET", f"{tasks}/anybody")["try_number"]
    log = json.dumps(stack.ask("GET", f"{tasks}/anybody/logs/{tried}"))
    assert "approved by admin: looked" in log, "the name is that of Airflow's login"

    with pytest.raises(HTTPError, match="403"):
        stack.ask("PATCH", f"{tasks}/ada/-1/hitlDetails", yes)
    assert wait_for(lambda: stack.state("asks", run) == "failed", 120)
    log = json.dumps(stack.ask("GET", f"{tasks}/ada/logs/1"))
    assert "declined by nobody: -" in log and "Traceback" not in log, "the deadline passed"


def test_rankmills_page_is_there_for_who_is_logged_in_and_shows_the_report_of_a_run(stack: Stack) -> None:
    (plugin,) = [one for one in stack.ask("GET", "/plugins")["plugins"] if one["name"] == "rankmill"]
    places = {view["destination"]: view["href"] for view in plugin["external_views"]}
    run = stack.trigger("talk", {"text": "shown"})
    assert wait_for(lambda: stack.state("talk", run) in ("success", "failed"))
    report = places["dag_run"].replace("{DAG_ID}", "talk").replace("{RUN_ID}", quote(run, safe=""))
    for path in (places["nav"], report):
        assert refused(f"http://127.0.0.1:{stack.airflow}{path}", "localhost") == 401
        page = ask_airflow_page(stack.airflow, stack.passwords, path).decode()
        assert "talk" in page and "wrote SHOWN" in page


def test_a_new_artifact_starts_the_dag_that_waits_for_it(stack: Stack) -> None:
    stack.ask("PATCH", "/dags/echo", {"is_paused": False})
    stack.trigger("talk", {"text": "again"})

    def runs() -> list[dict[str, Any]]:
        found = stack.ask("GET", "/dags/echo/dagRuns")["dag_runs"]
        return [run for run in found if run["run_type"] == "asset_triggered" and run["state"] == "success"]

    assert wait_for(runs), stack.ask("GET", "/dags/echo/dagRuns")


def test_a_broken_file_breaks_its_own_dag_only_and_says_where(stack: Stack) -> None:
    errors = wait_for(lambda: stack.ask("GET", "/importErrors")["import_errors"])
    assert [Path(error["filename"]).name for error in errors] == ["broken.py"]
    assert re.search(r"broken\.yaml:5:\d+: ", errors[0]["stack_trace"])
    assert "did you mean 'write_words'?" in errors[0]["stack_trace"]


def test_it_listens_on_loopback_only_and_sigterm_leaves_no_process(stack: Stack) -> None:
    tree = psutil.Process(stack.process.pid).children(recursive=True)
    listening = set()
    for process in tree:
        with suppress(psutil.NoSuchProcess):  # a task that has ended since
            listening |= {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert len(tree) >= 8 and listening == {"127.0.0.1"}

    stack.process.send_signal(signal.SIGTERM)
    assert stack.process.wait(60) == 128 + signal.SIGTERM

    _, alive = psutil.wait_procs(tree, timeout=5)
    assert alive == []
    assert "stopped" in stack.output.read_text()


def test_a_busy_port_is_refused_before_anything_starts(world: World) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = world.rankmill("ui", "--mlflow-port", str(port), "--airflow-port", str(free_port()))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr and "--mlflow-port" in done.stderr
    assert "starting" not in done.stdout
