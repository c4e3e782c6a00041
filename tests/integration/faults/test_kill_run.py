"""Does SIGKILL of a whole run, engines and all, ever cost the champion, and does the next run complete?

`rankmill run` as a user starts it, with Airflow, Feast, Ray and MLflow; every run makes another champion. A killed run
is one whose processes are all killed at once: the command, its stages, Ray's workers.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components.platform.errors import RankmillError
from components.platform.settings import ROOT, Settings
from components.platform.store.publish import open_store
from registry.champion.ledger import Ledger, pending
from registry.champion.ledger import champion as recorded
from registry.serving.model.served_model import ServedModel
from registry.versions.client import CHAMPION, Registry

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(3000)]

RANKMILL = Path(sys.executable).with_name("rankmill")
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FILES = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.DOTALL | re.MULTILINE)
MODEL = "hotel_search_ranker"
STAGES = ("promote", "train", "register", "export", "promote")
"""Stages that run anew in each trial, one after the other; a run is killed within one of them."""
PIPELINE = """
name: killed
window: {end: "2026-01-15", days: 14}
params: {rate: {type: number, default: 0.01}}
stages:
  ingest:
    uses: ingest_table
    with:
      files: hotel_search_searches.csv
      explode: {columns: [shown, prices], position: place}
      user: user
      item: shown
      timestamp: searched_at
      request: search
      feedback: {click: opened == shown}
      columns: {price: {type: float64, column: prices}, place: int64}
      items: {files: hotel_search_hotels.csv, key: hotel, columns: {stars: float64, city: string}}
  features:
    uses: materialize_features
    in: {table: ingest.events}
    with: {feature_service: hotel_search_ranker, definitions: hotel_search_features.py}
  dataset:
    uses: build_training_set
    in: {events: ingest.events, features: features.feature_tables}
    with: {feature_service: hotel_search_ranker, definitions: hotel_search_features.py, feedback: [click]}
  train:
    uses: train_ranker
    in: {dataset: dataset.training_set}
    with: {ranker: {name: lr}, epochs: 1, learning_rate: "${params.rate}", batch_size: 256}
  export: {uses: export_onnx, in: {ranker: train.ranker, dataset: dataset.training_set}}
  evaluate:
    uses: evaluate_ranker
    in: {model: export.onnx_model, dataset: dataset.training_set}
    with: {bootstrap: 20}
  register:
    uses: register_model
    in: {model: export.onnx_model, report: evaluate.report}
    with: {model: hotel_search_ranker}
  promote:
    uses: promote_model
    in: {version: register.model_version, dataset: dataset.training_set}
    with: {gate: {auc_margin: 0.5, domain_auc_margin: 0.5, log_loss_margin: 1, resamples: 50}}
