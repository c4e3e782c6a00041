"""Does each interaction compute its paper's formula, and find a product that plain towers miss?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.interactions.config import MlccConfig
from components.rankers.interactions.mlcc import Mlcc
from components.rankers.parts import FieldVectors, Interaction
from components.rankers.registration import load
from features.declaration import Declaration, FieldSpec, RankerSchema
from tests.golden_numbers import golden
from tests.registered import INTERACTIONS

EVERY = sorted(INTERACTIONS)
ROWS, FIELDS, WIDTH, EXTRA = 4, 3, 5, 2
Array = np.ndarray[Any, Any]


def interaction(name: str, fields: int = FIELDS, extra: int = EXTRA, **config: Any) -> Interaction:
    """An interaction with weights away from zero, so that a wrong one is seen."""
    torch.manual_seed(0)
    complete: Any = INTERACTIONS[name](hidden=(7, 4)).model_copy(update=config)
    made: Interaction = load(INTERACTIONS[name])(fields, WIDTH, extra, complete)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.4)
    return made.eval()


def inputs(fields: int = FIELDS, extra: int = EXTRA) -> FieldVectors:
    g = torch.Generator().manual_seed(1)
    vectors, numbers = torch.randn(ROWS, fields, WIDTH, generator=g), torch.randn(ROWS, extra, generator=g)
    return FieldVectors((vectors,), (numbers,))


def none_by_hand(w: dict[str, Array], vectors: Array, extra: Array, config: Any) -> Array:
    return np.concatenate([vectors.reshape(-1), extra])


def mlp_by_hand(w: dict[str, Array], vectors: Array, extra: Array, config: Any) -> Array:
    x = np.concatenate([vectors.reshape(-1), extra])
    for layer in range(config.layers or 0):
        x = np.maximum(w[f"layers.{3 * layer}.weight"] @ x + w[f"layers.{3 * layer}.bias"], 0)
    return x


def of_size_one(x: Array, least: float) -> Array:
    return x / math.sqrt((x**2).mean() + least**2)


def dcnv2_by_hand(w: dict[str, Array], vectors: Array, extra: Array, config: Any) -> Array:
    first = np.concatenate([vectors.reshape(-1), extra])
    x = first
    for layer in range(config.layers or 0):
        weight, bias = w[f"crosses.{layer}.weight"], w[f"crosses.{layer}.bias"]
        fields = x[: vectors.size].reshape(vectors.shape)
        read = np.concatenate([*(of_size_one(field, 0.03) for field in fields), x[vectors.size :]])
        x = np.array(
            [first[i] * (sum(weight[i, j] * read[j] for j in range(len(x))) + bias[i]) + x[i] for i in range(len(x))]
        )
    return x


def autoint_by_hand(w: dict[str, Array], vectors: Array, extra: Array, config: Any) -> Array:
    numbers = list(zip(extra, w.get("slopes", np.zeros((0, WIDTH))), strict=True))
    fields = [*vectors, *(x * slope for x, slope in numbers)]
    sized = [*(of_size_one(v, 0.01) for v in vectors), *(x * of_size_one(slope, 0.01) for x, slope in numbers)]
    for layer in range(config.layers or 0):
        p = {k: w[f"layers.{layer}.{k}.weight"] for k in ("query", "key", "value", "residual")}
        after = []
        for m, asking in zip(fields, sized, strict=True):
            heads = []
            for head in range(config.heads or 0):
                rows = slice(head * WIDTH, (head + 1) * WIDTH)
                query = p["query"][rows] @ asking / math.sqrt(WIDTH)
                scores = [math.exp(query @ (p["key"][rows] @ asked)) for asked in sized]
                heads.append(sum(s / sum(scores) * (p["value"][rows] @ k) for s, k in zip(scores, fields, strict=True)))
            after.append(np.maximum(np.concatenate(heads) + p["residual"] @ m, 0))
        fields = after
        sized = [of_size_one(field, 0.01) for field in fields]
    return np.concatenate([*fields, vectors.reshape(-1), extra])


def mlcc_by_hand(w: dict[str, Array], vectors: Array, extra: Array, config: Any) -> Array:
    fields = [*vectors, *(x * slope for x, slope in zip(extra, w.get("slopes", np.zeros((0, WIDTH))), strict=True))]
    x, (first, second) = np.stack(fields), config.cross
    each = WIDTH // config.channels
    gathered = [[] for _ in fields]  # type: ignore[var-annotated]
    for channel in range(config.channels):
        part = x[:, channel * each : (channel + 1) * each]
        made = (part.reshape(-1) @ w["matrices"][channel]).reshape(config.crosses, -1)
        for numbers in made:
            one = part @ numbers[: each * first].reshape(each, first)
            two = one @ numbers[each * first :].reshape(first, second)
            for row, (a, b) in enumerate(zip(one, two, strict=True)):
                gathered[row] += [*a, *b]
    y = np.stack([np.array([*g, *e]) @ w["squeeze"][f] for f, (g, e) in enumerate(zip(gathered, x, strict=True))])
    hidden = np.maximum(w["gate.0.weight"] @ y.mean(axis=1) + w["gate.0.bias"], 0)
    normed = (hidden - hidden.mean()) / math.sqrt(hidden.var() + 1e-5)
    gate = 1 / (1 + np.exp(-(w["gate.3.weight"] @ normed + w["gate.3.bias"])))
    flat: Array = (gate[:, None] * y).reshape(-1)
    return flat


BY_HAND = {
    "none": none_by_hand,
    "mlp": mlp_by_hand,
    "dcnv2": dcnv2_by_hand,
    "autoint": autoint_by_hand,
    "mlcc": mlcc_by_hand,
    "optinter": none_by_hand,  # without pairs; with them in test_optinter.py
}


@pytest.mark.parametrize(("fields", "extra"), [(FIELDS, EXTRA), (FIELDS, 0), (1, 1), (0, EXTRA)])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", EVERY)
@torch.no_grad()
def test_it_is_the_formula_of_the_paper(name: str, layers: int, fields: int, extra: int) -> None:
    config = {"layers": layers, "heads": 2, "channels": WIDTH if layers == 1 else 1, "cross": (3, 2)}
    made, given = interaction(name, fields, extra, **config), inputs(fields, extra)
    found = made(given)
    assert found.shape == (ROWS, made.out_features)
    weights = {key: values.double().numpy() for key, values in made.state_dict().items()}
    complete: Any = INTERACTIONS[name](hidden=(7, 4)).model_copy(update=config)
    for row in range(ROWS):
        expected = BY_HAND[name](
            weights, given.vectors[row].double().numpy(), given.extra[row].double().numpy(), complete
        )
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_mlcc_is_the_golden_vector() -> None:
    made = Mlcc(3, 4, 0, MlccConfig(channels=2, crosses=2, cross=(2, 1), compressed=2)).double()
    first, last = nn.Linear(3, 2).double(), nn.Linear(2, 3).double()  # the golden gate is narrower than ours may be
    for linear, seed in ((first, 30), (last, 32)):
        linear.weight.copy_(golden(seed, *linear.weight.shape) / 2)
        linear.bias.copy_(golden(seed + 1, *linear.bias.shape) / 2)
    made.gate = nn.Sequential(first, nn.ReLU(), nn.LayerNorm(2, elementwise_affine=False), last)
    made.matrices.copy_(torch.stack([golden(10 + channel, 6, 12) / 2 for channel in range(2)]))
    made.squeeze.copy_(golden(20, 3, 16, 2) / 2)
    found = made(FieldVectors((golden(1, 1, 3, 4),)))[0].tolist()
    assert found == pytest.approx(
        [0.3197643505, 0.0854072707, -0.1284075515, -0.1647360645, -0.2507493757, 0.2094880283], abs=1e-9
    )


def test_mlcc_wants_channels_that_divide_the_embedding() -> None:
    with pytest.raises(ValidationError, match="mlcc cuts embeddings of width 16 into 5 channels: choose channels that"):
        RankerConfig.of("dnn", interaction="mlcc", channels=5)


@torch.no_grad()
def test_autoint_heads_are_as_wide_as_asked_and_drop_attention_in_training_alone() -> None:
    made, given = interaction("autoint", extra=0, attention_width=8, attention_dropout=0.5), inputs(extra=0)
    assert made.out_features == FIELDS * 2 * 8 + FIELDS * WIDTH
    assert torch.equal(made(given), made(given))
    assert not torch.equal(made.train()(given), made(given))


@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.no_grad()
def test_dcnv2_holds_products_of_one_more_feature_than_layers(layers: int) -> None:
    """Without biases the output on s·x is a polynomial in s of degree layers + 1; of vectors, directions count."""
    made, given = interaction("dcnv2", fields=0, extra=4, layers=layers).double(), inputs(fields=0, extra=4)
    scales = np.linspace(0.5, 2.0, layers + 4)
    values = torch.stack(
        [made(FieldVectors((s * given.vectors.double(),), (s * given.extra.double(),))) for s in scales]
    )
    columns = values.flatten(start_dim=1).numpy()
    for degree, fits in ((layers, False), (layers + 1, True)):
        powers = np.vander(scales, degree + 1)
        rest = columns - powers @ np.linalg.lstsq(powers, columns, rcond=None)[0]
        assert (np.abs(rest).max() < 1e-6) == fits


@pytest.mark.parametrize("name", ["autoint", "dcnv2"])
def test_weights_of_the_formula_without_sizes_do_not_load(name: str) -> None:
    """They have the same names and shapes, and would answer something else."""
    made = interaction(name)
    with pytest.raises(RuntimeError, match="least"):
        made.load_state_dict({key: value for key, value in made.state_dict().items() if key != "least"})


@torch.no_grad()
def test_autoint_does_not_know_the_order_of_fields() -> None:
    """Attention treats fields alike: permuted fields give permuted answers."""
    made, given, order = interaction("autoint", extra=0, heads=2), inputs(extra=0), [2, 0, 1]
    straight = made(given)[:, : FIELDS * 2 * WIDTH].reshape(ROWS, FIELDS, -1)
    permuted = made(FieldVectors((given.vectors[:, order],), (given.extra,)))[:, : FIELDS * 2 * WIDTH]
    torch.testing.assert_close(permuted.reshape(ROWS, FIELDS, -1), straight[:, order])


# A world whose truth is a product of two numbers.

WORLD_FIELDS = tuple(FieldSpec(name=name, kind="numeric") for name in ("a", "b"))


def world(rows: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Two independent numbers, and the probability σ(2ab): neither says anything alone."""
    g = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rows, generator=g), torch.randn(rows, generator=g)
    return {"a": a, "b": b}, torch.sigmoid(2 * a * b)


