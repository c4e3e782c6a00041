"""Are GNOLR's formulas the paper's, and does it find ordered feedback that one score for all cannot?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.gnolr.ordinal import (
    categories,
    log_difference,
    nested_logits,
    nested_losses,
    scales,
    thresholds,
)
from components.rankers.gnolr.ranker import Gnolr, SideNetworks
from components.rankers.tasks import LOGIT
from features.declaration import Declaration, FieldSpec, RankerSchema
from tests.unit.components.rankers.conftest import FIELDS
from tests.worlds import SIDES

SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]

# The specification's golden vector: numpy, from the paper's equations.
ODDS = (0.1, 0.02)
GAMMA = [3.0, 1.0]
COSINES = [[0.9, 0.8], [0.2, -0.5], [-0.3, 0.6], [0.5, 0.1]]
LABELS = [[1, 1], [1, 0], [0, 0], [0, 0]]
Z = [[0.397415, -0.412023], [-1.702585, -3.812023], [-3.202585, -4.212023], [-0.802585, -2.312023]]
LOSSES = [1.434284, 3.891126, 0.079704, 0.740600]
MEAN = 1.5364285764
LOG_DIFFERENCES = [-1.611243, -2.021154, -3.710368, -1.517129]


def golden() -> tuple[Tensor, Tensor]:
    """Return z ``[4, 2]`` and k ``[4]`` of the golden vector in float64."""
    a = thresholds(("like", "love"), {n: m / (1 + m) for n, m in zip(("like", "love"), ODDS, strict=True)})
    assert a == pytest.approx([2.302585, 3.912023], abs=1e-6)
    double = torch.float64
    z = nested_logits(
        torch.tensor(COSINES, dtype=double), torch.tensor(GAMMA, dtype=double), torch.tensor(a, dtype=double)
    )
    return z, categories(torch.tensor(LABELS, dtype=double))


def test_golden_vector_of_the_specification() -> None:
    z, k = golden()
    assert z.numpy() == pytest.approx(np.array(Z), abs=1e-6)
    assert k.tolist() == [3, 2, 1, 1]
    losses = nested_losses(z, k)
    assert losses.numpy() == pytest.approx(LOSSES, abs=1e-6)
    assert losses.mean().item() == pytest.approx(MEAN, abs=1e-10)
    assert log_difference(z[:, 0], z[:, 1]).numpy() == pytest.approx(LOG_DIFFERENCES, abs=1e-6)


@pytest.mark.parametrize("mistake", ["sign of a", "scale after the sum", "one sub-task only", "no scale"])
def test_the_golden_vector_notices_each_known_mistake(mistake: str) -> None:
    z, k = golden()
    double = torch.float64
    cosines, gamma = torch.tensor(COSINES, dtype=double), torch.tensor(GAMMA, dtype=double)
    a = -torch.log(torch.tensor(ODDS, dtype=double))
    wrong = {
        "sign of a": nested_logits(cosines, gamma, -a),
        "scale after the sum": gamma * cosines.cumsum(dim=1) - a,
        "one sub-task only": z,
        "no scale": nested_logits(cosines, torch.ones(2, dtype=double), a),
    }[mistake]
    losses = nested_losses(wrong, k)
    if mistake == "one sub-task only":  # a single ordinal likelihood: P(k) of the last sub-task
        p = torch.sigmoid(z)
        losses = -torch.log(torch.stack([1 - p[:, 0], p[:, 0] - p[:, 1], p[:, 1]], dim=1))[torch.arange(4), k - 1]
    assert abs(losses.mean().item() - MEAN) > 1e-2


def by_the_book(z: np.ndarray, k: int) -> float:
    """The nested loss of one row, sub-task by sub-task from plain probabilities."""
    p = 1 / (1 + np.exp(-z))
    total = 0.0
    for t in range(1, len(z) + 1):
        last = [1.0, *p[:t], 0.0]  # P(k > 0), P(k > 1) … P(k > t), nothing beyond
        kt = min(k, t + 1)
        total -= math.log(last[kt - 1] - last[kt])
    return total


@st.composite
def ordinal_rows(draw: st.DrawFn, extreme: bool = False) -> tuple[list[float], list[float], list[float], list[int]]:
    """Rates, shares of the allowed γ, cosines and labels (with gaps) of one to four feedbacks."""
    depth = draw(st.integers(1, 4))
    rates = [0.6]
    for _ in range(depth - 1):
        rates.append(rates[-1] * draw(st.floats(0.05, 0.9)))
    shares = draw(st.lists(st.floats(0.01, 0.99), min_size=depth, max_size=depth))
    cosine = st.sampled_from([-1.0, 0.0, 1.0]) if extreme else st.floats(-1, 1)
    cosines = draw(st.lists(cosine, min_size=depth, max_size=depth))
    return rates, shares, cosines, draw(st.lists(st.integers(0, 1), min_size=depth, max_size=depth))


def world_of(rates: list[float], shares: list[float], first: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return thresholds, and γ as shares of what the rule allows."""
    names = [f"f{i}" for i in range(len(rates))]
    a = thresholds(names, dict(zip(names, rates, strict=True)))
    gaps = [deep - shallow for shallow, deep in pairwise(a)]
    return a, scales(names, a, [first, *(s * g for s, g in zip(shares[1:], gaps, strict=True))])


