"""Does each sequence encoder compute its paper's formula, and see what it claims to see?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.rankers.build import build_ranker
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.config import RankerConfig
from components.rankers.parts import SequenceEncoder
from components.rankers.registration import load
from components.rankers.sequences.din import Dice
from components.rankers.sequences.tin import BUCKETS, interval
from components.rankers.sequences.transformer import Block
from features.declaration import Declaration, FieldSpec, RankerSchema
from tests.golden_numbers import golden
from tests.registered import SEQUENCES

WIDTH, LENGTH = 6, 5
EVERY = sorted(SEQUENCES)
ATTENTIVE = ["din", "tin", "transformer"]
Array = np.ndarray[Any, Any]


def encoder(name: str, targeted: bool = True, seed: int = 0, **config: Any) -> SequenceEncoder:
    """An encoder with weights away from zero, so that a wrong one is seen."""
    torch.manual_seed(seed)
    complete = SEQUENCES[name]().model_copy(update=config)
    made: SequenceEncoder = load(SEQUENCES[name])(WIDTH, LENGTH, complete, targeted=targeted)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.4)
    return made.eval()


def events(lengths: list[int], padded: int = LENGTH, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random histories of these lengths, most recent first, and candidates."""
    g = torch.Generator().manual_seed(seed)
    mask = (torch.arange(padded) < torch.tensor(lengths)[:, None]).float()
    vectors = torch.randn(len(lengths), padded, WIDTH, generator=g) * mask.unsqueeze(2)
    return vectors, mask, torch.randn(len(lengths), WIDTH, generator=g)


def weights_of(module: torch.nn.Module) -> dict[str, Array]:
    return {name: values.detach().double().numpy() for name, values in module.state_dict().items()}


def test_dice_is_the_golden_vector() -> None:
    """The bend lies at the mean of one event's own numbers; with a slope of 1 below it there is none."""
    dice = Dice(3).double()
    with torch.no_grad():
        dice.slopes.copy_(torch.tensor([0.25, -0.1, 0.0]))
    found = dice(torch.tensor([1.0, -2.0, 4.0]).double()).tolist()
    assert found == pytest.approx([0.625, -0.2996255428, 3.0915899223], abs=1e-8)
    with torch.no_grad():
        dice.slopes.fill_(1.0)
    numbers = golden(4, 7, 3)
    torch.testing.assert_close(dice(numbers), numbers)


def test_time_is_cut_at_powers_of_two() -> None:
    seconds = torch.tensor([-1.0, 0, 0.5, 1, 2, 3, 30, 5000, 90_000, 2.0**30, 1e12])
    assert interval(seconds).tolist() == [1, 1, 1, 2, 2, 3, 5, 13, 17, BUCKETS - 1, BUCKETS - 1]


def din_by_hand(w: dict[str, Array], history: Array, t: Array) -> Array:
    out = np.zeros(WIDTH)
    for h in history:
        z = w["unit.0.weight"] @ np.concatenate([t, h, t - h, t * h]) + w["unit.0.bias"]
        z = np.where(z > 0, z, w["unit.1.weight"][0] * z)
        out += float((w["unit.2.weight"] @ z + w["unit.2.bias"])[0]) * h
    return out


def softmax(scores: list[float]) -> list[float]:
    exps = [math.exp(s - max(scores)) for s in scores]
    return [e / sum(exps) for e in exps]


def of_size_one(x: Array) -> Array:
    return x / math.sqrt((x**2).mean())


def tin_by_hand(w: dict[str, Array], history: Array, t: Array) -> Array:
    v = of_size_one(t + w["positions"][0])
    encoded = [of_size_one(h + w["positions"][j]) for j, h in enumerate(history, start=1)]
    if not encoded:
        return np.zeros(2 * WIDTH)
    alphas = softmax([float(e @ v) / math.sqrt(WIDTH) for e in encoded])
    u = sum(a * e for a, e in zip(alphas, encoded, strict=True))
    four_way = sum(a * (e * v) for a, e in zip(alphas, encoded, strict=True))
    return w["gain"] * np.concatenate([u, four_way])


def norm_by_hand(x: Array, gain: Array, shift: Array) -> Array:
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * gain + shift


