"""Is a value drawn to zero the less the more rows hold it, and is a long tail then not learned by heart?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from components.data.training_set import padded_at, read_schema
from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.train_ranker import counts
from components.train.train_ranker.config import Knobs, Tables
from components.train.train_ranker.counts import rows_per_value
from components.train.train_ranker.feed import open_split
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.rowwise import drawn
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema
from tests.golden_numbers import golden
from tests.known_truth import excess_loss

IDS, FREQUENT, ROWS, EPOCHS = 6_000, 40, 8_000, 4


def test_it_is_the_golden_vector() -> None:
    """Ids 0 and 2 are in the batch, n is 4 and 2, λ is .5 and the step .1."""
    rows, given = golden(11, 3, 2)[[0, 2]], torch.tensor([[0.1, -0.2], [0.3, 0.05]], dtype=torch.float64)
    moved = rows - 0.1 * drawn(given, rows, 0.0, 0.5 / torch.tensor([4.0, 2.0], dtype=torch.float64))
    expected = torch.tensor([[-0.70125, -0.07875], [0.6525, 0.385]], dtype=torch.float64)
    torch.testing.assert_close(moved, expected)


def test_a_row_counts_once_for_a_value_however_often_it_holds_it(
    training_set_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = read_schema(training_set_dir)
    rows = open_split(training_set_dir, "train", schema)
    ranker: Any = build_ranker(RankerConfig.of("dnn"), schema)
    embedding = ranker.embedding
    expected = np.zeros(len(embedding.weight), dtype=np.int64)
    columns = {field.name: padded_at(rows.features[field.name], slice(None)) for field in embedding.embedded}
    shown: list[int] = []
    for row in range(rows.rows):
        places = [np.atleast_1d(values[row]) + embedding.offsets[name] for name, values in columns.items()]
        shown.extend(np.unique(np.concatenate(places)))
    np.add.at(expected, shown, 1)
    silent = embedding.silent_rows().numpy()
    monkeypatch.setattr(counts, "_AT_ONCE", 7)
    found = rows_per_value(rows, ranker).numpy()
    expected[silent] = found[silent] = 0  # padding never learns
    np.testing.assert_array_equal(found, expected)
    hashed = build_ranker(RankerConfig.of("dnn", embedding="hashed", buckets=50), schema)
    with pytest.raises(BadInputError, match="no row per value"):
        rows_per_value(rows, hashed)


def excess(aware: float, decay: float = 0.0) -> float:
    """Return what a long tail costs after some passes: ids of which frequent ones say much and rare ones little."""
    g = torch.Generator().manual_seed(1)
    effect = torch.randn(IDS, generator=g) * torch.where(torch.arange(IDS) < FREQUENT, 1.2, 0.3)
    shares = (torch.arange(IDS) + 3.0).pow(-0.8)
    train, fresh = (torch.multinomial(shares, ROWS, replacement=True, generator=g) for _ in range(2))
    truth = torch.sigmoid(effect - 0.5)
    clicks = (torch.rand(ROWS, generator=g) < truth[train]).float()
    field = FieldSpec(name="item_id", kind="categorical", size=FIRST + IDS, table="item_id")
    schema = RankerSchema(declaration=Declaration(feedback=("like",)), fields=(field,), base_rates={"like": 0.4})
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of("dnn", hidden=(32,)), schema).train()
    held = torch.bincount(train + FIRST, minlength=FIRST + IDS)
    knobs = Knobs(learning_rate=0.003, weight_decay=decay, tables=Tables(mini_batch_aware=aware))
    optimiser = RankerOptimiser(ranker, knobs, held=held if aware else None)
    for _ in range(EPOCHS):
        for at in torch.randperm(ROWS, generator=g).split(256):
            optimiser.clear()
            ranker.loss(ranker({"item_id": train[at] + FIRST}), {"like": clicks[at]}).backward()  # type: ignore[no-untyped-call]  # torch does not type it
            optimiser.step()
    with torch.no_grad():
        return excess_loss(truth[fresh], ranker.eval()({"item_id": fresh + FIRST})["like"])


def test_a_long_tail_is_not_learned_by_heart() -> None:
    without, with_it = excess(0.0), excess(3.0)
    assert with_it < 0.3 * without, (with_it, without)


def test_dense_adam_knows_none_of_it() -> None:
    with pytest.raises(ValidationError, match="tables with optimiser 'adam' know no mini_batch_aware"):
        Tables(optimiser="adam", mini_batch_aware=1.0)
    assert "mini_batch_aware" not in Tables().model_dump()
