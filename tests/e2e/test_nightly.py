"""Does a night work as a user lives it? Killed in mid-training, run again, run once more, serve, roll back.

One home, real MovieLens-100K, the commands of the README; the steps build on each other in order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow.parquet as pq
import pytest

from tests import commands
from tests.homes import ready

ROOT = Path(__file__).resolve().parents[2]
RANKMILL = Path(sys.executable).with_name("rankmill")
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
CACHEABLE = ("ingest", "contract", "features", "dataset", "train", "export", "evaluate")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, movielens_raw: Path, engines: Path) -> dict[str, str]:
    """A user's shell with a home of its own, whose databases are empty."""
    home = tmp_path_factory.mktemp("night")
    ready(home / "rankmill", engines)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW", "RANKMILL"))}
    return {
        **kept,
        "HOME": str(home),
        "RANKMILL_HOME": str(home / "rankmill"),
        "RANKMILL_DATA": str(movielens_raw),
        "COLUMNS": "200",
    }


def rankmill(environment: dict[str, str], *arguments: str, expect: int = 0) -> str:
    done = commands.rankmill(*arguments, env=environment, timeout=400)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def home(environment: dict[str, str]) -> Path:
    return Path(environment["RANKMILL_HOME"])


def latest_results(environment: dict[str, str], pipeline: str) -> dict[str, dict[str, object]]:
    """What each stage of the newest run recorded."""
    run = max((home(environment) / "runs" / pipeline).iterdir(), key=lambda path: path.stat().st_mtime)
    records = [json.loads(path.read_text()) for path in run.glob("*.json")]
    return {record["stage"]: record for record in records if "stage" in record}


