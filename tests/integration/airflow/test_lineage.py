"""Does a lineage server hear what stages read and made, where one is configured, and nobody else?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from components.platform.settings import Settings
from pipelines.record.runs import recorded_runs
from tests.integration.airflow.conftest import World, make_world

pytestmark = pytest.mark.engine

INGEST = """
  ingest:
    uses: ingest_table
    with:
      files: shown.csv
      user: uid
      item: article
      timestamp: shown_at
      feedback: {click: clicked}
      columns: {price: float64}
"""
STAGES = (
    INGEST
    + """\
  first: {uses: write_words, with: {text: hello}, after: [ingest]}
  second: {uses: shout_words, in: {words: first.words}}
  third: {uses: write_words, with: {outcome: mistake}, after: [second]}
"""
)
JUDGED = (
    INGEST
    + """\
  contract: {uses: validate_data, in: {table: ingest.events}, with: {suite: expectations/cheap.yaml}}
  gate: {uses: write_words, with: {outcome: refused}}
"""
)
CHEAP = """
expectations:
  - {expect: expect_column_values_to_be_between, column: price, max_value: 2}
  - {expect: expect_column_values_to_not_be_null, column: user_id}
"""
ROWS = "uid,article,shown_at,clicked,price\nu1,a,2026-01-05 10:00:00,1,2.5\nu2,b,2026-01-05 11:00:00,0,1\n"


class Collector(ThreadingHTTPServer):
    """An OpenLineage server that remembers the events it was sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def of(self, job: str, kind: str) -> dict[str, Any]:
        (event,) = [one for one in self.events if (one["job"]["name"], one["eventType"]) == (job, kind)]
        return event


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, engines: Path, collector: Collector) -> tuple[World, Collector]:
    """A run whose last stage failed, with the collector configured as Airflow's own variable says."""
    world = make_world(tmp_path_factory.mktemp("lineage"), engines)
    (world.folder / "shown.csv").write_text(ROWS)
    file = world.pipeline("told", STAGES)
    transport = json.dumps({"type": "http", "url": collector.url})
    done = world.start("run", str(file), AIRFLOW__OPENLINEAGE__TRANSPORT=transport).wait()
    assert done.returncode == 1 and "TypeError: unsupported operand" in done.stdout, done.stdout
    return world, collector


def names(sets: list[dict[str, Any]]) -> list[str]:
    return [f"{one['namespace']}:{one['name']}" for one in sets]


def test_stages_tell_what_they_read_and_made_in_which_version(told: tuple[World, Collector]) -> None:
    world, collector = told
    (run,) = recorded_runs(Settings.at(world.home), "told")
    assert run.report is not None and "TypeError: unsupported operand" in run.report.read_text()
    refs = {result.stage: result.outputs for result in run.results}

    ingest = collector.of("told.ingest", "COMPLETE")
    assert names(ingest["inputs"]) == ["rankmill:told.ingest.raw.events/shown.csv"]
    assert names(ingest["outputs"]) == ["rankmill:told.ingest.events"]
    facets = ingest["outputs"][0]["facets"]
    assert facets["version"]["datasetVersion"] == refs["ingest"]["events"].digest
    assert facets["dataSource"]["uri"] == refs["ingest"]["events"].uri
    columns = {column["name"]: column["type"] for column in facets["schema"]["fields"]}
    assert columns == {
        "user_id": "string", "item_id": "string", "event_timestamp": "timestamp[us, tz=UTC]",
        "created_timestamp": "timestamp[us, tz=UTC]", "click": "int8", "price": "double",
    }  # fmt: skip
    stage = ingest["run"]["facets"]["rankmill_stage"]
    assert stage["window"] == "[2026-01-01T00:00:00Z, 2026-01-08T00:00:00Z)" and stage["cached"] is False

    first, second = collector.of("told.first", "COMPLETE"), collector.of("told.second", "COMPLETE")
    made, read = first["outputs"][0], second["inputs"][0]
    assert (made["name"], made["facets"]["version"]) == (read["name"], read["facets"]["version"])
    assert made["facets"]["version"]["datasetVersion"] == refs["first"]["words"].digest
    assert "schema" not in made["facets"], "words are no table"


def test_a_stage_that_failed_made_nothing(told: tuple[World, Collector]) -> None:
    _, collector = told
    failed = collector.of("told.third", "FAIL")
    assert failed["outputs"] == [] and failed["run"]["facets"]["rankmill_stage"]["component"] == "write_words@1"
    assert not [one for one in collector.events if one["job"]["name"] == "told.third" and one["outputs"]]


def test_a_refusal_is_told_with_its_reason(tmp_path: Path, engines: Path, collector: Collector) -> None:
    world = make_world(tmp_path, engines)
    (world.folder / "shown.csv").write_text(ROWS)
    (world.folder / "expectations").mkdir()
    (world.folder / "expectations" / "cheap.yaml").write_text(CHEAP)
    file = world.pipeline("judged", JUDGED)
    transport = json.dumps({"type": "http", "url": collector.url})
    done = world.start("run", str(file), AIRFLOW__OPENLINEAGE__TRANSPORT=transport).wait()
    assert done.returncode != 0, done.stdout

    contract = collector.of("judged.contract", "FAIL")
    said = contract["run"]["facets"]["rankmill_verdict"]
    assert (said["kind"], said["answer"], said["suite"], said["rows"]) == ("contract", "refused", "cheap", 2)
    assert said["broken"] == ["expect_column_values_to_be_between(price)"] and "'cheap' is broken" in said["reason"]
    (read,) = contract["inputs"]
    checks = read["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [(one["column"], one["success"]) for one in checks] == [("price", False), ("user_id", True)]

    gate = collector.of("judged.gate", "FAIL")["run"]["facets"]["rankmill_verdict"]
    assert (gate["kind"], gate["answer"]) == ("gate", "refused") and "like lost 0.02 AUC" in gate["reason"]
    assert "rankmill_verdict" not in collector.of("judged.ingest", "COMPLETE")["run"]["facets"]


def test_a_server_that_does_not_answer_fails_no_stage(tmp_path: Path, engines: Path) -> None:
    world = make_world(tmp_path, engines)
    file = world.pipeline("alone", "  first: {uses: write_words}\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        url = f"http://127.0.0.1:{closed.server_address[1]}"
    transport = json.dumps({"type": "http", "url": url, "timeout": 1, "retry": {"total": 0}})
    done = world.start("run", str(file), AIRFLOW__OPENLINEAGE__TRANSPORT=transport).wait()
    assert done.returncode == 0, done.stdout


def test_it_is_off_unless_somebody_configures_it(tmp_path: Path) -> None:
    code = (
        "import importlib, os; from airflow.providers.openlineage import conf; print(conf.is_disabled())\n"
        "os.environ['OPENLINEAGE_URL'] = 'http://127.0.0.1:1'; print(importlib.reload(conf).is_disabled())"
    )
    kept = {name: value for name, value in os.environ.items() if "OPENLINEAGE" not in name}
    env = kept | {"AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["True", "False"]
