"""Does an adapter start as its base, change only what it may, merge without a trace, and fit nothing else?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from components.platform.errors import BadInputError, StorageError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.lora.adapter import (
    ADAPTER,
    ChangedRows,
    LoraLinear,
    adapter_state,
    attach,
    load_adapter,
    merged,
    weights_digest,
    write_adapter,
)
from components.rankers.lora.config import LoraConfig
from tests.unit.components.rankers.conftest import make_batch, make_schema

SCHEMA = make_schema("like", "love")
BLOCKS: list[dict[str, Any]] = [
    {"name": "fintrec", "embedding_width": 8, "hidden": (8,), "heads": 2, "dropout": 0.0},
    {"name": "esmm", "hidden": (8,), "sequence": "transformer"},
    {"name": "autoint", "hidden": (8,)},
]
EVERY = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["name"])


def base_of(block: dict[str, Any], seed: int = 0) -> RankerModule:
    torch.manual_seed(seed)
    ranker = build_ranker(RankerConfig.model_validate(block), SCHEMA)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    return ranker.eval()


def trained(ranker: RankerModule, weight_decay: float = 0.1) -> RankerModule:
    """Take some large steps on random labels."""
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.05, weight_decay=weight_decay)
    batch = make_batch(64, seed=3)
    labels = {name: (torch.rand(64) < 0.5).float() for name in ("like", "love")}
    ranker.train()
    for _ in range(5):
        loss: Any = ranker.loss(ranker(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return ranker.eval()


def answers(ranker: RankerModule) -> dict[str, Tensor]:
    with torch.no_grad():
        outputs: dict[str, Tensor] = ranker(make_batch(40))
    return outputs


@EVERY
@pytest.mark.parametrize("targets", ["query_value", "all"])
@pytest.mark.parametrize("training", [False, True])
def test_at_step_0_it_is_the_base_bit_by_bit(block: dict[str, Any], targets: Any, training: bool) -> None:
    # Frozen as well: torch multiplies by other kernels, which round differently, where a weight learns.
    ranker = base_of(block).requires_grad_(False).train(training)
    before = answers(ranker)
    attach(ranker, LoraConfig(targets=targets, dropout=0.5), SCHEMA, "7")
    ranker.train(training)
    after = answers(ranker)
    assert all(torch.equal(before[name], after[name]) for name in before)


@EVERY
@pytest.mark.parametrize("targets", ["query_value", "all"])
def test_merged_it_is_a_plain_ranker_with_the_same_answers(block: dict[str, Any], targets: Any) -> None:
    ranker, base = base_of(block), base_of(block)
    attach(ranker, LoraConfig(targets=targets), SCHEMA, "7")
    trained(ranker)
    plain = merged(ranker)
    assert not any(isinstance(module, LoraLinear | ChangedRows) for module in plain.modules())
    assert plain.state_dict().keys() == base.state_dict().keys()
    base.load_state_dict(plain.state_dict())
    adapted, alone, original = answers(ranker), answers(base), answers(base_of(block))
    for name, values in adapted.items():
        torch.testing.assert_close(alone[name], values, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(adapted["like"], original["like"], atol=1e-2), "it did learn"
    assert merged(plain) is plain
    again = answers(ranker)
    assert all(torch.equal(again[name], values) for name, values in adapted.items()), "merging leaves it as it was"


@EVERY
def test_only_changes_heads_and_chosen_rows_move(block: dict[str, Any]) -> None:
    """With weight decay, which would move whatever an optimiser holds."""
    ranker, base = base_of(block), base_of(block)
    header = attach(ranker, LoraConfig(), SCHEMA, "7")
    plain = merged(trained(ranker)).state_dict()
    layers = {f"{name}.weight" for name in header.layers}
    for name, values in base.state_dict().items():
        if name == "embedding.weight":
            embedding: Any = ranker.embedding
            offsets = embedding.offsets
            chosen = torch.zeros(len(values), dtype=torch.bool)
            chosen[offsets["item_id"] + 1 : offsets["item_id"] + 12] = True
            chosen[offsets["user_id"] + 1 : offsets["user_id"] + 9] = True
            moved = (plain[name] != values).any(dim=1)
            assert torch.equal(moved, chosen), "rows of the item and of the domain, which is the user here"
        else:
            assert torch.equal(plain[name], values) != (name in layers or "head" in name), name


def test_the_number_of_trained_parameters_is_rank_times_sides_plus_rows_plus_heads() -> None:
    ranker = base_of(BLOCKS[0])
    heads = sum(p.numel() for p in ranker.get_submodule("heads").parameters())
    header = attach(ranker, LoraConfig(rank=3, rows=("user_id",)), SCHEMA, "7")
    assert header.layers == tuple(
        f"encoders.{e}.layers.{n}.{w}" for e in (0, 1) for n in (0, 1) for w in ("query", "value")
    )
    assert header.parameters == len(header.layers) * 3 * (8 + 8) + (9 + 1) * 8 + heads
    assert header.parameters == sum(p.numel() for p in ranker.parameters() if p.requires_grad)


def test_the_change_counts_alpha_over_rank_times() -> None:
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(4, 3), LoraConfig(rank=2, alpha=6.0, dropout=0.0))
    nn.init.normal_(layer.up)
    x = torch.randn(5, 4)
    expected = x @ layer.base.weight.T + layer.base.bias + 3.0 * (x @ layer.down.T @ layer.up.T)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merged()(x), expected)


@EVERY
def test_written_apart_it_is_put_back_on_its_base_and_on_no_other(block: dict[str, Any], tmp_path: Path) -> None:
    ranker = base_of(block)
    header = attach(ranker, LoraConfig(rank=2), SCHEMA, "7")
    trained(ranker)
    write_adapter(tmp_path, ranker, header)
    stored = load_file(str(tmp_path / ADAPTER))
    assert sum(values.numel() for values in stored.values()) == header.parameters + sum(
        buffer.numel() for name, buffer in ranker.named_buffers() if name in ranker.state_dict()
    )
    again = base_of(block)
    assert load_adapter(again, tmp_path, SCHEMA) == header
    expected, found = answers(ranker), answers(again.eval())
    assert all(torch.equal(found[name], values) for name, values in expected.items())
    with pytest.raises(BadInputError, match=r"was trained on weights \w{12} and this ranker has \w{12}: load the"):
        load_adapter(base_of(block, seed=1), tmp_path, SCHEMA)
    (tmp_path / ADAPTER).write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(StorageError, match=r"does not fit its header: .*adapt the ranker again"):
        load_adapter(base_of(block), tmp_path, SCHEMA)


def test_the_digest_sees_every_number_and_every_name() -> None:
    ranker = base_of(BLOCKS[0])
    other = copy.deepcopy(ranker)
    assert weights_digest(ranker) == weights_digest(other)
    with torch.no_grad():
        next(other.parameters()).view(-1)[-1] += 1e-3
    assert weights_digest(ranker) != weights_digest(other)


def test_without_rows_the_embedding_stays_the_base() -> None:
    ranker = base_of(BLOCKS[0])
    assert attach(ranker, LoraConfig(rows=()), SCHEMA, "7").rows == ()
    assert "embedding.weight" not in adapter_state(ranker)
    assert not isinstance(ranker.embedding, ChangedRows)


@pytest.mark.parametrize(
    ("block", "config", "message"),
    [
        ({"name": "dnn"}, {}, r"no attention with a query and a value for LoRA to change: choose method 'full'"),
        ({"name": "gnolr"}, {}, r"choose targets 'all', method 'full', or another ranker"),
        ({"name": "lr"}, {"targets": "all"}, r"no linear layer outside its heads.*choose method 'full'"),
        (
            {"name": "fintrec"},
            {"rows": ("taste",)},
            r"rows: 'taste' is no field with embedding rows: name some of genres",
        ),
        (
            {"name": "autoint", "embedding": "hashed"},
            {"rows": ("item_id",)},
            r"rows of item_id cannot train: .*leave rows out",
        ),
    ],
)
def test_what_cannot_adapt_is_refused_in_a_sentence_and_left_alone(
    block: dict[str, Any], config: dict[str, Any], message: str, batch_of: Callable[..., dict[str, Tensor]]
) -> None:
    ranker = build_ranker(RankerConfig.model_validate(block), SCHEMA)
    with pytest.raises(BadInputError, match=message):
        attach(ranker, LoraConfig(**config), SCHEMA, "7")
    assert all(parameter.requires_grad for parameter in ranker.parameters())


def test_hashed_embeddings_adapt_without_rows() -> None:
    ranker = base_of({"name": "autoint", "embedding": "hashed", "hidden": (8,)})
    assert attach(ranker, LoraConfig(), SCHEMA, "7").rows == ()
