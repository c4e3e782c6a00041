"""Is the chance that an impression was seen found again, from training rows alone, and is a weight by it of use?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from components.data.build_training_set.config import Config as Roles
from components.data.build_training_set.weigh import row_weights
from components.data.estimate_propensity.component import propensities, run
from components.data.estimate_propensity.config import COMPONENT, Config, Inputs
from components.platform.artifacts import EventsTable
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError
from registry.metrics import auc
from tests.ingesting import ALWAYS, context_at

START = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = 10
Rows = dict[str, Any]


def timed(columns: Rows) -> pl.DataFrame:
    rows = len(next(iter(columns.values())))
    times = pl.Series("event_timestamp", [START + timedelta(minutes=i) for i in range(rows)], pl.Datetime("us", "UTC"))
    return pl.DataFrame(columns).with_columns(times)


def estimated(columns: Rows, **config: Any) -> list[float]:
    return list(propensities(timed(columns), Config(**config))[0])


def looked_at(seed: int, items: int = 60, requests: int = 3000) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    """Return rows of lists, of which a place is looked at with a chance of 1/place, and what each item is worth."""
    rng = np.random.default_rng(seed)
    worth, old = rng.normal(size=items), rng.normal(size=items)
    item = np.stack([rng.permutation(items)[:PLACES] for _ in range(requests)])
    item = np.take_along_axis(item, np.argsort(-(old[item] + 0.5 * rng.normal(size=item.shape)), axis=1), axis=1)
    place = np.tile(np.arange(1, PLACES + 1), (requests, 1))
    click = rng.random(item.shape) < 1 / (1 + np.exp(-worth[item])) / place
    columns = {"item_id": item, "place": place, "click": click.astype(np.int8)}
    return timed({name: values.ravel() for name, values in columns.items()}), worth


def item_rates(frame: pl.DataFrame, weights: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return each item's weighted share of positives: what a logistic regression of the item alone learns."""
    item, click = frame["item_id"].to_numpy(), frame["click"].to_numpy()
    return np.asarray(np.bincount(item, weights * click) / np.bincount(item, weights))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_place_does_is_found_and_weights_by_it_order_items_by_their_worth(seed: int) -> None:
    frame, worth = looked_at(seed)
    config = Config(method="position", position="place", feedback="click", fit_share=1)
    values, rows = propensities(frame, config)
    assert rows == len(frame)
    np.testing.assert_allclose(values[:PLACES], 1 / np.arange(1, PLACES + 1), atol=0.06)
    given = {"click": {"propensity": "propensity", "form": "positives"}}
    roles = Roles.model_validate({"feature_service": "s", "feedback": ["click"], "weights": given})
    parts: Any = {"train": np.arange(len(frame))}
    weights = row_weights(frame.with_columns(propensity=values), roles, parts)["click"]
    better = worth > np.median(worth)
    weighted, plain = (auc(better, item_rates(frame, w)) or 0.0 for w in (weights, np.ones(len(frame))))
    assert weighted > 0.9 and weighted > plain + 0.1, (weighted, plain)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_of_requests_give_each_segment_the_say_that_its_requests_have(seed: int) -> None:
    """An item is shown where it is liked, so that its rows speak for its fans; weighted they speak for all requests."""
    rng = np.random.default_rng(seed)
    items, requests, shown = 80, 6000, 8
    liked = rng.normal(0, 1.2, (4, items))
    mean = (1 / (1 + np.exp(-liked))).mean(axis=0)
    segment = rng.integers(0, 4, requests)
    taste = liked[segment] + rng.gumbel(size=(requests, items))
    item = np.argsort(-taste, axis=1)[:, :shown]
    click = rng.random(item.shape) < 1 / (1 + np.exp(-liked[segment[:, None], item]))
    frame = timed({
        "item_id": item.ravel(), "tab": np.repeat(segment, shown), "request_id": np.repeat(np.arange(requests), shown),
        "click": click.ravel().astype(np.int8),
    })  # fmt: skip
    values, _ = propensities(frame, Config(method="shown_share", segment=("tab",), request="request_id", fit_share=1))
    error = [np.abs(item_rates(frame, w) - mean).mean() for w in (1 / values, np.ones(len(frame)))]
    assert error[0] < 0.5 * error[1], error


