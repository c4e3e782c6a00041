"""Does every registered ranker keep the contract of names, shapes and probabilities?"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from components.platform.errors import BadInputError, StorageError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.testing.ranker import RankerContract
from components.train.ranker_files import load_ranker, write_weights
from features.declaration import FieldSpec, RankerSchema
from tests.registered import OPTIONS, RANKERS

SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]
EVERY = sorted(RANKERS)
WITH_BIASES = [name for name in EVERY if name != "gnolr"]
"""GNOLR has no bias: it refuses a one-class base rate, and gives the base rate where cosines are 0, which they are
at no random start; `test_gnolr.py` tests both."""


def small(name: str) -> RankerConfig:
    return RankerConfig.of(name=name, hidden=(8, 4) if "hidden" in OPTIONS[name] else None)


def build(name: str, schema: RankerSchema, seed: int = 0) -> RankerModule:
    torch.manual_seed(seed)
    ranker = build_ranker(small(name), schema)
    with torch.no_grad():  # weights away from zero, so that a wrong row is seen
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return ranker.eval()


class TestEveryRanker(RankerContract):
    @pytest.fixture(autouse=True, params=EVERY)
    def _chosen(self, request: pytest.FixtureRequest) -> None:
        self.name = request.param

    def setup_method(self) -> None:
        """It is known already."""

    def teardown_method(self) -> None:
        """It stays known."""

    def config(self) -> RankerConfig:
        return small(self.name)


@pytest.mark.parametrize("name", WITH_BIASES)
def test_a_one_class_split_still_starts_finite(name: str, schema: RankerSchema, batch_of: BatchOf) -> None:
    one_class = schema.model_copy(update={"base_rates": {"like": 0.0, "love": 0.0}})
    ranker = build_ranker(small(name), one_class)
    none = {label: torch.zeros(8) for label in ("like", "love")}
    assert torch.isfinite(ranker.loss(ranker(batch_of(8)), none))


@pytest.mark.parametrize("name", WITH_BIASES)
def test_it_starts_at_the_base_rates(name: str, schema: RankerSchema, batch_of: BatchOf) -> None:
    torch.manual_seed(0)
    no_numbers = {"popularity": torch.zeros(500), "taste": torch.zeros(500, 3)}
    outputs = build_ranker(small(name), schema).eval()(batch_of(500) | no_numbers)
    assert outputs["like"].mean().item() == pytest.approx(0.5, abs=0.02)
    assert outputs["love"].mean().item() == pytest.approx(0.25, abs=0.02)


def test_weights_of_another_ranker_are_one_sentence(schema: RankerSchema, tmp_path: Path) -> None:
    write_weights(tmp_path / "weights.safetensors", build("lr", schema))
    (tmp_path / "ranker.json").write_text(small("esmm").model_dump_json())
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    with pytest.raises(StorageError, match=r"does not fit ranker 'esmm'.*train the ranker again"):
        load_ranker(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    with pytest.raises(StorageError, match="train the ranker again"):
        load_ranker(tmp_path)


@torch.no_grad()
def test_lr_is_linear(schema: RankerSchema, batch_of: BatchOf) -> None:
    """The logit is the bias plus one weight per value, bags and histories averaged: added up by hand."""
    ranker, batch = build("lr", schema), batch_of(5, seed=3)
    weight = ranker.embedding.weight.detach()
    offsets = ranker.embedding.offsets
    for row in range(5):
        for t, label in enumerate(("like", "love")):
            numbers = torch.cat([batch["popularity"][row : row + 1], batch["taste"][row]])
            z = float(ranker.bias[t]) + float(numbers @ ranker.slopes[:, t])
            for field in ("item_id", "user_id"):
                index = int(batch[field][row])
                z += float(weight[offsets[field] + index, t]) if index else 0.0
            for field in ("genres", "recent_items", "recent_likes"):
                known = [int(i) for i in batch[field][row] if i]
                z += sum(float(weight[offsets[field] + i, t]) for i in known) / max(1, len(known))
            assert float(ranker(batch)[label][row]) == pytest.approx(1 / (1 + math.exp(-z)), rel=1e-5)


def test_esmm_hidden_is_the_towers_side_by_side(schema: RankerSchema, batch_of: BatchOf) -> None:
    ranker = build_ranker(RankerConfig.of(name="esmm"), schema)
    assert ranker(batch_of(3))["hidden"].shape == (3, 160), "the paper's last layer of 80, twice"


def test_esmm_towers_share_nothing_but_the_embeddings(schema: RankerSchema, batch_of: BatchOf) -> None:
    ranker, batch = build("esmm", schema), batch_of(20)
    before = ranker(batch)
    with torch.no_grad():
        for parameter in ranker.head.towers[1].parameters():
            parameter.add_(1.0)
    after = ranker(batch)
    assert torch.equal(after["like"], before["like"])
    assert not torch.equal(after["love_given_like"], before["love_given_like"])


@pytest.mark.parametrize(("feedback", "funnel"), [(("like",), True), (("like", "share"), False)])
def test_esmm_without_a_funnel_is_refused_in_a_sentence(
    feedback: tuple[str, ...], funnel: bool, schema_of: SchemaOf
) -> None:
    with pytest.raises(BadInputError, match=r"needs a funnel of at least two feedback types.*choose another ranker"):
        build_ranker(small("esmm"), schema_of(*feedback, funnel=funnel))


def test_lr_takes_one_feedback_or_many_without_a_funnel(schema_of: SchemaOf, batch_of: BatchOf) -> None:
    for feedback in (("like",), ("like", "share", "follow")):
        outputs = build("lr", schema_of(*feedback, funnel=False))(batch_of(4))
        assert {name for name in outputs if not name.endswith("_logit")} == {*feedback, "hidden"}


@pytest.mark.parametrize("name", ["like", "love_given_like", "hidden", "love_logit"])
def test_a_field_named_like_an_output_is_refused(name: str, schema_of: SchemaOf) -> None:
    fields = (FieldSpec(name=name, kind="numeric"),)
    with pytest.raises(BadInputError, match=f"the name '{name}' means two things"):
        build_ranker(small("esmm"), schema_of("like", "love", fields=fields))


def test_a_schema_without_fields_is_refused(schema_of: SchemaOf) -> None:
    with pytest.raises(BadInputError, match="has no field"):
        build_ranker(small("lr"), schema_of("like", fields=()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "esm"}, "did you mean 'esmm'"),
        ({"name": "lr", "hidden": [8]}, "ranker 'lr' has no 'hidden'"),
        ({"name": "esmm", "hidden": []}, "at least one layer"),
        ({"name": "esmm", "hidden": [0]}, "at least 1 wide"),
        ({"name": "esmm", "width": 3}, "Extra inputs"),
    ],
)
def test_a_wrong_ranker_block_is_a_sentence(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RankerConfig.model_validate(config)