def transformer_by_hand(w: dict[str, Array], history: Array, t: Array, heads: int, layers: int) -> Array:
    """In the order of time: the oldest event is token 0, the candidate is the last, no token reads ahead."""
    if not len(history):
        return np.zeros(WIDTH)
    tokens = [t + w["positions"][0], *(h + w["positions"][j] for j, h in enumerate(history, start=1))][::-1]
    for layer in range(layers):
        p = {k.removeprefix(f"blocks.{layer}."): v for k, v in w.items() if k.startswith(f"blocks.{layer}.")}
        normed = [norm_by_hand(x, p["before_attention.weight"], p["before_attention.bias"]) for x in tokens]
        per_head = p["query.weight"].shape[0] // heads
        after = []
        for i, x in enumerate(tokens):
            read = []
            for head in range(heads):
                rows = slice(head * per_head, (head + 1) * per_head)
                q = p["query.weight"][rows] @ normed[i]
                scores = [float(q @ (p["key.weight"][rows] @ normed[j])) / math.sqrt(per_head) for j in range(i + 1)]
                read.append(sum(a * (p["value.weight"][rows] @ normed[j]) for j, a in enumerate(softmax(scores))))
            x = x + p["mix.weight"] @ np.concatenate(read) + p["mix.bias"]
            z = norm_by_hand(x, p["before_forward.weight"], p["before_forward.bias"])
            z = p["forward_layers.0.weight"] @ z + p["forward_layers.0.bias"]
            z = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in z])
            after.append(x + p["forward_layers.2.weight"] @ z + p["forward_layers.2.bias"])
        tokens = after
    return norm_by_hand(tokens[-1], w["norm.weight"], w["norm.bias"])


def by_hand(name: str, made: SequenceEncoder, history: Array, t: Array | None, heads: int, layers: int) -> Array:
    w = weights_of(made)
    if t is None:
        t = w["query"] if name == "din" else np.zeros(WIDTH)
    if name == "din":
        return din_by_hand(w, history, t)
    if name == "tin":
        return tin_by_hand(w, history, t)
    return transformer_by_hand(w, history, t, heads, layers)


@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize(
    ("name", "heads", "layers"),
    [("din", 1, 1), ("tin", 1, 1), ("transformer", 1, 1), ("transformer", 2, 3), ("transformer", 4, 2)],
)
@torch.no_grad()
def test_it_is_the_formula_of_the_paper(name: str, heads: int, layers: int, targeted: bool) -> None:
    made = encoder(name, targeted, heads=heads, layers=layers)
    lengths = [5, 3, 1, 0, 4]
    vectors, mask, target = events(lengths)
    found = made(vectors, mask, target if targeted else None)
    assert found.shape == (5, made.out_features)
    for row, length in enumerate(lengths):
        history = vectors[row, :length].double().numpy()
        expected = by_hand(name, made, history, target[row].double().numpy() if targeted else None, heads, layers)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=2e-4, rtol=2e-4)


