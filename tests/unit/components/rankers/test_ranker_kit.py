"""Does each check of rankers fail for a ranker that breaks what it is about?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from components.rankers.config import RankerConfig, SequenceConfig
from components.rankers.lr.config import LrConfig
from components.rankers.lr.ranker import LogisticRegression
from components.rankers.parts import SequenceEncoder
from components.rankers.registration import Registered
from components.rankers.tasks import HIDDEN
from components.testing.ranker import RankerKit, example_batch, example_schema
from features.declaration import RankerSchema

HERE = "tests.unit.components.rankers.test_ranker_kit"
Outputs = dict[str, Tensor]


class Broken(LogisticRegression):
    """A logistic regression whose answers are changed afterwards."""

    def forward(self, batch: Outputs) -> Outputs:
        return self.spoilt(batch, super().forward(batch))

    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return outputs


class Nameless(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {name: values for name, values in outputs.items() if name != HIDDEN}


class TooLarge(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, "like": outputs["like"] + 1} if "like" in outputs else outputs


class Inconsistent(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, "cart": outputs["cart"] * 0.5} if "cart" in outputs else outputs


class OfTheBatch(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, HIDDEN: outputs[HIDDEN] - outputs[HIDDEN].mean(dim=0)}


class OfThePadding(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, HIDDEN: outputs[HIDDEN] + batch["recent_items"].shape[1]}


class Idle(Broken):
    def __init__(self, config: LrConfig, schema: RankerSchema) -> None:
        super().__init__(config, schema)
        self.unused = nn.Parameter(torch.zeros(3))


class Curious(Broken):
    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, HIDDEN: outputs[HIDDEN] + batch["place"].unsqueeze(1)} if "place" in batch else outputs


class Forgetful(Broken):
    def __init__(self, config: LrConfig, schema: RankerSchema) -> None:
        super().__init__(config, schema)
        self.state = torch.randn(1)  # no buffer: it is not in the weights' file

    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, HIDDEN: outputs[HIDDEN] + self.state}


class Weightless(Broken):
    def loss(self, outputs: Outputs, labels: Outputs) -> Tensor:
        return super().loss(outputs, {name: labels[name] for name in ("like", "love")})


class Branching(Broken):
    """Python decides on a size, so that the graph keeps what held for the sample."""

    def spoilt(self, batch: Outputs, outputs: Outputs) -> Outputs:
        return {**outputs, HIDDEN: outputs[HIDDEN] + float(torch.jit.is_tracing() or torch.compiler.is_exporting())}


class OddOne(RankerConfig, name="odd_one", builds=f"{HERE}:Broken"):
    """A logistic regression with an option that nothing reads."""

    strength: int = 3
    """Says nothing."""


class Silent(OddOne):
    """An option that nobody explains."""

    weight: int = 3


class Refused(OddOne):
    """A default that the key itself would not take."""

    weight: Annotated[int, Field(ge=3)] = 2
    """Too small."""


class FirstEvent(SequenceEncoder):
    """The most recent event."""

    def __init__(self, width: int, length: int, config: RankerConfig, targeted: bool) -> None:
        super().__init__()
        self.out_features = width

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        return nn.functional.pad(vectors, (0, 0, 0, 1))[:, 0]


class First(SequenceConfig, name="first", builds=f"{HERE}:FirstEvent"):
    """The most recent event."""


def config_of(made: type[Broken]) -> type[RankerConfig]:
    class Odd(RankerConfig, name="odd_one", builds=f"{HERE}:{made.__name__}"):
        """A ranker that breaks a rule."""

    return Odd


class TestASoundOne(RankerKit):
    ranker = OddOne


class TestASoundPart(RankerKit):
    ranker = First


@pytest.fixture
def kit() -> Callable[[type[Registered]], RankerKit]:
    """Make the kit of a ranker."""

    def made(spec: type[Registered]) -> RankerKit:
        found = RankerKit()
        found.ranker = spec  # type: ignore[misc]  # one per test
        found.setup_method()
        return found

    return made


@pytest.mark.parametrize(
    ("made", "check", "said"),
    [
        (Nameless, "test_outputs_are_the_declared_tasks_and_hidden", "`hidden` is not"),
        (TooLarge, "test_outputs_are_the_declared_tasks_and_hidden", r"'like' leaves \[0, 1\]"),
        (Inconsistent, "test_conditionals_times_the_step_before_are_the_feedback", "not close"),
        (OfTheBatch, "test_a_row_is_scored_alike_alone_in_a_batch_and_with_more_padding", "not close"),
        (OfThePadding, "test_a_row_is_scored_alike_alone_in_a_batch_and_with_more_padding", "not close"),
        (OfThePadding, "test_an_empty_history_is_a_history_of_padding", "not close"),
        (Idle, "test_unseen_values_are_scored_and_loss_has_gradients_everywhere", "unused has no gradient"),
        (Weightless, "test_a_row_of_weight_two_teaches_as_two_rows", "does not weigh rows"),
        (Curious, "test_a_place_is_added_to_logits_and_changes_no_order", "`hidden` reads the place"),
        (Forgetful, "test_written_and_read_back_it_answers_the_same", "read back, output"),
        (Branching, "test_its_graph_answers_as_the_module_does", "graph's hidden .* differs from torch"),
    ],
)
def test_a_ranker_that_breaks_a_rule_fails_its_check(
    kit: Callable[[type[Registered]], RankerKit], made: type[Broken], check: str, said: str, tmp_path: Path
) -> None:
    broken = kit(config_of(made))
    try:
        with pytest.raises(Exception, match=said):
            getattr(broken, check)(*([tmp_path] if "tmp_path" in getattr(broken, check).__annotations__ else []))
    finally:
        broken.teardown_method()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Silent, r"options without a line of text below them: \['weight'\]"),
        (Refused, "greater than or equal to 3"),
    ],
)
def test_wrong_options_are_noticed(
    kit: Callable[[type[Registered]], RankerKit], wrong: type[RankerConfig], said: str
) -> None:
    broken = kit(wrong)
    try:
        with pytest.raises((AssertionError, ValueError), match=said):
            broken.test_its_defaults_are_a_valid_block()
    finally:
        broken.teardown_method()


def test_the_example_has_a_field_of_every_kind_and_both_classes() -> None:
    assert {field.kind for field in example_schema("like").fields} == {
        "sequence", "categorical", "numeric", "elapsed", "vector",
    }  # fmt: skip
    assert {*example_batch(3)} == {field.name for field in example_schema("like").fields}