def test_shares_and_popularity_are_counted() -> None:
    rows: Rows = {
        "item_id": [7, 8, 7, 8, 7, 9], "tab": ["a", "a", "a", "a", "b", "b"], "request_id": [1, 1, 2, 3, 4, 4],
    }  # fmt: skip
    share: Rows = {"method": "shown_share", "request": "request_id", "fit_share": 1}
    assert estimated(rows, **share) == [0.75, 0.5, 0.75, 0.5, 0.75, 0.25]
    assert estimated(rows, **share, segment=("tab",)) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 1, 1])
    counts = [100, 50, 10, 1, 0]
    likes: Rows = {"item_id": np.repeat(range(5), [*counts[:4], 1]), "click": [1] * 161 + [0]}
    found = estimated(likes, method="popularity", feedback="click", fit_share=1, floor=0.05)
    at = np.cumsum([0, *counts[:4]])
    assert [found[i] for i in at] == pytest.approx([1, 0.707107, 0.316228, 0.1, 0.05], abs=1e-6)


def test_later_rows_say_nothing_and_what_was_never_shown_has_the_floor() -> None:
    rows: Rows = {"item_id": [1, 2, 1, 1, 3], "request_id": [1, 1, 2, 3, 4]}
    share: Rows = {"method": "shown_share", "request": "request_id", "floor": 0.02}
    assert estimated(rows, **share, fit_share=0.6) == [1.0, 0.5, 1.0, 1.0, 0.02]
    moment = START + timedelta(minutes=3)
    assert estimated(rows, **share, fit_before=moment) == [1.0, 0.5, 1.0, 1.0, 0.02]
    with pytest.raises(BadInputError, match="no row is earlier than"):
        estimated(rows, **share, fit_before=START)


def test_a_place_that_was_never_shown_is_as_the_nearest_before_it() -> None:
    frame, _ = looked_at(0)
    more = frame.vstack(frame.tail(1).with_columns(place=pl.lit(99).cast(frame["place"].dtype)))
    config = Config(method="position", position="place", feedback="click", fit_share=0.5)
    values, _ = propensities(more, config)
    assert values[-1] == values[PLACES - 1]


def test_the_table_gets_one_column_and_keeps_its_other_logs(tmp_path: Path) -> None:
    frame, _ = looked_at(0, requests=200)
    folder = tmp_path / "table"
    folder.mkdir()
    frame.write_parquet(folder / "events.parquet")
    (folder / "window.json").write_text("{}")
    (folder / "views.parquet").write_bytes(b"another log")
    config = Config(method="position", position="place", feedback="click")
    context = replace(context_at(tmp_path, ALWAYS), fetch=lambda artifact: Path(artifact.uri))
    out = run(Inputs(table=EventsTable(uri=str(folder))), config, context)
    made = pq.read_table(Path(out.table.uri) / "events.parquet")
    assert made.column_names == [*frame.columns, "propensity"] and made["propensity"].type == pa.float64()
    assert {path.name for path in Path(out.table.uri).iterdir()} >= {"window.json", "views.parquet"}


@pytest.mark.parametrize(
    ("columns", "config", "said"),
    [
        (
            {"item_id": [1, None], "request_id": [1, 1]},
            {"method": "shown_share", "request": "request_id"},
            "1 rows have no",
        ),
        ({"item_id": [1], "click": [2]}, {"method": "popularity", "feedback": "click"}, "neither 0 nor 1"),
        (
            {"item_id": [1], "click": [1], "p": [1.5]},
            {"method": "position", "feedback": "click", "position": "p"},
            "int64",
        ),
        (
            {"item_id": [1, 2], "click": [1, 0], "p": [1, 2]},
            {"method": "position", "feedback": "click", "position": "p", "fit_share": 1},
            "every item stands in one place",
        ),
    ],
)
def test_rows_that_tell_nothing_are_refused(columns: Rows, config: Rows, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        estimated(columns, **config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"method": "shown_share"}, "method 'shown_share' needs request"),
        ({"method": "popularity", "feedback": "click", "position": "p"}, "method 'popularity' does not read position"),
        ({"method": "popularity", "feedback": "c", "fit_share": 0.5, "fit_before": START}, "leave one out"),
    ],
)
def test_a_wrong_config_is_a_sentence(config: Rows, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Config(**config)


def test_validation_knows_the_columns() -> None:
    config = Config(method="popularity", feedback="clik", into="item_id")
    table = Columns({"item_id": Column("int64"), "click": Column("int64", "feedback")})
    said = [(fault.where, fault.message) for fault in COMPONENT.flow.asks(config, {"table": table})]
    assert said == [
        (("feedback",), "the table has no column 'clik' (did you mean 'click'?)"),
        (("into",), "the table has a column 'item_id' already: choose another name"),
    ]
    assert COMPONENT.flow.gives(config, {"table": table})["table"].known["item_id"].dtype == "float64"