@given(row=ordinal_rows())
@settings(max_examples=80, deadline=None)
def test_it_is_the_nested_likelihood_and_probabilities_fall_with_depth(
    row: tuple[list[float], list[float], list[float], list[int]],
) -> None:
    rates, shares, cosines, labels = row
    a, gamma = world_of(rates, shares, first=4 * shares[0])
    z = nested_logits(*(torch.tensor(v, dtype=torch.float64) for v in ([cosines], gamma, a)))
    assert (z[:, :-1] > z[:, 1:]).all()
    k = categories(torch.tensor([labels], dtype=torch.float64))
    assert k.item() == 1 + max((i + 1 for i, y in enumerate(labels) if y), default=0), "the deepest positive counts"
    assert nested_losses(z, k).item() == pytest.approx(by_the_book(z.numpy()[0], int(k)), rel=1e-7, abs=1e-9)


@given(row=ordinal_rows(extreme=True), first=st.sampled_from([1e-3, 7.0, 1e4]), close=st.booleans())
@settings(max_examples=80, deadline=None)
def test_extreme_cosines_and_scales_have_finite_gradients(
    row: tuple[list[float], list[float], list[float], list[int]], first: float, close: bool
) -> None:
    """Also where γ is so close to the gap that float32 sees no difference of logits at all."""
    rates, shares, cosines, labels = row
    a, gamma = world_of(rates, [1 - 1e-12 if close else s for s in shares], first)
    c = torch.tensor([cosines], requires_grad=True)
    losses = nested_losses(nested_logits(c, torch.tensor(gamma), torch.tensor(a)), categories(torch.tensor([labels])))
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert c.grad is not None
    assert torch.isfinite(c.grad).all()


def test_the_plain_difference_is_lost_where_ours_is_exact() -> None:
    z = torch.tensor([40.0, 35.0], requires_grad=True)
    exact = log_difference(z[:1], z[1:])
    exact.sum().backward()
    assert exact.item() == pytest.approx(-35 + math.log1p(-math.exp(-5)), rel=1e-6)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert torch.isinf(torch.log(torch.sigmoid(z[:1]) - torch.sigmoid(z[1:])))


@pytest.mark.parametrize("odds", [0.05, 0.2924283, 3.0])
def test_one_feedback_is_the_cross_entropy_of_a_shifted_cosine(odds: float) -> None:
    """Specification §6: T = 1 equals BCE on σ(γ·cos + log m)."""
    g = torch.Generator().manual_seed(0)
    cosines, labels = torch.rand(50, 1, generator=g) * 2 - 1, torch.randint(0, 2, (50, 1), generator=g).float()
    a = thresholds(("like",), {"like": odds / (1 + odds)})
    z = nested_logits(cosines, torch.tensor([2.57]), torch.tensor(a))
    expected = functional.binary_cross_entropy_with_logits(2.57 * cosines + math.log(odds), labels)
    assert nested_losses(z, categories(labels)).mean().item() == pytest.approx(expected.item(), rel=1e-5)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"like": 0.5, "love": 0.0}, r"'love' has 0\.0: widen"),
        ({"like": 1.0, "love": 0.2}, r"'like' has 1\.0: widen"),
        ({"like": 0.5}, "'love' has none"),
        ({"like": 0.2, "love": 0.5}, r"dense to sparse, but 'love' has the base rate 0\.5 and 'like' before it 0\.2"),
        ({"like": 0.2, "love": 0.2}, "dense to sparse"),
    ],
)
@pytest.mark.parametrize("funnel", [True, False])
def test_rates_without_an_order_are_one_sentence(
    rates: dict[str, float], message: str, funnel: bool, schema_of: SchemaOf
) -> None:
    schema = schema_of("like", "love", funnel=funnel).model_copy(update={"base_rates": rates})
    with pytest.raises(BadInputError, match=message):
        build_ranker(RankerConfig.of(name="gnolr"), schema)


