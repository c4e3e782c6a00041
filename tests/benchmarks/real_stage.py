"""How does a whole stage run in a checkout, today's or an earlier one?

Run as ``python -P real_stage.py JSON`` with ``PYTHONPATH`` at the checkout. It speaks to what every checkout has, a
training set's folder and components by name, and imports none of this package's modules, which an earlier one lacks.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

WINDOW = {"start": datetime(2024, 1, 1, tzinfo=UTC), "end": datetime(2024, 1, 2, tzinfo=UTC)}
STARTED = time.time()
# An editable installation answers for every module of the project that the checkout lacks, with today's.
sys.meta_path = [finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")]


def first(*paths: str) -> Any:
    """Return the first of some ``module:name`` that this checkout has."""
    for path in paths:
        module, _, name = path.partition(":")
        try:
            return getattr(import_module(module), name)
        except ImportError:
            continue
    raise ImportError(f"this checkout has none of {', '.join(paths)}")


def published(folder: str) -> dict[str, Any]:
    """Publish a copy of a training set's folder in this checkout's store and return its reference."""
    settings = first("components.platform.settings:Settings", "components.settings:Settings").from_environment()
    store = first("components.platform.store.publish:open_store", "components.store:open_store")(settings)
    kind = first("components.platform.artifacts:TrainingSet", "components.artifacts:TrainingSet")
    settings.home.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=settings.home))
    shutil.copytree(folder, staged / "training_set")
    record = store.publish(
        staged, {"training_set": kind(uri=str(staged / "training_set"))}, component="benchmark", component_version="1",
        key=staged.name, config_digest="", inputs={}, explanation={}, seconds=0.0, notes=[], annotations={},
    )  # fmt: skip
    return {"ref": json.loads(record.outputs["training_set"].model_dump_json())}


def ran(component: str, config: dict[str, Any], dataset: dict[str, str]) -> dict[str, Any]:
    """Run a component on a training set; the cache is neither asked nor told."""
    seen: list[float] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "stage: epoch " in record.getMessage():
                seen.append(time.time() - STARTED)

    log = logging.getLogger("rankmill")
    log.setLevel(logging.INFO)
    log.addHandler(Watch())
    names = ("execute", "StageRequest")
    execute, request = (first(f"components.platform.execute:{n}", f"components.execute:{n}") for n in names)
    inputs = {"dataset": dataset}
    asked = request(component=component, config=config, inputs=inputs, window=WINDOW, stage="stage", cache="off")
    result = execute(asked)
    output = Path(next(iter(result.outputs.values())).uri.removeprefix("file://"))
    facts = json.loads((output / "manifest.json").read_text(encoding="utf-8"))["annotations"]
    history = output / "history.json"
    epochs = json.loads(history.read_text(encoding="utf-8")) if history.exists() else []
    shutil.rmtree(output)
    return {
        "facts": facts,
        "epochs": [{"at": at, "metrics": epoch["metrics"]} for at, epoch in zip(seen, epochs, strict=True)],
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    answer = published(asked["folder"]) if "folder" in asked else ran(**asked)
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.stdout.flush()
    os._exit(0)  # engines take seconds to be torn down, which a task of Airflow does not wait for either
