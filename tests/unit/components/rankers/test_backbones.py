"""Does INFNet compute the paper's blocks, and keep every promise of a ranker?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from components.rankers.backbones.config import InfNetConfig
from components.rankers.backbones.infnet import TYPES, Block, CrossAttention, InfNet
from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.testing.ranker import RankerKit, example_schema
from tests.golden_numbers import golden


class TestInfNet(RankerKit):
    """Contract of names, shapes, gradients and graph."""

    ranker = InfNetConfig


def _set(weight: Tensor, seed: int) -> None:
    with torch.no_grad():
        weight.copy_(golden(seed, *weight.shape) / 2)


def test_a_block_is_the_golden_vector() -> None:
    """Fields 2, events 3 of two histories, one task and one that nobody owns; no biases."""
    fields, events, tasks = golden(1, 1, 2, 4), golden(2, 1, 3, 4), golden(6, 1, 1, 4)
    hubs = {
        "fields": (golden(3, 4, 8) / 2 @ fields.flatten()).view(1, 1, 4),
        "events": torch.stack(
            [events[:, :2].mean(dim=1) @ golden(5, 4, 4).t() / 2, events[:, 2] @ golden(15, 4, 4).t() / 2], dim=1
        ),
        "tasks": torch.cat([tasks, golden(7, 1, 1, 4)], dim=1),
    }
    block = Block(4, {kind: values.shape[1] for kind, values in hubs.items()}, TYPES).double()
    for i, kind in enumerate(TYPES):
        parts: Any = block.read[kind]
        for j, part in enumerate(parts):
            assert isinstance(part, CrossAttention)
            for k, linear in enumerate((part.query, part.key, part.value)):
                _set(linear.weight, 100 + 30 * i + 10 * j + k)
        mix, tell = block.mix[kind], block.tell[kind]
        assert isinstance(mix, torch.nn.Linear) and isinstance(tell, torch.nn.Linear)
        _set(mix.weight, 200 + i)
        _set(tell.weight, 210 + i)
    with torch.no_grad():
        told, after = block({"fields": fields, "events": events, "tasks": tasks}, hubs, torch.ones(1, 3).double())
    expected = {
        "hub": (after["fields"][0, 0], [-1.4134307124, 0.6780029381, -0.4297595913, 1.1651873655]),
        "history": (after["events"][0, 0], [0.7779106987, -1.2288667856, 1.1696628485, -0.7187067616]),
        "task": (after["tasks"][0, 0], [0.7987367882, -1.3786675468, -0.5141105343, 1.094041293]),
        "nobody's": (after["tasks"][0, 1], [-0.1366057313, 1.1652505316, -1.5376258484, 0.5089810481]),
        "field": (told["fields"][0, 0], [1.6447177148, -0.331497916, -0.2549604917, -1.0582593071]),
        "event": (told["events"][0, 0], [-1.5384868648, -0.0157495468, 0.316157139, 1.2380792726]),
        "told": (told["tasks"][0, 0], [0.5937071965, -1.7153831436, 0.3660594447, 0.7556165024]),
    }
    for name, (found, wanted) in expected.items():
        assert found.tolist() == pytest.approx(wanted, abs=1e-8), name


def test_each_feedback_reads_its_own_task_token_beside_the_fields() -> None:
    made = build_ranker(RankerConfig.of("esmm", backbone="infnet"), example_schema("click", "cart", "pay")).eval()
    assert isinstance(made, ComposedRanker) and isinstance(made.backbone, InfNet)
    assert made.backbone.streams == {"recent_times": ("recent_items", "recent_likes")}
    assert made.backbone.bags == ("genres",)
    bare = build_ranker(RankerConfig.of("dnn", backbone="infnet", skip=False), example_schema("like"))
    assert isinstance(bare, ComposedRanker) and bare.backbone is not None
    assert bare.backbone.out_features == 16
    # user, item, genres, four numbers, and the mean of one history
    assert made.backbone.out_features == 18 * (1 + 2 + 1 + 4 + 1)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"sequence": "tin"}, "backbone 'infnet' reads fields and events by itself: leave sequence out"),
        ({"interaction": "mlp"}, "leave interaction out"),
        (
            {"head": "mmoe"},
            "gives each feedback an input of its own, which head 'mmoe' does not read",
        ),
    ],
)
def test_what_does_not_fit_a_backbone_is_refused(block: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        RankerConfig.of("dnn", backbone="infnet", **block)


def test_a_config_without_a_backbone_is_written_as_before() -> None:
    assert "backbone" not in RankerConfig.of("dnn").model_dump()
    assert RankerConfig.of("dnn", backbone="infnet").model_dump()["backbone"] == "infnet"