def marked(environment: dict[str, str]) -> list[psutil.Process]:
    """Processes that belong to this home: their environment names it."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RANKMILL_HOME") == environment["RANKMILL_HOME"]:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_1_sigkill_in_training_leaves_no_process_and_no_half_artifact(environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        [RANKMILL, "run", "movielens_daily"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "▶ train" in line:
            break
    deadline = time.monotonic() + 60
    while not any("ray" in p.name().lower() for p in marked(environment)) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while marked(environment) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [p.cmdline() for p in marked(environment)] == []
    artifacts = home(environment) / "artifacts"
    assert not (artifacts / "train_ranker").exists()
    assert list(artifacts.rglob(".incoming*")) == []


def test_2_running_again_completes_from_the_cache(environment: dict[str, str]) -> None:
    said = rankmill(environment, "run", "movielens_daily")
    results = latest_results(environment, "movielens_daily")
    assert {name: record["cached"] for name, record in results.items()} == {
        "ingest": True, "contract": True, "features": True, "dataset": True,
        "train": False, "export": False, "evaluate": False, "register": False, "promote": False,
    }  # fmt: skip
    assert "movielens_ranker version 1" in said
    assert "promoted" in said


def test_3_a_night_without_news_is_all_cache_hits(environment: dict[str, str]) -> None:
    plan = json.loads(rankmill(environment, "plan", "movielens_daily", "--json"))
    rankmill(environment, "run", "movielens_daily")
    results = latest_results(environment, "movielens_daily")
    assert [name for name in CACHEABLE if not results[name]["cached"]] == []
    assert "champion v1 unchanged" in json.dumps(results["promote"]["notes"])
    assert "hit" in json.dumps(plan)


def test_4_the_models_beat_chance_on_every_task_and_domain(environment: dict[str, str]) -> None:
    (report,) = (home(environment) / "artifacts" / "evaluate_ranker").glob("*/report/report.json")
    for cell in json.loads(report.read_text())["cells"]:
        area = cell["metrics"]["auc"]
        assert area["low"] > 0.5, cell
    totals = {
        c["task"]: c["metrics"]["auc"]["value"] for c in json.loads(report.read_text())["cells"] if c["domain"] == "all"
    }
    # A linear model on the same time split has .701 for `like` (docs); histories and rates must add to it.
    assert totals["like"] > 0.72


def test_5_the_champion_gets_an_error_memory_and_serves_with_it(environment: dict[str, str], tmp_path: Path) -> None:
    rankmill(environment, "run", "movielens_memory")
    (rows,) = (home(environment) / "artifacts" / "build_training_set").glob("*/training_set/raw/test.parquet")
    rankmill(environment, "score", "movielens_ranker", str(rows), str(tmp_path / "with.parquet"))
    rankmill(environment, "score", "movielens_ranker", str(rows), str(tmp_path / "base.parquet"), "--no-memory")
    served, base = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("with", "base"))
    assert served.column_names == base.column_names
    assert served.num_rows == base.num_rows == pq.read_metadata(rows).num_rows
    assert served["love_given_like"] == base["love_given_like"]


def test_6_a_tampered_artifact_is_rebuilt(environment: dict[str, str]) -> None:
    (weights,) = (home(environment) / "artifacts" / "export_onnx").glob("*/onnx_model/model.onnx")
    weights.write_bytes(weights.read_bytes()[:-1])
    rankmill(environment, "run", "movielens_daily")
    results = latest_results(environment, "movielens_daily")
    assert [name for name in CACHEABLE if not results[name]["cached"]] == ["export"]


MISTAKES = (
    (("promote", "movielens_ranker", "9", "--yes"), "no version 9"),
    (("rollback", "movielens_ranker"), "movielens_ranker"),
    (("history", "movielens_rankr"), "movielens_rankr"),
    (("run", "movielens_daily", "--param", "epoch=1"), "did you mean 'epochs'"),
    (("run", "movielens_daily", "--param", "as_of=1990-01-01"), "1997"),
    (("run", "movielens_dayly"), "did you mean 'movielens_daily'"),
)


def test_7_mistakes_are_one_sentence_and_cost_nothing(environment: dict[str, str]) -> None:
    before = rankmill(environment, "models")
    for arguments, sentence in MISTAKES:
        said = rankmill(environment, *arguments, expect=2)
        assert sentence in " ".join(said.split())
        assert "Traceback" not in said
    assert rankmill(environment, "models") == before


def test_8_cleaning_up_keeps_what_the_champion_and_the_last_run_need(
    environment: dict[str, str], tmp_path: Path
) -> None:
    artifacts = home(environment) / "artifacts"
    for record in artifacts.glob("*/*/stage.json"):
        value = json.loads(record.read_text())
        record.write_text(json.dumps(value | {"created_at": "2020-01-01T00:00:00Z"}))
        (record.parent / "used").unlink(missing_ok=True)
    before = len(list(artifacts.glob("*/*/stage.json")))
    assert f"of {before} stages" in rankmill(environment, "gc", "--dry-run")
    assert len(list(artifacts.glob("*/*/stage.json"))) == before
    said = rankmill(environment, "gc")
    kept = len(list(artifacts.glob("*/*/stage.json")))
    assert 0 < kept < before and f"{before - kept} of {before} stages deleted" in said
    (rows, *_) = (artifacts / "build_training_set").glob("*/training_set/raw/test.parquet")
    rankmill(environment, "score", "movielens_ranker", str(rows), str(tmp_path / "scores.parquet"))
    plan = json.loads(rankmill(environment, "plan", "movielens_daily", "--json"))
    states = {stage["name"]: stage["prediction"]["state"] for stage in plan["stages"]}
    assert [name for name in CACHEABLE if states[name] != "hit"] == []
    assert "0 of" in rankmill(environment, "gc")


def test_9_the_champion_answers_and_is_followed_without_a_failed_question(
    environment: dict[str, str], tmp_path: Path
) -> None:
    # One pass is less than the champion has had. Whatever the gate makes of it, the first version answers at first.
    commands.rankmill("run", "movielens_daily", "--param", "epochs=1", env=environment, timeout=400)
    rankmill(environment, "promote", "movielens_ranker", "1", "--yes")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # As shipped, but for the times after which a busy machine would be told that it is late.
    shipped = (ROOT / "pipelines" / "serving" / "movielens.yaml").read_text(encoding="utf-8")
    patient = shipped.replace("timeout: 50ms", "timeout: 20s").replace("timeout: 300ms", "timeout: 30s")
    assert patient.count("0s") > shipped.count("0s")
    (tmp_path / "movielens.yaml").write_text(f"{patient}log: {{segment: 1s}}\n", encoding="utf-8")
    command = [RANKMILL, "serve", str(tmp_path / "movielens.yaml"), "--port", str(port), "--workers", "2"]
    log = tmp_path / "serve.log"
    with log.open("wb") as written:
        service = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=written, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=url, timeout=10) as client:
            until(lambda: answers(client, "/v2/health/ready"), log)
            said = rankmill(environment, "ask", "movielens_ranker", "--user", "90", "--items", "900,269,12",
                            "--set", "age_band=35_plus", "--at", "1998-04-24", "--url", url)  # fmt: skip
            assert "movielens_ranker v1 (champion)" in said and "269" in said
            found = client.post("/v2/models/movielens_ranker/infer", json=QUESTION).json()
            assert found["parameters"]["missing"] == {} and found["parameters"]["degraded"] == []
            teach(client)
            told = (ROOT / "pipelines" / "movielens_served.yaml").read_text(encoding="utf-8")
            (tmp_path / "movielens_served.yaml").write_text(told.replace("after: 10m", "after: 1s"), encoding="utf-8")
            until_day = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
            time.sleep(3)  # until the log's segment is written and the time for feedback is over
            said = rankmill(
                environment, "run", str(tmp_path / "movielens_served.yaml"), "--param", f"until={until_day}"
            )
            assert "switched off" not in said
            until(lambda: ask_one(client)["parameters"]["memory"] not in ("", found["parameters"]["memory"]), log)
            taught = ask_one(client)
            assert taught["model_version"] == "1" and taught["outputs"] != found["outputs"], "answers have changed"
            with asking(url) as seen:
                until(lambda: len(seen) > 20, log)
                rankmill(environment, "promote", "movielens_ranker", "2", "--yes")
                until(lambda: seen[-1] == (200, "2"), log)
                rankmill(environment, "rollback", "movielens_ranker")
                until(lambda: seen[-1] == (200, "1"), log)
            assert {status for status, _ in seen} == {200}
            versions = [version for _, version in seen]
            assert {*versions} == {"1", "2"}
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) == 0, log.read_text()
    assert "Traceback" not in log.read_text()


def ask_one(client: httpx.Client) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/v2/models/movielens_ranker/infer", json=QUESTION).json()
    return answer


def teach(client: httpx.Client) -> None:
    """Ask for eighty users about twenty items each, and tell that everybody loves items with odd ids, and no others."""
    drawn, events = random.Random(0), []
    for user in range(1, 81):
        items = drawn.sample(range(1, 1600), 20)
        moment = f"1998-04-24T{user // 60:02}:{user % 60:02}:00Z"  # a memory is judged from one time to the next
        told = {"user_id": [user], "item_id": items, "event_timestamp": [moment]}
        inputs = [one | {"data": told.get(one["name"], one["data"])} for one in QUESTION["inputs"]]
        inputs = [one | {"shape": [len(one["data"])]} for one in inputs]
        answer = client.post("/v2/models/movielens_ranker/infer", json={"id": f"u{user}", "inputs": inputs})
        assert answer.status_code == 200, answer.text
        events += [
            {"request_id": f"u{user}", "item_id": item, "feedback": feedback}
            for item in items
            if item % 2
            for feedback in ("like", "love")
        ]
    assert client.post("/v2/models/movielens_ranker/feedback", json={"events": events}).json() == {
        "accepted": len(events)
    }


QUESTION: dict[str, list[dict[str, Any]]] = {
    "inputs": [
        {"name": "user_id", "shape": [1], "datatype": "INT64", "data": [90]},
        {"name": "item_id", "shape": [3], "datatype": "INT64", "data": [900, 269, 12]},
        {"name": "age_band", "shape": [1], "datatype": "BYTES", "data": ["35_plus"]},
        {"name": "event_timestamp", "shape": [1], "datatype": "BYTES", "data": ["1998-04-24T00:00:00Z"]},
    ]
}


@contextmanager
def asking(url: str) -> Iterator[list[tuple[int, str]]]:
    """Ask again and again, two at a time; yields status and version of every answer, as they come."""
    seen: list[tuple[int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=10) as client:
            while not stop.is_set():
                answer = client.post("/v2/models/movielens_ranker/infer", json=QUESTION)
                seen.append((answer.status_code, answer.json().get("model_version", answer.text)))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def until(condition: Callable[[], bool], log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(log.read_text()[-3000:])
        time.sleep(0.1)


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
