"""Does every route start as the shared tower, learn on its own rows only, and export to the same numbers?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.judge.export_onnx.graph import export_graph
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.domains.partitioned import SHARED, PartitionedTower
from components.rankers.tasks import HIDDEN, tasks_of
from features.declaration import Declaration, FieldSpec, RankerSchema

SchemaOf = Callable[..., RankerSchema]
BatchOf = Callable[..., dict[str, Tensor]]


def tower_of(routes: int, *, random: bool, hidden: tuple[int, ...] = (7, 5), seed: int = 0) -> PartitionedTower:
    torch.manual_seed(seed)
    tower = PartitionedTower(routes, 6, hidden, bias=-1.0)
    if random:
        with torch.no_grad():
            for parameter in tower.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.5)
    return tower.eval()


def by_hand(tower: PartitionedTower, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row, the equations as written: W = W_shared ⊙ W_k, b = b_shared + b_k."""
    layers = [m for m in tower.shared.modules() if isinstance(m, torch.nn.Linear)]
    logits, last = [], []
    for row, k in zip(x, route.tolist(), strict=True):
        h = row
        for i, layer in enumerate(layers):
            own = torch.ones_like(layer.weight) if k == SHARED else 1 + tower.scales[i][k]
            shift = torch.zeros_like(layer.bias) if k == SHARED else tower.shifts[i][k]
            before, h = h, (layer.weight * own) @ h + layer.bias + shift
            h = h if i == len(layers) - 1 else torch.relu(h)
        logits.append(h[0])
        last.append(before)
    return torch.stack(logits), torch.stack(last)


@pytest.mark.parametrize("hidden", [(7, 5), (4,)])
def test_all_routes_start_as_the_shared_tower(hidden: tuple[int, ...]) -> None:
    tower, x = tower_of(4, random=False, hidden=hidden), torch.randn(40, 6)
    route = torch.arange(40) % 5 - 1
    for found, expected in zip(tower(x, route), tower.shared(x), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@given(routes=st.integers(1, 9), rows=st.integers(1, 40), seed=st.integers(0, 999))
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_grouped_rows_and_the_graph_form_are_the_equations(routes: int, rows: int, seed: int) -> None:
    """Any number of rows per route, none and one included; in double precision, so that only a mistake differs."""
    tower = tower_of(routes, random=True, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    route = torch.randint(SHARED, routes, (rows,), generator=generator)
    for hand, grouped, graph in zip(
        by_hand(tower, x, route), tower.grouped(x, route), tower.selected(x, route), strict=True
    ):
        torch.testing.assert_close(grouped, hand, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(graph, grouped, atol=1e-10, rtol=1e-10)


def test_no_rows_are_no_answers() -> None:
    z, hidden = tower_of(3, random=True)(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64))
    assert z.shape == (0,)
    assert hidden.shape == (0, 5)


def test_a_route_learns_from_its_own_rows_only_and_the_shared_weights_from_all() -> None:
    tower, x = tower_of(4, random=True), torch.randn(30, 6)
    route = torch.tensor([SHARED, 0, 2] * 10)
    tower(x, route)[0].sum().backward()
    for parameter in (*tower.scales, *tower.shifts):
        assert parameter.grad is not None
        assert [bool(g.abs().sum() > 0) for g in parameter.grad] == [True, False, True, False]
    z, _ = tower(x, torch.full((30,), SHARED))
    tower.zero_grad()
    z.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in (*tower.scales, *tower.shifts))
    assert tower.shared.head.weight.grad is not None


def test_dropout_is_drawn_in_training_only() -> None:
    torch.manual_seed(0)
    tower, x, route = PartitionedTower(3, 6, (50,), dropout=0.5), torch.randn(20, 6), torch.arange(20) % 3
    assert not torch.equal(tower(x, route)[0], tower(x, route)[0])
    _, hidden = tower.eval()(x, route)
    torch.testing.assert_close(tower(x, route)[1], hidden)


def trained(schema: RankerSchema, batch: dict[str, Tensor], weight_decay: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of(name="star", hidden=(8,), embedding_width=4), schema)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.05, weight_decay=weight_decay)
    labels = {name: (batch["user_id"] % 2).float() for name in ("like", "love")}
    for _ in range(30):
        optimiser.zero_grad()
        ranker.loss(ranker(batch), labels).backward()
        optimiser.step()
    return ranker.eval()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_missing_and_unseen_domains_are_scored_by_the_shared_weights(
    weight_decay: float, schema: RankerSchema, batch_of: BatchOf
) -> None:
    ranker = trained(schema, batch_of(200), weight_decay)
    field = next(f for f in schema.fields if f.name == "user_id")
    rows = batch_of(9) | {"user_id": torch.arange(9)}
    x = ranker.interaction(ranker.field_vectors(rows))
    route = ranker.domain.route(x, rows)
    assert route.tolist() == [SHARED, SHARED, 0, 1, 2, 3, 4, 5, 6]
    assert ranker.domain.routes == field.size - 2
    z, _ = ranker.head.towers[0](x, route)
    shared, _ = ranker.head.towers[0].shared(x)
    torch.testing.assert_close(z[:2], shared[:2])
    assert ((z[2:] - shared[2:]).abs() > 1e-3).all(), "every known domain has moved away"


