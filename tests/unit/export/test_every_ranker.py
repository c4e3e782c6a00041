"""Does the graph of every ranker, and of every part, answer as torch does at any batch and history?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.export_onnx.graph import export_graph
from components.export_onnx.parity import compare, require
from components.rankers.build import build_ranker
from components.rankers.config import (
    DOMAINS,
    EMBEDDINGS,
    HEADS,
    INTERACTIONS,
    OPTIONS,
    RANKERS,
    SEQUENCES,
    RankerConfig,
)
from components.rankers.tasks import tasks_of
from components.training_set import read_encoded, read_schema
from registry.session import open_session

NAMED = [{"name": name} for name in sorted(RANKERS)]
TOGETHER = [
    {"name": "esmm", "sequence": "transformer", "interaction": "autoint", "heads": 3},
    {"name": "mmoe", "sequence": "tin", "interaction": "autoint"},
    {"name": "ple", "sequence": "din", "interaction": "dcnv2", "hidden": (8, 8, 4)},
    {"name": "shared_bottom", "sequence": "transformer", "interaction": "mlp", "layers": 1},
    {"name": "dnn", "embedding": "hashed", "buckets": 50},
]
"""Between them and the named rankers, every part; exports take seconds, so not every pair."""


def _title(block: dict[str, Any]) -> str:
    return "-".join(str(value) for value in block.values() if isinstance(value, str))


@pytest.mark.parametrize("block", NAMED + TOGETHER, ids=_title)
def test_the_graph_answers_as_torch_does(block: dict[str, Any], training_set_dir: Path, tmp_path: Path) -> None:
    """Weights away from where they start, so that every one of them is in the answers."""
    schema = read_schema(training_set_dir)
    small: dict[str, Any] = {"hidden": (8, 4)} if "hidden" in OPTIONS[block["name"]] else {}
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.model_validate(small | block), schema).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    export_graph(ranker, schema, tasks, tmp_path / "model.onnx")
    test = read_encoded(training_set_dir, "test", schema)
    session = open_session(tmp_path / "model.onnx", "cpu")
    report = compare(ranker, session, schema.fields, tasks, test.features, 1e-5)
    require(report, "")
    assert {(case.batch, case.history) for case in report.cases} == {(b, h) for b in (1, 7, 1000) for h in (0, 1, 8)}
    with torch.inference_mode():
        some = ranker({name: torch.from_numpy(values.copy()) for name, values in test.features.items()})
    assert all(np.std(some[name].numpy()) > 1e-3 for name in tasks), "answers that differ between rows"


@pytest.mark.parametrize(
    ("part", "registered"),
    [
        ("embedding", EMBEDDINGS),
        ("sequence", SEQUENCES),
        ("interaction", INTERACTIONS),
        ("domain", DOMAINS),
        ("head", HEADS),
    ],
)
def test_every_registered_part_is_exported_above(part: str, registered: dict[str, str]) -> None:
    exported = {getattr(RankerConfig.model_validate(block).complete(), part) for block in NAMED + TOGETHER}
    assert {*registered} <= exported
