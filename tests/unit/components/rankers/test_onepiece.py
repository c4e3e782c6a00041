"""Does the candidate of OnePiece think in steps as the paper says, over a context that never looks back at it?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.onepiece.ranker import OnePiece
from components.rankers.onepiece.reasoning import Layer, Reasoner
from components.testing.ranker import FIELDS, example_batch, example_schema, unpadded
from tests.golden_numbers import golden


def reasoner(layers: int = 2, steps: int = 3) -> Reasoner:
    """A reasoner with weights away from zero."""
    torch.manual_seed(0)
    made = Reasoner(8, layers, 2, steps, dropout=0.0, std=0.5, scale=1.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return made.eval()


def tokens(rows: int = 4, events: int = 5) -> tuple[Tensor, Tensor]:
    """Events of which some are padding, and a candidate."""
    g = torch.Generator().manual_seed(1)
    there = (torch.arange(events) < torch.tensor([5, 3, 1, 0])[:rows, None]).float()
    return torch.randn(rows, events + 1, 8, generator=g), torch.cat([there, torch.ones(rows, 1)], dim=1)


def test_one_layer_and_two_steps_are_the_golden_vector() -> None:
    """Golden numbers of one layer with one head and no feed-forward, for one candidate of the two that it lists.

    The other candidate is a token of the context here, as no candidate reads another.
    """
    layer = Layer(4, 1, 0.0).double()
    with torch.no_grad():
        for linear, seed in ((layer.query, 3), (layer.key, 4), (layer.value, 5), (layer.mix, 6)):
            linear.weight.copy_(golden(seed, 4, 4) / 2)
        layer.mix.bias.zero_()
        for parameter in layer.forward_layers.parameters():
            parameter.zero_()
    base = torch.cat([golden(1, 3, 4), golden(2, 2, 4)]).unsqueeze(0)
    open_ = torch.zeros(1, 1, 1, 5, dtype=torch.float64)
    read, known = layer(base, None, open_)
    expected = torch.tensor(
        [
            [-0.2534360215, 0.2073545971, 0.4375254201, 1.3280281254],
            [-0.0128099426, -0.392798409, 0.1639632508, 1.2623784298],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(read[0, -2:], expected, atol=1e-8, rtol=0)
    steps = golden(7, 2, 4) / 2
    block = read[:, -2:] + steps[0]  # both candidates are one block of the golden vector
    after, known = layer(block, known, nn.functional.pad(open_, (0, 2)))
    expected = torch.tensor(
        [
            [0.2887509787, 0.7461150777, 0.7729182064, 1.9565268011],
            [0.5612376428, 0.1444120638, 0.5188130992, 1.9158204706],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(after[0], expected, atol=1e-8, rtol=0)
    after, _ = layer(after + steps[1], known, nn.functional.pad(open_, (0, 4)))
    expected = torch.tensor(
        [
            [0.3595717462, 0.5203855292, 1.0391071321, 2.7192958997],
            [0.644545217, -0.0819335935, 0.7926233732, 2.6883588698],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(after[0], expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("layers", [1, 3])
@torch.no_grad()
def test_steps_are_what_a_masked_transformer_over_all_tokens_answers(layers: int) -> None:
    """By hand: the context and every block again for each step, with the paper's mask."""
    made, (x, there) = reasoner(layers), tokens()
    found = made(x, there)
    assert len(found) == 4 and made.steps is not None
    blocks: list[Tensor] = []
    latest = _masked(made, x, there)[:, -1:]
    expected = [latest]
    for step in made.steps:
        blocks.append(latest + step)
        latest = _masked(made, torch.cat([x, *blocks], dim=1), there)[:, -1:]
        expected.append(latest)
    for answer, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(answer, made.norm(wanted[:, 0]), atol=1e-5, rtol=1e-5)


def _masked(made: Reasoner, x: Tensor, there: Tensor) -> Tensor:
    """Return all tokens after all layers: the context reads itself, block k the context and blocks up to k."""
    context = there.shape[1]
    place = torch.arange(x.shape[1])
    sees = (place[:, None] >= place[None, :]) | (place[None, :] < context)
    sees = sees & ~((place[:, None] < context) & (place[None, :] >= context))
    exists = torch.cat([there, torch.ones(len(x), x.shape[1] - context)], dim=1)
    closed = (1 - sees.float()[None] * exists[:, None]) * -1e30
    for layer in made.layers:
        assert isinstance(layer, Layer)
        x, _ = layer(x, None, closed[:, None])
    return x


@torch.no_grad()
def test_padding_is_silent_and_steps_do_not_change_what_came_before_them() -> None:
    made, (x, there) = reasoner(), tokens()
    rubbish = torch.where(there.unsqueeze(2) > 0, x, 33.0)
    for one, other in zip(made(x, there), made(rubbish, there), strict=True):
        torch.testing.assert_close(one, other)
    fewer = reasoner(steps=1)
    fewer.load_state_dict({k: v[:1] if k == "steps" else v for k, v in made.state_dict().items()})
    for one, other in zip(fewer(x, there), made(x, there), strict=False):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("steps", "read"), [(None, [1, 2]), (0, [0, 0]), (1, [0, 1]), (4, [3, 4])])
def test_each_feedback_has_its_step(steps: int | None, read: list[int]) -> None:
    made = build_ranker(RankerConfig.of("onepiece", steps=steps), example_schema("like", "love"))
    assert isinstance(made, OnePiece)
    assert made.read_at == read


@torch.no_grad()
def test_without_steps_or_without_a_funnel_it_is_scored_alike_padded_and_jagged() -> None:
    for block in ({"steps": 0}, {"steps": 3, "layers": 1}):
        made = build_ranker(RankerConfig.of("onepiece", **block), example_schema("like", "love", funnel=False)).eval()
        batch = example_batch(30)
        for name, values in made(unpadded(batch)).items():
            torch.testing.assert_close(values, made(batch)[name])


def test_it_needs_times() -> None:
    timeless = tuple(
        f.model_copy(update={"timed_by": None}) if f.kind == "sequence" else f for f in FIELDS if f.kind != "elapsed"
    )
    with pytest.raises(BadInputError, match="ranker 'onepiece' reads events with their times"):
        build_ranker(RankerConfig.of("onepiece"), example_schema("like", fields=timeless))
