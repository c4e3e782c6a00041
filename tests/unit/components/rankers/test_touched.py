"""Do gradients by row say what the dense gradient says, and do rows that were not read stay as they are?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.embedding.sparse_gradient import repeated_by_row, summed_by_row
from components.rankers.embedding.table import FieldEmbedding
from components.train.train_ranker.config import Knobs, Tables
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.rowwise import BETAS, EPSILON
from features.declaration import PADDING, RankerSchema

BatchOf = Callable[..., dict[str, torch.Tensor]]


@given(rows=st.lists(st.integers(0, 2**33), min_size=1, max_size=60), width=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_gradients_of_equal_rows_are_added_up(rows: list[int], width: int) -> None:
    gradients = torch.from_numpy(np.random.default_rng(0).integers(-9, 9, (len(rows), width))).float()
    found, sums = summed_by_row(torch.tensor(rows), gradients)
    assert found.tolist() == sorted(set(rows))
    for row, total in zip(found.tolist(), sums, strict=True):
        assert torch.equal(total, gradients[torch.tensor(rows) == row].sum(dim=0))


@given(rows=st.lists(st.integers(0, 20), max_size=60), of=st.booleans())
@settings(max_examples=60, deadline=None)
def test_without_waiting_for_their_number_the_sums_are_the_same(rows: list[int], of: bool) -> None:
    """Behind the last row that differs, it is repeated, so that whoever writes rows writes the same there."""
    read = torch.tensor(rows, dtype=torch.int64)
    gradients = torch.from_numpy(np.random.default_rng(0).normal(size=(len(rows), 3))).float()
    places = torch.arange(len(rows)) // 2 if of else None
    found, sums = summed_by_row(read, gradients, places)
    again, totals, count = repeated_by_row(read, gradients, places)
    assert len(again) == len(totals) == len(rows)
    assert int(count) == len(found)
    assert torch.equal(again[:count], found) and torch.equal(totals[:count], sums)
    assert (again[count:] == found[-1:]).all() and (totals[count:] == sums[-1:]).all()


CONFIGS = {
    "esmm": RankerConfig.of(name="esmm", hidden=(16, 8)),
    "din": RankerConfig.of(name="din", hidden=(16, 8)),
    "fintrec": RankerConfig.of(name="fintrec", dropout=0.0),
    "gnolr": RankerConfig.of(name="gnolr", hidden=(16, 8)),
    "lr": RankerConfig.of(name="lr"),
    "hashed": RankerConfig.of(name="dnn", hidden=(16,), embedding="hashed", buckets=37),
}


def labels_of(rows: int) -> dict[str, torch.Tensor]:
    like = (torch.arange(rows) % 2).float()
    return {"like": like, "love": like * (torch.arange(rows) % 3 == 0)}


def gradients_of(ranker: Any, batch: Any, labels: Any) -> None:
    ranker.train()
    ranker.loss(ranker(batch), labels).backward()


@pytest.mark.parametrize("title", CONFIGS)
def test_rows_get_the_dense_gradient(title: str, schema: RankerSchema, batch_of: BatchOf) -> None:
    batch, labels = batch_of(2), labels_of(2)
    torch.manual_seed(0)
    ranker: Any = build_ranker(CONFIGS[title], schema)
    gradients_of(ranker, batch, labels)
    dense = ranker.embedding.weight.grad.clone()
    ranker.zero_grad()
    touched = ranker.embedding.learn_by_rows()
    gradients_of(ranker, batch, labels)
    assert ranker.embedding.weight.grad is None or not ranker.embedding.weight.grad.any()
    rows, gradients = touched.combined(dense.shape[1])
    again = torch.zeros_like(dense)
    again[rows] = gradients
    torch.testing.assert_close(again, dense, atol=1e-6, rtol=1e-5)
    repeated, sums, count = touched.repeated(dense.shape[1])
    assert torch.equal(repeated[:count], rows) and torch.equal(sums[:count], gradients)
    assert (repeated[count:] == rows[-1:]).all() and (sums[count:] == gradients[-1:]).all()
    assert len(rows) < len(dense), "the batch reads a part of the table"


@pytest.mark.parametrize(("decay", "aware"), [(0.0, 0.0), (0.1, 0.0), (0.1, 2.0)])
@pytest.mark.parametrize("optimiser", ["rowwise_adagrad", "rowwise_adam"])
def test_each_row_moves_as_the_formula_says_and_no_other_row_moves(
    optimiser: Any, decay: float, aware: float, schema: RankerSchema, batch_of: BatchOf
) -> None:
    torch.manual_seed(0)
    ranker: Any = build_ranker(CONFIGS["esmm"], schema)
    tables = Tables(optimiser=optimiser, learning_rate=0.05, mini_batch_aware=aware)
    weight = ranker.embedding.weight
    held = torch.randint(9, (len(weight),))
    knobs = Knobs(tables=tables, learning_rate=1e-9, weight_decay=decay)
    trained = RankerOptimiser(ranker, knobs, held=held if aware else None)
    expected = weight.detach().double().clone()
    squares, moments = torch.zeros(len(expected)).double(), torch.zeros_like(expected)
    ever: set[int] = set()
    for step in range(1, 4):
        batch, labels = batch_of(2, seed=step), labels_of(2)
        trained.clear()
        gradients_of(ranker, batch, labels)
        assert trained.touched is not None
        rows, gradients = trained.touched.combined(weight.shape[1])
        for row, given_ in zip(rows.tolist(), gradients.double(), strict=True):
            ever.add(row)
            g = given_ + (decay + aware / max(1, int(held[row]))) * expected[row]
            if optimiser == "rowwise_adagrad":
                squares[row] += g.square().mean()
                expected[row] -= 0.05 * g / (squares[row].sqrt() + EPSILON)
            else:
                moments[row] = BETAS[0] * moments[row] + (1 - BETAS[0]) * g
                squares[row] = BETAS[1] * squares[row] + (1 - BETAS[1]) * g.square().mean()
                root = (squares[row] / (1 - BETAS[1] ** step)).sqrt() + EPSILON
                expected[row] -= 0.05 * moments[row] / (1 - BETAS[0] ** step) / root
        trained.step()
    torch.testing.assert_close(weight.detach().double(), expected, atol=1e-5, rtol=1e-4)
    assert 0 < len(ever) < len(expected)


def test_padding_never_learns(schema: RankerSchema, batch_of: BatchOf) -> None:
    ranker: Any = build_ranker(CONFIGS["esmm"], schema)
    trained = RankerOptimiser(ranker, Knobs(tables=Tables(learning_rate=0.5), weight_decay=0.1))
    embedding: FieldEmbedding = ranker.embedding
    for seed in range(3):
        batch, labels = batch_of(64, seed=seed), labels_of(64)
        name = next(f.name for f in schema.fields if f.kind == "categorical")
        batch[name][:40] = PADDING
        trained.clear()
        gradients_of(ranker, batch, labels)
        trained.step()
    assert not embedding.weight[embedding.silent_rows()].any()
    assert embedding.weight[embedding.silent_rows() + 1].any()


def test_a_frozen_table_makes_no_gradient(schema: RankerSchema) -> None:
    ranker: Any = build_ranker(CONFIGS["esmm"], schema)
    ranker.embedding.requires_grad_(False)
    assert ranker.embedding.learn_by_rows() is None
    assert RankerOptimiser(ranker, Knobs()).rows is None
