"""Does the graph of every ranker, and of every part, answer as torch does at any batch and history, short or long?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from components.data.training_set import read_schema
from components.judge.export_onnx.half import write_halved
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.ranker_files import load_ranker
from tests.exports import agreement, check_graph
from tests.registered import BACKBONES, DOMAINS, EMBEDDINGS, HEADS, INTERACTIONS, OPTIONS, RANKERS, SEQUENCES

SHARED = ("esmm", "fintrec", "gnolr", "lr")
"""Rankers of which another file reads a trained model as well: its graph is compared."""
NAMED = [{"name": name} for name in sorted(RANKERS)]
TOGETHER = [
    {"name": "esmm", "sequence": "transformer", "interaction": "autoint", "heads": 3},
    {"name": "mmoe", "sequence": "tin", "positions": "both", "interaction": "autoint", "layers": 1, "newest": 5},
    {"name": "ple", "sequence": "din", "interaction": "dcnv2", "hidden": (8, 8, 4)},
    {"name": "shared_bottom", "sequence": "transformer", "interaction": "mlp", "layers": 1},
    {"name": "dnn", "embedding": "hashed", "buckets": 50},
    {"name": "esmm", "sequence": "sdim", "interaction": "mlcc", "channels": 3},
    {"name": "esmm", "backbone": "infnet", "layers": 2},
    {"name": "din", "sequence": "searched", "keep": 3, "attend": "transformer"},
    {"name": "esmm", "sequence": "searched", "search": "soft", "keep": 3},
    {
        "name": "esmm",
        "interaction": "optinter",
        "memorise": (("user_id", "age_band"), ("user_id", "item_id")),  # the second has more pairs than rows
        "factorise": (("age_band", "item_id"),),
        "cross_rows": 1000,
    },
]
"""Between them and the named rankers, every part; exports take seconds, so not every pair."""
FEW_DIGITS = 0.02
"""What float16 may differ by. Weights are moved far away from where they start, which makes more of every rounding than
training does."""


def _title(block: dict[str, Any]) -> str:
    return "-".join(str(value) for value in block.values() if isinstance(value, str))


@pytest.mark.parametrize("block", NAMED + TOGETHER, ids=_title)
def test_the_graph_answers_as_torch_does(
    block: dict[str, Any], training_set_dir: Path, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    if block in NAMED and block["name"] in SHARED:
        ranker, graph = load_ranker(model_of(block["name"])), model_of(block["name"]) / "model.onnx"
        report = agreement(ranker, training_set_dir, graph)
    else:
        small: dict[str, Any] = {"hidden": (8, 4)} if "hidden" in OPTIONS[block["name"]] else {}
        torch.manual_seed(0)
        ranker = build_ranker(RankerConfig.model_validate(small | block), read_schema(training_set_dir)).eval()
        report, graph = check_graph(ranker, training_set_dir, tmp_path), tmp_path / "model.onnx"
    assert {(case.batch, case.history) for case in report.cases} == {(b, h) for b in (1, 7, 1000) for h in (0, 1, 8)}
    assert b"auxiliary" not in graph.read_bytes(), "what only the loss reads"
    short = tmp_path / "short.onnx"
    short.write_bytes(graph.read_bytes())
    if block["name"] == "lr":
        with pytest.raises(BadInputError, match="cannot be exported in float16"):
            write_halved(short, "lr")
        return
    write_halved(short, block["name"])
    agreement(ranker, training_set_dir, short, FEW_DIGITS, "float16")


@pytest.mark.parametrize(
    ("part", "registered"),
    [
        ("embedding", EMBEDDINGS),
        ("sequence", SEQUENCES),
        ("interaction", INTERACTIONS),
        ("domain", DOMAINS),
        ("head", HEADS),
        ("backbone", BACKBONES),
    ],
)
def test_every_registered_part_is_exported_above(part: str, registered: Mapping[str, Any]) -> None:
    exported = {getattr(RankerConfig.model_validate(block), part, None) for block in NAMED + TOGETHER}
    elsewhere = {"frozen", "muse"}  # read vectors, which this training set has not: test_frozen.py, test_muse.py
    assert {*registered} <= exported | elsewhere
