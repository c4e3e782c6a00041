"""Does every named ranker train, export, evaluate and register from YAML through an Airflow DAG, on real data?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.language.load import pipeline_path, read
from tests.registered import RANKERS

ROOT = Path(__file__).resolve().parents[2]
RANKMILL = Path(sys.executable).with_name("rankmill")
pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(3000)]


def pipeline() -> dict[str, Any]:
    """The nightly pipeline's first stages over sixty days, then four stages per ranker."""
    nightly = read(pipeline_path("movielens_daily")).value
    shared = {name: nightly["stages"][name] for name in ("ingest", "contract", "features", "dataset")}
    del shared["ingest"]["from"]  # whose keys stand in its `with` by now
    shared["dataset"]["with"]["include"] = ["recent_times"]  # which fintrec reads
    made: dict[str, Any] = {
        "name": "every_ranker",
        "description": "Every named ranker once.",
        "window": {"end": "1998-04-24", "days": 60},
        "stages": shared,
    }
    dataset = {"dataset": "dataset.training_set"}
    for name in sorted(RANKERS):
        made["stages"] |= {
            f"train_{name}": {
                "uses": "train_ranker",
                "in": dataset,
                "with": {"ranker": {"name": name}, "epochs": 1, "precision": "bfloat16"},
            },
            f"export_{name}": {"uses": "export_onnx", "in": {"ranker": f"train_{name}.ranker"} | dataset},
            f"evaluate_{name}": {"uses": "evaluate_ranker", "in": {"model": f"export_{name}.onnx_model"} | dataset},
            f"register_{name}": {
                "uses": "register_model",
                "in": {"model": f"export_{name}.onnx_model", "report": f"evaluate_{name}.report"},
                "with": {"model": f"every_{name}"},
            },
        }
    return made


def test_every_ranker_goes_through_the_dag(tmp_path: Path, movielens_raw: Path) -> None:
    file = tmp_path / "every_ranker.yaml"
    file.write_text(json.dumps(pipeline(), indent=2))  # which is YAML, without aliases
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW", "RANKMILL"))}
    environment = kept | {
        "RANKMILL_HOME": str(tmp_path / "home"),
        "RANKMILL_DATA": str(movielens_raw),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [RANKMILL, "run", str(file)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    [run] = (tmp_path / "home" / "runs" / "every_ranker").iterdir()
    for name in sorted(RANKERS):
        registered = json.loads((run / f"register_{name}.json").read_text())
        assert registered["component"] == "register_model"
        assert f"every_{name}" in " ".join(registered["notes"])
        report = json.loads((run / f"evaluate_{name}.json").read_text())
        assert report["notes"], "the report's first lines say how good it is"
    listed = subprocess.run(
        [RANKMILL, "models"], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(f"every_{name}" in listed for name in RANKERS)