@pytest.mark.parametrize(
    ("gamma", "message"),
    [
        ((3.0, 1.2), r"gamma of 'love' is 1\.2 but must be below 1\.09861, the gap.*'like' and 'love': lower it"),
        ((3.0, math.log(3)), "must be below"),
        ((3.0,), "gamma has 1 numbers for 2 feedback types"),
        ((0.0, 0.5), "gamma of 'like' is 0, must be positive"),
        ((math.inf, 0.5), "must be positive and finite"),
    ],
)
def test_a_scale_that_breaks_the_order_is_one_sentence(
    gamma: tuple[float, ...], message: str, schema: RankerSchema
) -> None:
    with pytest.raises(BadInputError, match=message):
        build_ranker(RankerConfig.of(name="gnolr", gamma=gamma), schema)


def test_a_scale_above_the_gap_would_make_the_deep_feedback_more_probable() -> None:
    """What the rule is for: just above the gap the order of probabilities breaks, just below it holds."""
    a = torch.tensor(thresholds(("like", "love"), {"like": 0.5, "love": 0.25}))
    gap = float(a[1] - a[0])
    for factor, ordered in ((0.99, True), (1.01, False)):
        z = nested_logits(torch.tensor([[0.3, 1.0]]), torch.tensor([3.0, factor * gap]), a)
        assert bool(z[0, 0] > z[0, 1]) is ordered


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_training_set_without_a_side_is_one_sentence(side: str, schema: RankerSchema) -> None:
    sides = {name: mine for name, mine in schema.sides.items() if mine != side}
    with pytest.raises(BadInputError, match=f"has no field of the {side}"):
        build_ranker(RankerConfig.of(name="gnolr"), schema.model_copy(update={"sides": sides}))


# --- the module -----------------------------------------------------------------------------------


def build(schema: RankerSchema, **config: object) -> Gnolr:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.model_validate({"name": "gnolr", "hidden": (16, 8)} | config), schema)
    assert isinstance(ranker, Gnolr)
    return ranker.eval()


@torch.no_grad()
def test_where_cosines_are_zero_it_answers_the_base_rates(schema_of: SchemaOf, batch_of: BatchOf) -> None:
    ranker = build(schema_of("click", "cart", "pay"))
    for parameter in ranker.item.parameters():
        parameter.zero_()
    outputs = ranker(batch_of(5))
    for name, rate in (("click", 1 / 2), ("cart", 1 / 4), ("pay", 1 / 6)):
        torch.testing.assert_close(outputs[name], torch.full((5,), rate))
    torch.testing.assert_close(outputs["cart_given_click"], torch.full((5,), 1 / 2))


def test_a_zero_vector_has_a_zero_cosine_and_a_finite_gradient() -> None:
    networks = SideNetworks(3, (4, 2), dropout=0.0, feedback=2)
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.zero_()
    x = torch.ones(2, 3, requires_grad=True)
    vectors = networks(x)
    vectors.sum().backward()
    assert torch.equal(vectors, torch.zeros(2, 2, 2))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in networks.parameters())


def test_each_sub_embedding_has_length_one(schema: RankerSchema, batch_of: BatchOf) -> None:
    """Each on its own, not their concatenation: the √γ scaling gives the lengths √γ_j."""
    ranker = build(schema, gamma=(4.0, 0.25))
    for side in ranker.unified_embeddings(batch_of(9)):
        lengths = side.reshape(9, 2, 8).norm(dim=2)
        torch.testing.assert_close(lengths, torch.tensor([[2.0, 0.5]]).expand(9, 2), rtol=1e-4, atol=0)


