"""Are people told what happened, where, and what to do, as Airflow calls it, and does it never harm a task?"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.watch_drift.report import Alarm
from components.platform.approval import ApprovalNeededError, Question
from components.platform.artifacts import Artifact, DriftAlarm, DriftReport, Promotion
from components.platform.errors import BadInputError, GateRefusedError, RetryableError, StorageError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from pipelines.language.load import PIPELINES
from pipelines.run.notice import Notice, Where, link_of
from pipelines.run.webhook import Address, address_of, post
from tests.receiver import Receiver, receiving
from tests.unit.pipelines.run.test_summary import VERDICT, Records

RUN = "scheduled__2026-01-31T02:00:00+00:00"
MOMENT = datetime(2026, 1, 31, 2, tzinfo=UTC)
ALL = "{webhook: {connection: my_hook}}"
EVENTS = ("failure", "refusal", "promotion", "drift")


@pytest.fixture(scope="module")
def airflow() -> Any:
    import pipelines.run.airflow_dag as module

    return module


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that the connection `my_hook` names."""
    with receiving() as receiver:
        monkeypatch.setenv("AIRFLOW_CONN_MY_HOOK", f"{receiver.url}/hooks/s3cretpath")
        yield receiver


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped pipelines, of which two tell of all that they can."""
    target = tmp_path_factory.mktemp("telling") / "pipelines"
    shutil.copytree(PIPELINES, target, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.json"))
    told = {"movielens_daily": ("failure", "refusal", "promotion", "deadline"), "movielens_watch": ("drift", "failure")}
    for name, events in told.items():
        file = target / f"{name}.yaml"
        block = "".join(f"  {event}: {ALL}\n" for event in events)
        file.write_text(f"{file.read_text()}\ndeadline: 3h\nnotify:\n{block}")
    return target


@pytest.fixture(scope="module")
def dags(airflow: Any, folder: Path) -> dict[str, Any]:
    return {name: airflow.build_dag(folder / f"{name}.yaml") for name in ("movielens_daily", "movielens_watch")}


def done(airflow: Any, task: Any, outcome: StageResult | BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task end with this, and call whom Airflow calls then."""
    from airflow.sdk.execution_time.context import OutletEventAccessors

    def run(attempt: Any) -> StageResult:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(airflow, "run_stage", run)
    before = StageResult(stage="x", component="x", key="k", cached=False, seconds=1, outputs={}, notes=[])
    ti = SimpleNamespace(id=uuid4(), xcom_pull=lambda task_ids: before.model_dump(mode="json"), try_number=1)
    dag_run = SimpleNamespace(
        run_id=RUN, conf={}, run_type="scheduled", logical_date=MOMENT, data_interval_end=MOMENT, run_after=MOMENT,
        partition_key=None, partition_date=None,
    )  # fmt: skip
    context: dict[str, Any] = {"ti": ti, "dag_run": dag_run, "task": task, "outlet_events": OutletEventAccessors()}
    callbacks = task.on_success_callback
    try:
        type(task).execute.__wrapped__(task, context)
    except Exception as error:
        context["exception"] = error
        callbacks = task.on_failure_callback
    for callback in callbacks:
        callback(context)


def made(home: Path, stage: str, outputs: dict[str, tuple[type[Artifact], dict[str, str]]]) -> StageResult:
    """Publish what a stage would have made."""
    records = Records(home)
    results = {name: records.stage(f"{stage}_{name}", kind, files) for name, (kind, files) in outputs.items()}
    refs = {name: result.outputs["out"] for name, result in results.items()}
    return next(iter(results.values())).model_copy(update={"stage": stage, "outputs": refs})


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RANKMILL_HOME", str(tmp_path))
    for name in ("RANKMILL_ARTIFACTS", "RANKMILL_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/")
    return tmp_path


LINK = "https://airflow.example.com/dags/movielens_daily/runs/scheduled__2026-01-31T02%3A00%3A00%2B00%3A00"


