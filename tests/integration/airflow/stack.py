"""A running `rankmill ui` with pipelines of a test: how is it started, asked and stopped?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.integration.airflow.conftest import RANKMILL, World
from tests.local_servers import ask_airflow, free_port, wait_for

STUB = """# Airflow DAG
from pathlib import Path
from pipelines.run.airflow_dag import build_dag
dag = build_dag(Path("{file}"))
"""


@dataclass
class Stack:
    """A running `rankmill ui`."""

    process: subprocess.Popen[str]
    output: Path
    passwords: Path
    airflow: int
    mlflow: int

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return ask_airflow(self.airflow, self.passwords, method, path, body)

    def trigger(self, dag: str, conf: dict[str, Any]) -> str:
        run = self.ask("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def state(self, dag: str, run: str) -> str:
        return str(self.ask("GET", f"/dags/{dag}/dagRuns/{quote(run)}")["state"])


@contextmanager
def serving(world: World, files: Mapping[str, Path], **environment: str) -> Iterator[Stack]:
    """Start `rankmill ui` over one DAG per pipeline file, and stop it afterwards."""
    dags = world.folder / "dags"
    dags.mkdir()
    for name, file in files.items():
        (dags / f"{name}.py").write_text(STUB.format(file=file))
    ports = free_port(), free_port()
    output = world.folder / "ui.out"
    with output.open("w") as stream:
        process = subprocess.Popen(
            [*RANKMILL, "ui", "--airflow-port", str(ports[0]), "--mlflow-port", str(ports[1])],
            env=world.environment | {"AIRFLOW__CORE__DAGS_FOLDER": str(dags)} | environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        wait_for(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None, 200)
        assert process.poll() is None, output.read_text()
        yield Stack(process, output, world.home / "airflow" / "passwords.json", *ports)
    finally:
        process.terminate()
        process.wait(60)