def excess(name: str, steps: int = 400) -> float:
    """Log-loss above the best possible after a short training; a tower of three hidden units."""
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=WORLD_FIELDS, base_rates={"like": 0.5})
    torch.manual_seed(0)
    config = RankerConfig.of(name="dnn", interaction=name, embedding_width=8, embedding_std=0.3, hidden=(3,))
    ranker = build_ranker(config, schema)
    features, truth = world(20_000, seed=1)
    g = torch.Generator().manual_seed(0)
    labels = (torch.rand(len(truth), generator=g) < truth).float()
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.02)
    for _ in range(steps):
        rows = torch.randint(0, len(truth), (512,), generator=g)
        loss = ranker.loss(ranker({f: v[rows] for f, v in features.items()}), {"like": labels[rows]})
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        optimiser.step()
    unseen, truth = world(4000, seed=2)
    with torch.no_grad():
        p = ranker.eval()(unseen)["like"]
    return float((truth * (truth / p).log() + (1 - truth) * ((1 - truth) / (1 - p)).log()).mean())


@pytest.fixture(scope="module")
def excess_of() -> Iterator[Callable[[str], float]]:
    """Trains each interaction once, on one thread: the matrices are too small for two."""
    threads, known = torch.get_num_threads(), dict[str, float]()
    torch.set_num_threads(1)

    def once(name: str) -> float:
        if name not in known:
            known[name] = excess(name)
        return known[name]

    yield once
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["dcnv2", "autoint"])
def test_it_learns_a_product_that_the_tower_alone_misses(name: str, excess_of: Callable[[str], float]) -> None:
    """Negative control: with no interaction before it, a tower of three hidden units cannot bend enough."""
    assert excess_of("none") > 0.05
    assert excess_of(name) < 0.5 * excess_of("none")


def test_the_mlp_is_as_deep_and_wide_as_asked() -> None:
    made = interaction("mlp", layers=3)
    widths = [tuple(p.shape) for n, p in made.named_parameters() if n.endswith("weight")]
    assert widths == [(7, FIELDS * WIDTH + EXTRA), (7, 7), (7, 7)]
