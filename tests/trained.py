"""What does a trained ranker look like when no engine trained it? A few seeded steps of plain torch."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.data.training_set import read_encoded, read_schema
from components.platform.artifacts import Artifact
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.ranker_files import CONFIG, WEIGHTS, write_weights
from features.encoding.files import copy_encoder

SMALL: dict[str, dict[str, Any]] = {"esmm": {"hidden": (32, 16)}, "fintrec": {"layers": 1}}
"""What is less than shipped: an export takes as long as a ranker is deep."""


def write_ranker(directory: Path, dataset: Path, name: str = "esmm", steps: int = 60, seed: int = 0) -> Path:
    """Write a complete `Ranker` directory, trained for a few steps of Adam, and return it."""
    directory.mkdir(parents=True, exist_ok=True)
    config = RankerConfig.of(name=name, **SMALL.get(name, {}))
    schema = read_schema(dataset)
    torch.manual_seed(seed)
    ranker = build_ranker(config, schema)
    split = read_encoded(dataset, "train", schema)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.02)
    rng = np.random.default_rng(seed)
    ranker.train()
    for _ in range(steps):
        rows = rng.integers(0, split.rows, 512)
        batch = {field: torch.from_numpy(values) for field, values in split.padded(rows).items()}
        labels = {feedback: torch.from_numpy(values[rows]) for feedback, values in split.labels.items()}
        optimiser.zero_grad()
        loss: Any = ranker.loss(ranker(batch), labels)
        loss.backward()
        optimiser.step()
    write_weights(directory / WEIGHTS, ranker)
    (directory / CONFIG).write_text(config.model_dump_json())
    shutil.copyfile(dataset / "schema.json", directory / "schema.json")
    copy_encoder(dataset, directory)
    (directory / "history.json").write_text("[]")
    return directory


def publish(
    settings: Settings, kind: type[Artifact], directory: Path, annotations: dict[str, str] | None = None
) -> ArtifactRef:
    """Publish a copy of `directory` as one artifact of this kind and return its reference."""
    store = open_store(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=settings.home))
    shutil.copytree(directory, staged / "made")
    record = store.publish(
        staged,
        {"made": kind(uri=str(staged / "made"))},
        component=f"made_{kind.kind}",
        component_version="1",
        key=uuid.uuid4().hex,
        config_digest="",
        inputs={},
        explanation={},
        seconds=0.0,
        notes=[],
        annotations=annotations or {},
    )
    return record.outputs["made"]
