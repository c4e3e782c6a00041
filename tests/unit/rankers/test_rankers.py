"""Does every registered ranker keep the contract of names, shapes and probabilities?"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from components.errors import BadInputError, StorageError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import OPTIONS, RANKERS, RankerConfig
from components.rankers.files import load_ranker, write_weights
from components.rankers.tasks import HIDDEN, tasks_of
from features.declaration import FieldSpec, RankerSchema
from tests.unit.rankers.conftest import widened, without_events

SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]
EVERY = sorted(RANKERS)
WITH_BIASES = [name for name in EVERY if name != "gnolr"]
"""GNOLR has no bias: it refuses a one-class base rate, and gives the base rate where cosines are 0, which they are
at no random start; `test_gnolr.py` tests both."""


def small(name: str) -> RankerConfig:
    return RankerConfig(name=name, hidden=(8, 4) if "hidden" in OPTIONS[name] else None)


def build(name: str, schema: RankerSchema, seed: int = 0) -> RankerModule:
    torch.manual_seed(seed)
    ranker = build_ranker(small(name), schema)
    with torch.no_grad():  # weights away from zero, so that a wrong row is seen
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return ranker.eval()


def labels_of(*feedback: str, rows: int) -> dict[str, Tensor]:
    return {name: (torch.arange(rows) % (i + 2) == 0).float() for i, name in enumerate(feedback)}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("feedback", [("like", "love"), ("click", "cart", "pay")], ids=len)
def test_outputs_are_the_declared_tasks_and_hidden(
    name: str, feedback: tuple[str, ...], schema_of: SchemaOf, batch_of: BatchOf
) -> None:
    schema = schema_of(*feedback)
    outputs = build(name, schema)(batch_of(33))
    for task in tasks_of(schema.declaration):
        assert outputs[task.name].shape == (33,)
        assert ((outputs[task.name] >= 0) & (outputs[task.name] <= 1)).all()
    assert outputs[HIDDEN].ndim == 2
    assert outputs[HIDDEN].shape[0] == 33


@pytest.mark.parametrize("name", EVERY)
def test_conditionals_times_the_step_before_are_the_feedback(name: str, schema_of: SchemaOf, batch_of: BatchOf) -> None:
    outputs = build(name, schema_of("click", "cart", "pay"))(batch_of(200))
    for shallow, deep in (("click", "cart"), ("cart", "pay")):
        product = outputs[shallow] * outputs[f"{deep}_given_{shallow}"]
        # A linear model may give the deep feedback more than the shallow one; its conditional stops at 1.
        torch.testing.assert_close(product, torch.minimum(outputs[deep], outputs[shallow]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_a_row_is_scored_alike_alone_in_a_batch_and_with_more_padding(
    name: str, schema: RankerSchema, batch_of: BatchOf
) -> None:
    ranker, batch = build(name, schema), batch_of(17)
    whole = ranker(batch)
    alone = ranker({field: values[4:5] for field, values in batch.items()})
    padded = ranker(widened(batch, 6))
    for output in whole:
        torch.testing.assert_close(alone[output], whole[output][4:5])
        torch.testing.assert_close(padded[output], whole[output])


@pytest.mark.parametrize("name", EVERY)
def test_an_empty_history_is_a_history_of_padding(name: str, schema: RankerSchema, batch_of: BatchOf) -> None:
    ranker, batch = build(name, schema), batch_of(9)
    without = ranker(without_events(batch))
    with_padding = ranker(widened(without_events(batch), 5))
    for output, values in with_padding.items():
        assert torch.isfinite(values).all()
        torch.testing.assert_close(without[output], values)


@pytest.mark.parametrize("name", EVERY)
def test_unseen_values_are_scored_and_loss_has_gradients_everywhere(
    name: str, schema: RankerSchema, batch_of: BatchOf
) -> None:
    ranker = build(name, schema)
    unseen = {f: torch.ones_like(v) if v.dtype == torch.int64 else v for f, v in batch_of(6).items()}
    assert all(torch.isfinite(values).all() for values in ranker(unseen).values())
    loss = ranker.loss(ranker(batch_of(64)), labels_of("like", "love", rows=64))
    loss.backward()
    assert loss.ndim == 0
    for parameter_name, parameter in ranker.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().sum() > 0, parameter_name


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


@pytest.mark.parametrize("name", EVERY)
def test_written_and_read_back_it_answers_the_same(
    name: str, schema: RankerSchema, batch_of: BatchOf, tmp_path: Path
) -> None:
    ranker, batch = build(name, schema), batch_of(12)
    write_weights(tmp_path / "weights.safetensors", ranker)
    (tmp_path / "ranker.json").write_text(small(name).model_dump_json())
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    again = load_ranker(tmp_path)
    assert not again.training
    for output, values in ranker(batch).items():
        assert torch.equal(again(batch)[output], values)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranker.json", "schema.json", "weights.safetensors"]


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
    ranker = build_ranker(RankerConfig(name="esmm"), schema)
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