@given(
    name=st.sampled_from(ATTENTIVE),
    lengths=st.lists(st.integers(0, LENGTH), min_size=1, max_size=4),
    more=st.integers(1, 7),
    rubbish=st.floats(-50, 50),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_padding_is_silent_whatever_it_holds(name: str, lengths: list[int], more: int, rubbish: float) -> None:
    made = encoder(name)
    vectors, mask, target = events(lengths)
    longer = torch.nn.functional.pad(vectors, (0, 0, 0, more))
    present = torch.nn.functional.pad(mask, (0, more))
    filled = longer + rubbish * (1 - present).unsqueeze(2)
    torch.testing.assert_close(made(filled, present, target), made(vectors, mask, target), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_an_empty_history_is_zero_at_any_width(name: str) -> None:
    made = encoder(name)
    for padded in (0, 1, 9):
        vectors, mask, target = events([0, 0], padded)
        assert torch.equal(made(vectors, mask, target), torch.zeros(2, made.out_features))


@given(order=st.permutations(range(LENGTH)), seed=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_din_ignores_order(order: list[int], seed: int) -> None:
    made = encoder("din", seed=seed)
    vectors, mask, target = events([5, 5], seed=seed)
    torch.testing.assert_close(made(vectors[:, order], mask, target), made(vectors, mask, target), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["tin", "transformer"])
@torch.no_grad()
def test_the_others_notice_order_and_only_by_their_positions(name: str) -> None:
    made = encoder(name, layers=1)
    vectors, mask, target = events([5, 5])
    turned = vectors.flip(1)
    assert not torch.allclose(made(turned, mask, target), made(vectors, mask, target), atol=1e-2)
    made.positions[1:] = made.positions[1]  # every event equally long ago: the negative control
    torch.testing.assert_close(made(turned, mask, target), made(vectors, mask, target), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["tin", "transformer"])
@torch.no_grad()
def test_positions_count_back_from_the_candidate(name: str) -> None:
    """The last event is at position 1 however many came before it; position 4 is used by histories of 4 or more."""
    made = encoder(name)
    vectors, mask, target = events([1, 2, 3, 4, 5])
    before = made(vectors, mask, target)
    for position, first in ((0, 1), (1, 1), (4, 4), (5, 5)):
        kept = made.positions[position].clone()
        made.positions[position] += torch.arange(WIDTH)
        changed = (made(vectors, mask, target) - before).abs().amax(dim=1) > 1e-4
        assert changed.tolist() == [length >= first for length in (1, 2, 3, 4, 5)]
        made.positions[position] = kept


@pytest.mark.parametrize("name", ["tin", "transformer"])
@torch.no_grad()
def test_events_beyond_the_longest_history_share_the_last_position(name: str) -> None:
    made = encoder(name, layers=1)
    vectors, mask, target = events([8], padded=8)
    swapped = vectors[:, [0, 1, 2, 3, 7, 5, 6, 4]]
    torch.testing.assert_close(made(swapped, mask, target), made(vectors, mask, target), atol=1e-5, rtol=1e-5)
    earlier = vectors[:, [0, 1, 2, 4, 3, 5, 6, 7]]
    assert not torch.allclose(made(earlier, mask, target), made(vectors, mask, target), atol=1e-3)


@torch.no_grad()
def test_din_weights_are_intensities_and_tin_weights_are_shares() -> None:
    """The same event twice counts twice in DIN and once in TIN, where positions are equal."""
    vectors, _, target = events([1, 1], padded=1)
    once, twice = torch.ones(2, 1), torch.ones(2, 2)
    doubled = vectors.expand(-1, 2, -1)
    din, tin = encoder("din"), encoder("tin")
    tin.positions[1:] = tin.positions[1]
    torch.testing.assert_close(din(doubled, twice, target), 2 * din(vectors, once, target), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tin(doubled, twice, target), tin(vectors, once, target), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_all_but_the_mean_look_at_the_candidate(name: str) -> None:
    made = encoder(name)
    vectors, mask, target = events([4, 5])
    same = torch.allclose(made(vectors, mask, target), made(vectors, mask, target.flip(0)), atol=1e-3)
    assert same == (name in ("mean", "muse")), "without vectors of content, muse is the mean"


@pytest.mark.parametrize("causal", [True, False])
def test_no_event_sees_a_later_one_or_the_candidate(causal: bool) -> None:
    """Tokens run from the candidate to the oldest event; without the mask the test is red."""
    torch.manual_seed(0)
    made = encoder("transformer")
    block = made.blocks[0]
    assert isinstance(block, Block)
    allowed: list[Tensor] = []
    block.register_forward_pre_hook(lambda _, args, kwargs: allowed.append(args[1]), with_kwargs=True)
    made(*events([5]))
    [mask] = allowed
    tokens = torch.randn(1, LENGTH + 1, WIDTH, requires_grad=True)
    block(tokens, mask if causal else torch.ones_like(mask), last=False)[0, 3].pow(2).sum().backward()
    assert tokens.grad is not None
    reached = (tokens.grad[0].abs().sum(dim=1) > 0).tolist()
    assert reached == [not causal] * 3 + [True] * 3


@pytest.mark.parametrize(("name", "query"), [("din", "query"), ("tin", "positions"), ("transformer", "positions")])
def test_without_a_candidate_a_query_is_learned(name: str, query: str) -> None:
    made = encoder(name, targeted=False)
    vectors, mask, _ = events([4, 5])
    made(vectors, mask, None).pow(2).sum().backward()
    for parameter_name, parameter in made.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    gradient = dict(made.named_parameters())[query].grad
    assert gradient is not None
    assert (gradient.reshape(-1, WIDTH)[0] != 0).any()


def test_din_built_for_a_candidate_says_when_there_is_none() -> None:
    vectors, mask, _ = events([4])
    with pytest.raises(ValueError, match="targeted=False"):
        encoder("din")(vectors, mask, None)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("shares", [True, False])
def test_a_ranker_gives_the_candidate_of_the_same_table(name: str, shares: bool) -> None:
    """A change of the item moves the encoded history only where both share a table."""
    fields = (
        FieldSpec(name="item_id", kind="categorical", size=9, table="item_id", content=4),
        FieldSpec(name="recent", kind="sequence", size=9, table="item_id" if shares else "clips", length=4, content=4),
        FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
    )
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=fields, base_rates={"like": 0.5})
    torch.manual_seed(0)
    ranker = build_ranker(
        RankerConfig.of(name="dnn", sequence=name, embedding_std=1.0, embedding_width=4), schema
    ).eval()
    assert isinstance(ranker, ComposedRanker)
    batch = {
        "item_id": torch.tensor([2, 5]),
        "recent": torch.tensor([[3, 4, 0, 0], [3, 4, 0, 0]]),
        "user_id": torch.tensor([1, 1]),
    }
    found = ranker.field_vectors(batch)
    assert found.vectors.shape == (2, 4 if name == "tin" or (name == "muse" and shares) else 3, 4)
    assert found.extra.shape == (2, 0)
    history = found.vectors[:, 2:]
    assert torch.equal(history[0], history[1]) == (name == "mean" or not shares)


# Worlds where the mean of the history is not enough.

ITEMS, ROWS = 12, 60_000
WORLD_FIELDS = (
    FieldSpec(name="item_id", kind="categorical", size=ITEMS, table="item_id", content=4),
    FieldSpec(name="recent", kind="sequence", size=ITEMS, table="item_id", length=6, content=4),
)


def world(kind: str, rows: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Impressions liked at 0.9 when the candidate was seen before, at 0.1 otherwise, and that probability.

    Args:
        kind: ``target``: seen at any time; ``order``: among the last two events.
        rows: number of impressions.
        seed: of the generator.
    """
    g = torch.Generator().manual_seed(seed)
    kept = torch.randint(2, 7, (rows, 1), generator=g)
    history = torch.where(torch.arange(6) < kept, torch.randint(1, ITEMS, (rows, 6), generator=g), 0)
    where = (torch.rand(rows, 1, generator=g) * kept).long()
    seen, other = history.gather(1, where)[:, 0], torch.randint(1, ITEMS, (rows,), generator=g)
    item = torch.where(torch.rand(rows, generator=g) < 0.7, seen, other)
    hits = history == item[:, None]
    truth = (hits if kind == "target" else hits[:, :2]).any(dim=1)
    p = torch.where(truth, 0.9, 0.1)
    return {"item_id": item, "recent": history}, {"like": (torch.rand(rows, generator=g) < p).float()}, p


def log_loss(p: Tensor, truth: Tensor) -> float:
    """Expected log-loss under the true probability, without the noise of labels."""
    return -float((truth * p.log() + (1 - truth) * (1 - p).log()).mean())


def excess(sequence: str, kind: str, steps: int = 150) -> float:
    """Log-loss above the best possible after a short training."""
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=WORLD_FIELDS, base_rates={"like": 0.5})
    torch.manual_seed(0)
    config = RankerConfig.of(name="dnn", sequence=sequence, embedding_width=8, embedding_std=0.1, hidden=(16,))
    ranker = build_ranker(config, schema)
    features, labels, _ = world(kind, ROWS, seed=1)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.01)
    g = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(0, ROWS, (512,), generator=g)
        loss = ranker.loss(
            ranker({f: v[rows] for f, v in features.items()}), {name: v[rows] for name, v in labels.items()}
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        optimiser.step()
    unseen, _, truth = world(kind, 3000, seed=2)
    with torch.no_grad():
        return log_loss(ranker.eval()(unseen)["like"], truth) - log_loss(truth, truth)


@pytest.mark.parametrize("sequence", EVERY)
@torch.no_grad()
def test_a_ranker_starts_at_the_base_rate_whatever_reads_its_history(sequence: str) -> None:
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=WORLD_FIELDS, base_rates={"like": 0.2})
    for seed in range(5):
        torch.manual_seed(seed)
        ranker = build_ranker(RankerConfig.of(name="dnn", sequence=sequence), schema).eval()
        p = ranker(world("target", 500, seed=3)[0])["like"]
        assert (p - 0.2).abs().max() < 0.02


@pytest.fixture(scope="module")
def excess_of() -> Iterator[Callable[[str, str], float]]:
    """Trains each encoder in each world once, on one thread: the matrices are too small for two."""
    threads, known = torch.get_num_threads(), dict[tuple[str, str], float]()
    torch.set_num_threads(1)

    def once(sequence: str, kind: str) -> float:
        if (sequence, kind) not in known:
            known[sequence, kind] = excess(sequence, kind)
        return known[sequence, kind]

    yield once
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("sequence", "kind", "blind"),
    [
        ("din", "target", "mean"),
        ("tin", "target", "mean"),
        ("transformer", "target", "mean"),
        ("tin", "order", "mean"),
        ("transformer", "order", "mean"),
        ("tin", "order", "din"),
    ],
)
def test_it_learns_what_a_blind_encoder_cannot(
    sequence: str, kind: str, blind: str, excess_of: Callable[[str, str], float]
) -> None:
    """Negative controls: the mean sees neither candidate nor order, DIN no order."""
    assert excess_of(sequence, kind) < 0.75 * excess_of(blind, kind)
    assert excess_of(blind, kind) > 0.05