def test_unified_vectors_multiply_to_the_last_logit_and_plain_ones_do_not(
    schema: RankerSchema, batch_of: BatchOf
) -> None:
    ranker, batch = build(schema), batch_of(20)
    outputs = ranker(batch)
    user, item = ranker.unified_embeddings(batch)
    z = (user * item).sum(dim=1) - ranker.thresholds[-1]
    torch.testing.assert_close(z, outputs["love_logit"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs["hidden"], torch.cat([user, item], dim=1))
    unscaled = (user / user.norm(dim=1, keepdim=True) * item).sum(dim=1)
    assert not torch.allclose(unscaled - ranker.thresholds[-1], outputs["love_logit"], atol=0.1)


def test_a_side_depends_on_its_fields_only_and_the_request_joins_the_user(batch_of: BatchOf) -> None:
    fields = (FieldSpec(name="band", kind="categorical", size=4, table="band"), *FIELDS)
    schema = RankerSchema(
        declaration=Declaration(feedback=("like", "love")),
        fields=fields,
        base_rates={"like": 0.5, "love": 0.2},
        sides=SIDES,
    )
    ranker = build(schema)
    assert set(ranker.user_fields) == {"band", "recent_items", "recent_likes", "taste", "user_id"}
    assert set(ranker.item_fields) == {"genres", "item_id", "popularity"}
    one, other = ({"band": torch.full((6,), b)} | batch_of(6, seed=b) for b in (1, 2))
    user, item = ranker.unified_embeddings(one)
    mixed_user, mixed_item = ranker.unified_embeddings(one | {name: other[name] for name in ranker.item_fields})
    assert torch.equal(mixed_user, user)
    assert not torch.equal(mixed_item, item)
    mixed_user, mixed_item = ranker.unified_embeddings(one | {"band": other["band"]})
    assert not torch.equal(mixed_user, user)
    assert torch.equal(mixed_item, item)


def test_without_a_funnel_the_deepest_positive_counts(schema_of: SchemaOf, batch_of: BatchOf) -> None:
    """A gap (love without like) is a love: its loss is that of the row with both."""
    ranker, batch = build(schema_of("like", "love", funnel=False)), batch_of(4)
    outputs = ranker(batch)
    assert set(outputs) == {"like", "love", "like_logit", "love_logit", "hidden"}
    assert (outputs["like"] > outputs["love"]).all()
    love = torch.tensor([1.0, 0.0, 1.0, 0.0])
    gap = ranker.loss(outputs, {"like": torch.zeros(4), "love": love})
    assert torch.equal(gap, ranker.loss(outputs, {"like": love, "love": love}))
    assert not torch.equal(gap, ranker.loss(outputs, {"like": torch.zeros(4), "love": torch.zeros(4)}))


def test_thresholds_and_scales_are_buffers_that_no_gradient_changes(schema: RankerSchema, batch_of: BatchOf) -> None:
    ranker = build(schema)
    assert {"thresholds", "gamma"} <= set(ranker.state_dict())
    assert not {"thresholds", "gamma"} & {name for name, _ in ranker.named_parameters()}
    assert ranker.gamma.tolist() == pytest.approx([2.5, 0.9 * math.log(3)])
    ranges = ranker.diagnostics()
    outputs = ranker(batch_of(200))
    for name in ("like", "love"):
        assert ranges[f"{name}_least"] <= outputs[name].min() <= outputs[name].max() <= ranges[f"{name}_most"]
    assert ranges["like_most"] == pytest.approx(1 / (1 + math.exp(-2.5)))


def test_defaults_of_rare_feedback_are_the_published_size() -> None:
    """AliCCP: m = (.0394, .00019) gives gaps of 5.33; the first scale is 1.5·|a_1|, at most 7."""
    names = ("click", "pay")
    a = thresholds(names, {n: m / (1 + m) for n, m in zip(names, (0.0393876, 0.000190066), strict=True)})
    assert a[1] - a[0] == pytest.approx(5.33, abs=0.01)
    assert scales(names, a, None) == pytest.approx((1.5 * a[0], 0.9 * (a[1] - a[0])))
    assert scales(("x",), thresholds(("x",), {"x": 1e-4}), None) == (7.0,)
    assert scales(names, a, (4.0, 4.0)) == (4.0, 4.0)


# --- known truth ----------------------------------------------------------------------------------

SIZE = 40
GAMMA_TRUE = (1.2, 1.2)
A_TRUE = (0.0, 1.6)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small matrices gain nothing from threads, and lose much where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class OrdinalWorld:
    """All pairs of 40 users and items: inputs, and the probabilities that labels are drawn from."""

    batch: dict[str, Tensor]
    like: Tensor
    love: Tensor

    def draw(self, rows: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the pairs shown and their labels."""
        g = torch.Generator().manual_seed(seed)
        pair = torch.randint(0, SIZE * SIZE, (rows,), generator=g)
        luck = torch.rand(rows, generator=g)
        return pair, {"like": (luck < self.like[pair]).float(), "love": (luck < self.love[pair]).float()}


@pytest.fixture(scope="module")
def ordinal_world() -> OrdinalWorld:
    """What makes a user like an item has nothing to do with what makes the like a love."""
    g = torch.Generator().manual_seed(5)
    user, item = (functional.normalize(torch.randn(SIZE, 2, 2, generator=g), dim=2) for _ in range(2))
    u, i = torch.arange(SIZE).repeat_interleave(SIZE), torch.arange(SIZE).repeat(SIZE)
    z = nested_logits((user[u] * item[i]).sum(dim=2), torch.tensor(GAMMA_TRUE), torch.tensor(A_TRUE))
    p = torch.sigmoid(z)
    return OrdinalWorld(batch={"item_id": i + 1, "user_id": u + 1}, like=p[:, 0], love=p[:, 1])


class NeuralOlr(Gnolr):
    """The negative control: one score for all thresholds, as in naive neural ordinal regression."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs = super().forward(batch)
        score = outputs["like_logit"] + self.thresholds[0]
        for name, a in zip(self.feedback, self.thresholds, strict=True):
            outputs[name + LOGIT] = score - a
            outputs[name] = torch.sigmoid(score - a)
        return outputs


def fit(kind: type[Gnolr], world: OrdinalWorld, rows: int = 16_000) -> dict[str, Tensor]:
    """Train on drawn impressions and return the probabilities of all pairs."""
    pair, labels = world.draw(rows, seed=1)
    fields = tuple(FieldSpec(name=n, kind="categorical", size=SIZE + 1, table=n) for n in ("item_id", "user_id"))
    schema = RankerSchema(
        declaration=Declaration(feedback=("like", "love")),
        fields=fields,
        base_rates={name: float(y.mean()) for name, y in labels.items()},
        sides={"item_id": "item", "user_id": "user"},
    )
    torch.manual_seed(0)
    ranker = kind(RankerConfig.of(name="gnolr", embedding_width=8, hidden=(16, 4)), schema)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.03)
    for epoch in range(30):
        for part in torch.randperm(rows, generator=torch.Generator().manual_seed(epoch)).split(4000):
            batch = {name: values[pair[part]] for name, values in world.batch.items()}
            optimiser.zero_grad()
            ranker.loss(ranker(batch), {name: y[part] for name, y in labels.items()}).backward()
            optimiser.step()
    with torch.no_grad():
        return ranker.eval()(world.batch)


def excess(truth: Tensor, predicted: Tensor) -> float:
    """Return the mean Kullback-Leibler divergence of predicted from true probabilities: 0 is perfect."""
    loss = functional.binary_cross_entropy(predicted, truth)
    return float(loss - functional.binary_cross_entropy(truth, truth))


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's correlation."""
    return float(np.corrcoef(a.argsort().argsort().numpy(), b.argsort().argsort().numpy())[0, 1])


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("kind", "recovers"), [(Gnolr, True), (NeuralOlr, False)])
def test_the_deep_feedback_is_found_by_its_own_sub_embedding(
    kind: type[Gnolr], recovers: bool, ordinal_world: OrdinalWorld
) -> None:
    """Both learn what is liked; only sub-embeddings of their own learn what is loved among it."""
    found = fit(kind, ordinal_world)
    assert (found["love"] < found["like"]).all()
    assert rank_correlation(ordinal_world.like, found["like"]) > 0.9
    assert excess(ordinal_world.like, found["like"]) < 0.02
    assert (rank_correlation(ordinal_world.love, found["love"]) > 0.9) is recovers
    assert (excess(ordinal_world.love, found["love"]) < 0.02) is recovers
    if recovers:
        for name, truth in (("like", ordinal_world.like), ("love", ordinal_world.love)):
            for fifth in found[name].argsort().chunk(5):
                assert found[name][fifth].mean().item() == pytest.approx(truth[fifth].mean().item(), abs=0.04)