def test_a_failure_is_told_with_its_sentence_its_place_and_its_window(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dags["movielens_daily"].task_dict["train"]
    kept = run_folder(Settings.from_environment(), "movielens_daily", RUN) / "train"
    kept.mkdir(parents=True)
    (kept / "curves.html").write_text("a page")
    done(airflow, task, StorageError("the store did not answer: start it"), monkeypatch)
    (body,) = hook.bodies
    assert (body["event"], body["pipeline"], body["stage"], body["run"]) == ("failure", "movielens_daily", "train", RUN)
    assert body["what"] == "the store did not answer: start it" and body["title"] == "movielens_daily.train failed"
    assert body["window"]["end"].startswith("1998-04") and "clear the stage in Airflow" in body["advice"]
    assert body["run_url"] == f"{LINK}/tasks/train" and body["page"] == str(kept / "curves.html")
    for said in (body["title"], body["what"], body["advice"], body["run"], body["run_url"], body["page"]):
        assert said in body["text"]
    assert hook.paths == ["/hooks/s3cretpath"]


def test_a_refusal_is_none_of_the_failures(
    airflow: Any, folder: Path, hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "movielens_daily.yaml").read_text().partition("notify:")[0]
    refused = GateRefusedError("movielens_ranker v7 refused: like lost 0.02 AUC; v6 stays champion")
    for event, told in (("failure", []), ("refusal", ["refusal"])):
        file = folder / "movielens_daily.yaml"
        kept = file.read_text()
        file.write_text(f"{text}notify: {{{event}: {ALL}}}\n")
        dag = airflow.build_dag(file)
        file.write_text(kept)
        done(airflow, dag.task_dict["promote"], refused, monkeypatch)
        assert [body["event"] for body in hook.bodies] == told
    (body,) = hook.bodies
    assert body["what"] == str(refused) and "the champion goes on answering" in body["advice"]
    assert body["title"] == "movielens_daily.promote refused a ranker"


def test_a_question_is_told_once_it_stands_in_airflow(
    airflow: Any, folder: Path, hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput
    from airflow.sdk.execution_time import task_runner

    verdict = VERDICT.model_copy(update={"answer": "waiting"})
    asked = Question(verdict=verdict, page="/v.html", by=("ada",), within=timedelta(hours=2), on_deadline="refuse")
    sent: list[Any] = []
    supervisor = SimpleNamespace(send=lambda msg: sent.append(msg) or msg)  # type: ignore[func-returns-value]
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    file = folder / "movielens_daily.yaml"
    kept = file.read_text()
    asking = kept.partition("notify:")[0]
    asking = asking.replace("      gate:\n", "      approval: {by: [ada]}\n      gate:\n", 1)
    assert asking.count("approval") == 1
    file.write_text(f"{asking}notify: {{approval: {ALL}}}\n")
    dag = airflow.build_dag(file)
    file.write_text(kept)
    with pytest.raises(TaskAwaitingInput) as parked:
        done(airflow, dag.task_dict["promote"], ApprovalNeededError(asked), monkeypatch)
    assert parked.value.timeout == timedelta(hours=2) and parked.value.method_name == "execute_complete"
    assert [user.id for user in sent[0].assigned_users] == ["ada"] and sent[0].defaults == ["Refuse"]
    (body,) = hook.bodies
    assert body["event"] == "approval" and body["title"] == "movielens_daily.promote asks you"
    assert body["what"].startswith("May movielens_ranker v12 become champion instead of v11? The gate: ")
    assert "which is for ada, within 2h; without an answer it is refused" in body["advice"]

    # What Airflow kept of an earlier try is not what would be answered.
    supervisor.send = lambda msg: msg.model_copy(update={"body": "another verdict"})
    with pytest.raises(airflow.AirflowFailException, match="still shows the question of an earlier try"):
        airflow._ask(asked, SimpleNamespace(id=uuid4()))


def test_a_refusal_that_finishes_its_stage_is_told_as_one_that_ends_it(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = VERDICT.model_copy(update={"answer": "refused", "reason": "like lost 0.02 AUC"})
    result = made(home, "promote", {"promotion": (Promotion, {"verdict.json": refused.model_dump_json()})})
    quiet = result.model_copy(update={"no_news": ("promotion",)})
    done(airflow, dags["movielens_daily"].task_dict["promote"], quiet, monkeypatch)
    (body,) = hook.bodies
    assert body["event"] == "refusal" and body["page"].endswith("verdict.html")
    assert body["what"] == "movielens_ranker v12 refused: like lost 0.02 AUC; v11 stays champion"
    file = home / "telling.yaml"
    text = dags["movielens_daily"].task_dict["promote"]._plan.path.read_text().partition("notify:")[0]
    file.write_text(f"{text}notify: {{refusal: {ALL}}}\n".replace("name: movielens_daily", "name: telling"))
    shutil.copytree(PIPELINES / "shared", home / "shared")
    assert airflow.build_dag(file).task_dict["promote"].on_success_callback, "who waits for refusals alone hears of it"


@pytest.mark.parametrize("answer", ["promoted", "held", "cached"])
def test_a_promotion_is_told_when_the_champion_moved(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    result = made(home, "promote", {"promotion": (Promotion, {"verdict.json": VERDICT.model_dump_json()})})
    changes: dict[str, Any] = {"held": {"no_news": ("promotion",)}, "cached": {"cached": True}}.get(answer, {})
    monkeypatch.setattr(airflow, "_is_told", lambda *_: True)
    done(airflow, dags["movielens_daily"].task_dict["promote"], result.model_copy(update=changes), monkeypatch)
    assert [body["event"] for body in hook.bodies] == (["promotion"] if answer == "promoted" else [])
    for body in hook.bodies:
        assert (
            body["what"].startswith("movielens_ranker v12 is champion (was v11): ") and VERDICT.reason in body["what"]
        )
        assert "rankmill rollback movielens_ranker" in body["advice"] and body["page"].endswith("verdict.html")
        assert body["figures"] == {"model": "movielens_ranker", "version": 12, "before": 11}


@pytest.mark.parametrize("raised", [True, False])
def test_an_alarm_is_told_and_a_quiet_day_is_not(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch, raised: bool
) -> None:
    alarm = Alarm(
        model="movielens_ranker", version=7, start=datetime(2026, 1, 30, tzinfo=UTC), end=MOMENT, raised=raised,
        sentences=("age moved by 0.2",) if raised else (),
    )  # fmt: skip
    outputs: dict[str, tuple[type[Artifact], dict[str, str]]] = {
        "report": (DriftReport, {"drift.json": "{}", "drift.html": "page"}),
        "alarm": (DriftAlarm, {"alarm.json": alarm.model_dump_json()}),
    }
    result = made(home, "watch", outputs).model_copy(update={"no_news": () if raised else ("alarm",)})
    done(airflow, dags["movielens_watch"].task_dict["watch"], result, monkeypatch)
    assert [body["event"] for body in hook.bodies] == (["drift"] if raised else [])
    for body in hook.bodies:
        assert body["what"] == "movielens_ranker v7 on 2026-01-30: age moved by 0.2"
        assert body["page"].endswith("drift.html") and body["page"].startswith(result.outputs["report"].uri)


def test_a_late_run_is_told_by_the_triggerer(airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path) -> None:
    from airflow.sdk._shared.module_loading import import_string

    (alert,) = dags["movielens_daily"].deadline
    again = json.loads(json.dumps(alert.callback.serialize()))  # as it lies in Airflow's database
    hash(alert.callback)
    dag_run = {
        "dag_run_id": RUN, "logical_date": "2026-01-31T02:00:00Z", "data_interval_end": "2026-01-31T02:00:00Z",
        "run_after": "2026-01-31T02:00:00Z", "run_type": "scheduled", "conf": {}, "partition_key": None,
        "partition_date": None,
    }  # fmt: skip
    asyncio.run(import_string(again["path"])(**again["kwargs"], context={"dag_run": dag_run, "deadline": {}}))
    (body,) = hook.bodies
    assert body["event"] == "deadline" and body["what"] == "the run has not ended 3h after it was queued"
    assert body["stage"] is None and body["window"]["end"].startswith("1998-04") and body["run_url"] == LINK


def test_who_wants_nothing_is_not_called_and_a_run_alone_tells_nobody(airflow: Any, folder: Path) -> None:
    def called(**how: bool) -> set[tuple[str, str]]:
        dag = airflow.build_dag(folder / "movielens_daily.yaml", **how)
        kinds = ("on_failure_callback", "on_success_callback")
        return {(task.task_id, kind) for task in dag.tasks for kind in kinds if getattr(task, kind)}

    assert called(alone=True) == set()
    assert called() == called(alone=True, notify=True)
    assert ("promote", "on_success_callback") in called() and ("train", "on_success_callback") not in called()
    assert ("train", "on_failure_callback") in called()
    assert "Tells of failure through webhook" in airflow.build_dag(folder / "movielens_daily.yaml").doc_md
    silent = airflow.build_dag(folder / "open_bandit.yaml")
    assert not any(task.on_failure_callback or task.on_success_callback for task in silent.tasks)


def test_a_run_that_could_tell_nobody_is_not_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.language import notify
    from pipelines.language.check import load_plan
    from pipelines.run.run import refuse_silence

    with pytest.raises(BadInputError, match="open_bandit tells nobody anything: say whom under notify:"):
        refuse_silence(load_plan(folder / "open_bandit.yaml"))
    plan = load_plan(folder / "movielens_watch.yaml")
    refuse_silence(plan)
    monkeypatch.setitem(notify.PROVIDERS, "webhook", "apache-airflow-providers-nowhere")
    with pytest.raises(BadInputError, match="which needs apache-airflow-providers-nowhere"):
        refuse_silence(plan)


def test_a_stage_without_a_last_word_is_told_too(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path
) -> None:
    """Airflow's DAG processor calls for a task whose process has gone: a fresh operator, no exception."""
    task = dags["movielens_daily"].task_dict["export"]
    task.on_failure_callback[0]({"task": task, "ti": SimpleNamespace(run_id=RUN)})
    (body,) = hook.bodies
    assert "was killed" in body["what"] and body["window"] is None and body["run"] == RUN


def test_a_time_out_is_told_in_our_words(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from airflow.sdk.exceptions import AirflowTaskTimeout

    task = dags["movielens_daily"].task_dict["evaluate"]
    monkeypatch.setattr(task, "execution_timeout", timedelta(hours=2))
    context = {"task": task, "dag_run": SimpleNamespace(run_id=RUN, conf={}), "exception": AirflowTaskTimeout("PID 7")}
    monkeypatch.setattr(task, "_timed_out", True)
    task.on_failure_callback[0](context)
    assert hook.bodies[0]["what"].startswith("it ran longer than its timeout of 2h: ")


def warned(caplog: pytest.LogCaptureFixture) -> str:
    (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING and one.name == "rankmill"]
    assert "\n" not in line and "s3cret" not in caplog.text
    return line


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        (None, "Airflow has no such connection: add it, or set AIRFLOW_CONN_MY_HOOK"),
        ("http://hooks.example.com/s3cret", "it cannot be reached"),
        ('{"conn_type": "http", "host": "http://hooks.example.com/s3cret"}', "anybody could read along: make it https"),
        ('{"conn_type": "http", "host": "https://me:s3cret@hooks.example.com"}', "the address holds a login"),
        ('{"conn_type": "http", "host": ""}', "names no address"),
        ("http://127.0.0.1:CLOSED/s3cret", "it cannot be reached (Connection refused): see its server"),
        ("SERVER", "it answered 503: correct the connection or see its server"),
    ],
)
def test_what_does_not_get_through_is_a_line_in_the_log_and_fails_nothing(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, connection: str | None, said: str,
) -> None:  # fmt: skip
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = str(closed.getsockname()[1])
        hook.status = 503
        if connection is None:
            monkeypatch.delenv("AIRFLOW_CONN_MY_HOOK")
        elif connection != "SERVER":
            monkeypatch.setenv("AIRFLOW_CONN_MY_HOOK", connection.replace("CLOSED", port))
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:" + port)  # nothing leaves this machine
        with caplog.at_level(logging.WARNING, logger="rankmill"):
            done(airflow, dags["movielens_daily"].task_dict["train"], StorageError("no: start it"), monkeypatch)
    line = warned(caplog)
    assert (
        line.startswith("movielens_daily.train: its failure was not told through webhook (my_hook): ") and said in line
    )


def test_who_never_answers_is_not_waited_for(
    airflow: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AIRFLOW_CONN_MY_HOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/s3cret")
        from pipelines.run.channels import WebhookNotifier

        with pytest.raises(RetryableError, match="it took longer than 0 s"):
            airflow.send_within(0.2, WebhookNotifier("my_hook", {}))


def test_no_secret_is_in_a_message(
    airflow: Any, dags: dict[str, Any], hook: Receiver, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.language import hiding

    monkeypatch.setattr(hiding, "_secrets", set())
    hiding.remember(["hunter2hunter2"])
    error = BadInputError("the store s3://me:pass9@bucket refused hunter2hunter2: mend it")
    done(airflow, dags["movielens_daily"].task_dict["train"], error, monkeypatch)
    assert "hunter2" not in json.dumps(hook.bodies) and "pass9" not in json.dumps(hook.bodies)
    assert hook.bodies[0]["what"] == "the store s3://***@bucket refused ***: mend it"


def connection(**given: Any) -> Any:
    return SimpleNamespace(**{"host": None, "schema": None, "login": None, "password": None, "port": None} | given)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"host": "hooks.example.com", "schema": "https"}, "https://hooks.example.com/"),
        ({"host": "hooks.example.com", "schema": "T/B/x"}, "https://hooks.example.com/T/B/x"),
        ({"host": "hooks.example.com"}, "https://hooks.example.com/"),
        ({"host": "https://hooks.example.com/T/B?k=v"}, "https://hooks.example.com/T/B?k=v"),
        ({"host": "https://hooks.example.com/T", "port": 8443}, "https://hooks.example.com:8443/T"),
        ({"host": "https://hooks.example.com:1/T", "port": 8443}, "https://hooks.example.com:1/T"),
        ({"host": "127.0.0.1", "schema": "x", "port": 80}, "http://127.0.0.1:80/x"),
        ({"host": "::1", "port": 80}, "http://[::1]:80/"),
        ({"host": "localhost", "schema": "https"}, "https://localhost/"),
    ],
)
def test_an_address_is_what_its_connection_says(given: dict[str, Any], url: str) -> None:
    assert address_of(connection(**given), {}).url == url
    assert url not in repr(address_of(connection(**given), {}))


@given(st.text(max_size=30), st.text(max_size=10))
def test_nothing_but_https_leaves_this_machine(host: str, schema: str) -> None:
    for given_host in (host, f"http://{host}", f"//{host}"):
        try:
            address = address_of(connection(host=given_host, schema=schema), {})
        except BadInputError:
            continue
        assert address.url.startswith("https://") or address.is_here


def test_login_token_and_headers_reach_the_address_and_no_other(
    hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # a proxy is for the way out
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    post(address_of(connection(host=hook.url, login="me", password="pw"), {"headers": {"X-Team": "a"}}), {"a": "ü"})
    post(address_of(connection(host=hook.url, password="tok"), {}), {})
    assert hook.headers[0]["Authorization"] == "Basic bWU6cHc=" and hook.headers[0]["X-Team"] == "a"
    assert hook.headers[1]["Authorization"] == "Bearer tok" and hook.bodies[0] == {"a": "ü"}
    hook.elsewhere = f"{hook.url}/elsewhere"
    with pytest.raises(RetryableError, match="it answered 302"):
        post(Address(f"{hook.url}/first", {"Authorization": "Bearer tok"}), {})
    assert hook.paths[2:] == ["/first"]
    for headers in ({"X": 1}, ["X"]):
        with pytest.raises(BadInputError, match="headers in the connection's extra"):
            address_of(connection(host=hook.url), {"headers": headers})


def notice(what: str) -> Notice:
    return Notice("failure", Where("shop", "r", "train", link="https://a.example/x?a=1&b=2"), what, "clear it")


def test_what_an_error_says_is_text_in_every_channel() -> None:
    said = notice("<!channel> {{ conn.x.password }} & <script>alert(1)</script>\nmore")
    assert "<script>" not in said.html() and "{{ conn.x.password }}" in said.html() and "<!channel>" not in said.slack()
    assert '<a href="https://a.example/x?a=1&amp;b=2">' in said.html()
    assert said.body()["what"].endswith("</script> more") and len(notice("x" * 9000).text()) < 3000


def test_without_an_address_of_its_own_airflow_is_not_linked() -> None:
    assert link_of("", "p", "r") == link_of("/", "p", "r") == ""
    assert link_of("https://a/b/", "p", "r+1", "s") == "https://a/b/dags/p/runs/r%2B1/tasks/s"


class Smtp:
    """A mail server for one letter."""

    def __init__(self) -> None:
        self.letter = b""
        self.server = socket.create_server(("127.0.0.1", 0))
        self.thread = Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        talk, _ = self.server.accept()
        with talk, talk.makefile("rb") as lines:
            talk.sendall(b"220 here\r\n")
            for line in lines:
                if line.upper().startswith(b"DATA"):
                    talk.sendall(b"354 go on\r\n")
                    for part in iter(lines.readline, b".\r\n"):
                        self.letter += part
                talk.sendall(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 ok\r\n")


@pytest.mark.parametrize("waits", [False, True])
def test_a_letter_is_sent_by_airflows_own_notifier(airflow: Any, monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    from email import message_from_bytes
    from email.policy import default

    from pipelines.language.notify import Target

    smtp = Smtp()
    extra = {"from_email": "mill@example.com", "disable_ssl": True, "disable_tls": True}
    value = {"conn_type": "smtp", "host": "127.0.0.1", "port": smtp.server.getsockname()[1], "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_MAIL", json.dumps(value))
    sender = airflow.notifier_of(Target("email", "mail", ("team@example.com",)), notice("{{ 7 * 7 }} <b>: mend it"))
    if waits:
        asyncio.run(sender.async_notify({}))
    else:
        sender.notify({})
    smtp.thread.join(5)
    letter = message_from_bytes(smtp.letter, policy=default)
    body = letter.get_body(("html",))
    assert body is not None
    assert (letter["From"], letter["To"]) == ("mill@example.com", "team@example.com")
    assert letter["Subject"] == "Rankmill: shop.train failed" and "{{ 7 * 7 }} &lt;b&gt;: mend it" in body.get_content()


@pytest.mark.parametrize("waits", [False, True])
def test_slack_is_told_by_airflows_own_notifier(
    airflow: Any, hook: Receiver, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    pytest.importorskip("airflow.providers.slack", reason="the extra `notify` is not installed")
    from pipelines.language.notify import Target

    value = {"conn_type": "slackwebhook", "host": hook.url, "password": "T0/B0/s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_OPS", json.dumps(value))
    sender = airflow.notifier_of(Target("slack", "ops"), notice("{{ 7 * 7 }} <!here>: mend it"))
    if waits:
        asyncio.run(sender.async_notify({}))
    else:
        sender.notify({})
    (body,) = hook.bodies
    assert "shop.train failed" in body["text"] and "{{ 7 * 7 }} &lt;!here&gt;: mend it" in body["text"]


def test_what_is_not_installed_is_said(
    airflow: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipelines.language import notify

    monkeypatch.setitem(notify.PROVIDERS, "slack", "apache-airflow-providers-nowhere")
    told = notify.Notify.model_validate({"failure": {"slack": {"connection": "ops"}}})
    (said,) = notify.unsendable(told)
    assert said == (
        "notify.failure tells through slack, which needs apache-airflow-providers-nowhere, and it is not installed: "
        "install the extra `notify`"
    )
    with pytest.raises(Exception, match="is not installed: install the extra `notify`"):
        airflow.notifier_of(told.targets("failure")[0], notice("x"))
    assert [*notify.unsendable(None)] == []