@pytest.mark.parametrize(("adapts", "low", "high"), [(True, 0.0, 0.2), (False, 0.6, 0.8)])
def test_domains_that_want_opposite_answers_get_them_by_their_own_weights_alone(
    adapts: bool, low: float, high: float, schema_of: SchemaOf, batch_of: BatchOf
) -> None:
    """The label is the sign of a number, turned round in every other domain; embeddings stay at zero.

    The control's own weights stay where they start: a shared tower, at ln 2 for ever.
    """
    fields = (
        FieldSpec(name="popularity", kind="numeric"),
        FieldSpec(name="user_id", kind="categorical", size=9, table="user_id"),
    )
    torch.manual_seed(0)
    config = RankerConfig.of(name="star", hidden=(8,), embedding_width=1, embedding_std=0)
    ranker = build_ranker(config, schema_of("like", funnel=False, fields=fields))
    ranker.embedding.requires_grad_(False)
    ranker.head.towers[0].scales.requires_grad_(adapts)
    ranker.head.towers[0].shifts.requires_grad_(adapts)
    optimiser = torch.optim.Adam([p for p in ranker.parameters() if p.requires_grad], lr=0.05)
    for step in range(150):
        batch = {f: values for f, values in batch_of(256, seed=step).items() if f in {"popularity", "user_id"}}
        batch["user_id"] = batch["user_id"].clamp(min=2)
        labels = {"like": ((batch["popularity"] > 0) ^ (batch["user_id"] % 2 == 0)).float()}
        loss = ranker.loss(ranker(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert low < loss.item() < high


@pytest.mark.parametrize("name", ["star", "adaptdhm"])
def test_the_exported_graph_gives_the_same_numbers(
    name: str, schema: RankerSchema, batch_of: BatchOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of(name=name, hidden=(8, 4), embedding_width=4), schema).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    tasks = [task.name for task in tasks_of(schema.declaration)]
    export_graph(ranker, schema, tasks, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 2, 57):
        batch = batch_of(rows)
        with torch.no_grad():
            expected = ranker(batch)
        found = session.run(None, {field: values.numpy() for field, values in batch.items()})
        for output, values in zip([*tasks, HIDDEN], found, strict=True):
            np.testing.assert_allclose(values, expected[output].numpy(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("domain", "fields", "message"),
    [
        (None, None, r"declares no domain: declare its column, or choose domain 'adaptdhm'"),
        ("tab", None, r"'tab'.*no such categorical field: add it to the features"),
        ("popularity", None, r"'popularity'.*no such categorical field"),
        (
            "tab",
            (FieldSpec(name="tab", kind="categorical", size=2, table="tab"),),
            r"no known value of the domain 'tab'",
        ),
    ],
)
def test_a_schema_without_a_usable_domain_is_refused(
    domain: str | None, fields: tuple[FieldSpec, ...] | None, message: str, schema: RankerSchema
) -> None:
    changed = schema.model_copy(
        update={
            "declaration": Declaration(feedback=("like", "love"), domain=domain),
            "fields": fields or schema.fields,
        }
    )
    with pytest.raises(BadInputError, match=message):
        build_ranker(RankerConfig.of(name="star"), changed)
