"""Does a baseline say how values, scores and representations lie, whatever the order of the rows?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.serving.answers.answer import answer
from registry.serving.answers.by_block import Said, looked_at
from registry.serving.evidence import baseline
from registry.serving.evidence.baseline import (
    BASELINE,
    BINS,
    TOP,
    Baseline,
    Categories,
    Lists,
    Numbers,
    baseline_of,
    directions,
    read_baseline,
    shares_in,
)
from registry.serving.model.served_model import ServedModel


@pytest.fixture(scope="module")
def model(model_of: Callable[[str], Path]) -> ServedModel:
    return ServedModel.open(model_of("esmm"), "cpu")


@pytest.fixture(scope="module")
def rows(training_set_dir: Path) -> pa.Table:
    return pq.read_table(training_set_dir / "raw" / "test.parquet")


def said_of(model: ServedModel, rows: pa.Table) -> Said:
    found = answer(model, rows)
    return Said(found.base, None, found.unknown, looked_at(found, directions(model.contract.hidden)))


@pytest.fixture(scope="module")
def found(model: ServedModel, rows: pa.Table) -> Baseline:
    return baseline_of(model, rows, said_of(model, rows))


def test_it_tells_what_the_rows_hold(found: Baseline, model: ServedModel, rows: pa.Table) -> None:
    assert found.rows == rows.num_rows and found.users == len(rows["user_id"].unique())
    assert found.window.start == min(rows["event_timestamp"].to_pylist())
    ids, popularity, recent = (found.fields[name] for name in ("item_id", "popularity", "recent_items"))
    assert isinstance(ids, Categories) and isinstance(popularity, Numbers) and isinstance(recent, Lists)
    counted = Counter(map(str, rows["item_id"].to_pylist()))
    assert dict(zip(ids.values, ids.shares, strict=True)) == {
        value: pytest.approx(counted[value] / rows.num_rows) for value in ids.values
    }
    assert ids.shares[0] == max(counted.values()) / rows.num_rows
    assert sum(ids.shares) + ids.rest == pytest.approx(1)
    assert ids.unknown is not None and found.fields["genres"].unknown == 0.0, "none is not that nobody can tell"  # type: ignore[union-attr]
    numbers = np.array(rows["popularity"].drop_null().to_pylist())
    assert popularity.missing == pytest.approx(1 - np.isfinite(numbers).sum() / rows.num_rows)
    assert len(popularity.shares) == len(popularity.edges) + 1 <= BINS
    assert sum(popularity.shares) == pytest.approx(1)


def test_scores_are_those_that_are_served(found: Baseline, model: ServedModel, rows: pa.Table) -> None:
    said = answer(model, rows)
    everywhere = {one.task: one for one in found.scores if one.domain == "all"}
    assert everywhere.keys() == said.base.keys()
    assert everywhere["like"].mean == pytest.approx(said.base["like"].mean())
    domains = {one.domain: one.rows for one in found.scores if one.task == "like"}
    assert sum(domains.values()) == 2 * rows.num_rows, "all of them, and each domain"
    seen = said.hidden.astype(np.float64) @ directions(said.hidden.shape[1])
    np.testing.assert_allclose(found.hidden.mean, seen.mean(axis=0))
    np.testing.assert_allclose(found.hidden.deviation, seen.std(axis=0))


def test_the_order_of_rows_is_nothing(found: Baseline, model: ServedModel, rows: pa.Table) -> None:
    order = np.random.default_rng(0).permutation(rows.num_rows)
    said = said_of(model, rows)
    assert said.seen is not None
    moved = replace(said, base={task: values[order] for task, values in said.base.items()}, seen=said.seen[order])
    assert baseline_of(model, rows.take(pa.array(order)), moved).model_dump_json() == found.model_dump_json()


def test_a_value_that_training_never_held_shows(model: ServedModel, rows: pa.Table) -> None:
    at = rows.column_names.index("item_id")
    strange = rows.set_column(at, "item_id", pa.array([10**9] * rows.num_rows))
    ids = baseline_of(model, strange, said_of(model, strange)).fields["item_id"]
    assert isinstance(ids, Categories) and ids.unknown == 1.0 and ids.values == ("1000000000",)


def test_many_values_are_cut_to_what_a_version_carries(
    model: ServedModel, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 6_000
    monkeypatch.setattr(baseline, "MOST_BYTES", most)
    small = baseline_of(model, rows, said_of(model, rows))
    ids = small.fields["item_id"]
    assert isinstance(ids, Categories) and len(ids.values) < TOP
    assert sum(ids.shares) + ids.rest == pytest.approx(1)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=200), st.lists(st.floats(-6, 6), max_size=50))
def test_shares_are_of_bins_between_edges(values: list[float], others: list[float]) -> None:
    edges = baseline._edges(np.array(values))
    assert list(edges) == sorted({*edges})
    shares = shares_in(np.array(others), edges)
    bounds = [-np.inf, *edges, np.inf]
    for number, share in enumerate(shares):
        inside = sum(bounds[number] <= value < bounds[number + 1] for value in others)
        assert share == pytest.approx(inside / max(len(others), 1))


def test_a_file_that_is_none_is_told(tmp_path: Path, found: Baseline) -> None:
    assert read_baseline(tmp_path, "model shop v1") is None
    (tmp_path / BASELINE).write_text(found.model_dump_json())
    assert read_baseline(tmp_path, "model shop v1") == found
    (tmp_path / BASELINE).write_text("{}")
    with pytest.raises(BadInputError, match="of model shop v1 cannot be read"):
        read_baseline(tmp_path, "model shop v1")