"""


class Night:
    """A user's folder, home and shell."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.settings = Settings.at(self.home)
        for name, text in FILES.findall(PAGE):
            (folder / name).write_text(text.replace("SEARCHES = 1200", "SEARCHES = 200"), encoding="utf-8")
        (folder / "killed.yaml").write_text(PIPELINE, encoding="utf-8")
        mine = ("AIRFLOW", "MLFLOW", "RANKMILL")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
        self.shell = kept | {"HOME": str(folder), "RANKMILL_HOME": str(self.home), "COLUMNS": "200"}
        subprocess.run([sys.executable, "hotel_search_data.py"], cwd=folder, check=True)

    def start(self, rate: float) -> subprocess.Popen[str]:
        command = [str(RANKMILL), "run", "killed.yaml", "--param", f"rate={rate}"]
        return subprocess.Popen(
            command, env=self.shell, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, rate: float) -> str:
        running = self.start(rate)
        said, _ = running.communicate()
        assert running.returncode == 0, said
        return said

    def runs(self) -> list[dict[str, object]]:
        """Return what `rankmill runs` says, newest first."""
        command = [str(RANKMILL), "runs", "killed", "--json"]
        done = subprocess.run(command, env=self.shell, cwd=self.folder, capture_output=True, text=True, check=True)
        return list(json.loads(done.stdout))

    def seconds(self, stage: str) -> float:
        """Return how long a stage of the newest run took."""
        return float(json.loads((self.newest() / f"{stage}.json").read_text(encoding="utf-8"))["seconds"])

    def ended(self, stage: str) -> bool:
        """Return whether a stage of the newest run has ended well."""
        return (self.newest() / f"{stage}.json").exists()

    def newest(self) -> Path:
        return max((self.settings.runs / "killed").iterdir(), key=lambda run: run.name)

    def kill(self) -> int:
        """Kill every process of this home, until none is left; return how many there were."""
        killed: set[int] = set()
        while found := list(self.processes()):
            for process in found:
                killed.add(process.pid)
                process.kill()
            psutil.wait_procs(found, timeout=5)
        return len(killed)

    def processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("RANKMILL_HOME") == str(self.home)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    yield process
            except psutil.Error:
                continue

    def champion(self, scratch: Path) -> int:
        """Return the champion's version after opening it; every file is checked against the version's seal."""
        registry = Registry(self.settings.tracking_uri, self.settings.mlflow_artifacts)
        found = registry.alias(MODEL, CHAMPION)
        assert found is not None, "the champion is lost"
        ServedModel.open(registry.download(MODEL, CHAMPION, scratch), "cpu")
        return found.version

    def half_artifacts(self) -> list[str]:
        store, wrong = open_store(self.settings), []
        for component in store.components():
            for key in store.keys(component):
                record = store.find(component, key)
                for ref in record.outputs.values() if record else ():
                    try:
                        store.fetch(ref.load())
                    except RankmillError as error:
                        wrong.append(str(error))
        return wrong


def test_a_killed_run_never_costs_the_champion(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    chance = random.Random(20_261_123)
    night = Night(tmp_path)
    night.run(0.01)
    seconds = {stage: night.seconds(stage) for stage in STAGES}
    before = night.champion(tmp_path / "served-0")
    assert before == 1
    counts: Counter[str] = Counter()
    processes = 0
    for number, stage in enumerate(STAGES, start=1):
        rate = 0.01 + number / 1000
        wait = chance.uniform(0.0, seconds[stage])
        running = night.start(rate)
        assert running.stdout is not None
        for line in running.stdout:
            if f"▶ {stage}" in line:
                break
        # On a machine with other work a stage takes longer or shorter than it did: not past its end.
        until = time.monotonic() + wait
        while time.monotonic() < until and not night.ended(stage):
            time.sleep(0.05)
        processes += night.kill()
        running.communicate()
        assert list(night.processes()) == []

        after = night.champion(tmp_path / f"served-{number}")
        # Killed in the very end of `promote`, the new version may be champion already.
        assert after == before or (stage == "promote" and after > before)
        assert night.half_artifacts() == []
        state = str(night.runs()[0]["state"])
        assert state == "killed" or (stage == "promote" and state == "success")
        counts[f"{stage}: {state}"] += 1

        said = night.run(rate)
        assert night.runs()[0]["state"] == "success", said
        now = night.champion(tmp_path / f"served-{number}-again")
        assert now > before, "the next run made its champion"
        entries = Ledger(night.settings.ledger).entries(MODEL)
        last = recorded(entries)
        assert pending(entries) is None and last is not None and last.champion == now
        assert night.half_artifacts() == []
        before = now
    listed = Counter(str(run["state"]) for run in night.runs())
    record_property(
        "counted",
        f"{counts.total()} runs killed with {processes} processes ({', '.join(sorted(counts))}); "
        f"champion kept each time, now version {before}; {listed['success']} runs succeeded, "
        f"{listed['killed']} listed as killed",
    )
    assert listed["success"] + listed["killed"] == 1 + 2 * len(STAGES) and counts.total() >= 5
