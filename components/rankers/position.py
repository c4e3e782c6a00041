"""What does the place of a row add to its logits? A table by place, learned beside a ranker that never reads the place.

Every answer is for one place (`Position.served`), so that there the table adds one constant. A ranker that reads the
place as an input may let it change what it says of items; here it cannot.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.heads.towers import answers, chained, steps_of
from components.rankers.tasks import LOGIT, tasks_of
from features.declaration import UNKNOWN, FieldSpec, RankerSchema

_QUICK = 10.0
"""How many times faster than a weight the effect of a place learns: what a ranker has learned of items while it took
the effect of their places for theirs, it unlearns slowly, and the best epoch comes before."""


class PositionEffect(FieldEmbedding):
    """One number per place and logit, zero at first; a place that training never saw counts as the largest that it did.

    Args:
        field: the place, with a vocabulary.
        schema: its declaration says what is predicted.
        one: whether a place adds the same number to all logits.
    """

    divisible = False  # few rows, read beside those of the batch

    def __init__(self, field: FieldSpec, schema: RankerSchema, one: bool) -> None:
        feedback = schema.declaration.feedback
        super().__init__((field,), width=1 if one else len(feedback), std=0.0)
        self.feedback = feedback
        self.place, self.largest = field.name, field.size - 1
        self.tasks = tasks_of(schema.declaration)

    def added(self, batch: dict[str, Tensor], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a ranker's outputs with the effect of each row's place in logits and probabilities.

        Raises:
            BadInputError: there is a feedback without a logit.
        """
        place = batch[self.place]
        effect = _QUICK * self.look_up(torch.where(place == UNKNOWN, self.largest, place))
        effect = effect.expand(-1, len(self.feedback))
        steps = steps_of(self.feedback)
        of_steps = all(name + LOGIT in outputs for name in steps)
        names = steps if of_steps else self.feedback
        if absent := [name for name in names if name + LOGIT not in outputs]:
            raise BadInputError(
                f"the ranker gives no logit of {absent[0]!r} that a place could add to: set position.effect to input, "
                "or choose another ranker"
            )
        logits = [outputs[name + LOGIT] + effect[:, i] for i, name in enumerate(names)]
        if of_steps and len(names) > 1:
            return outputs | chained(logits, self.feedback)
        return outputs | answers(dict(zip(names, logits, strict=True)), self.tasks)


def add_position(ranker: nn.Module, effect: PositionEffect) -> None:
    """Let every call of a module answer with the effect of the places; its own code, parts and attributes stay."""
    ranker.place = effect
    ranker.register_forward_hook(_added)


def _added(ranker: nn.Module, inputs: tuple[dict[str, Tensor]], outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    effect: PositionEffect = ranker.get_submodule("place")  # type: ignore[assignment]
    return effect.added(inputs[0], outputs)
