"""Are drawn negatives items that could have been chosen, with weights under which a rate is the true one?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.sample_negatives.component import with_negatives
from components.ingest.sample_negatives.config import COMPONENT, WEIGHT, Config
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError

START = datetime(2026, 1, 1, tzinfo=UTC)


def config(**changes: Any) -> Config:
    return Config.model_validate({"feedback": ["buy"], "item_columns": ["price"]} | changes)


def log(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    """Return positives of users, items and minutes; a price tells the item and the minute of its newest row."""
    return pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "event_timestamp": pl.Series([START + timedelta(minutes=m) for _, _, m in rows]).dt.cast_time_unit("us"),
            "request_id": [f"{user}@{m}" for user, _, m in rows],
            "buy": pl.Series([1] * len(rows), dtype=pl.Int8),
            "price": [f"{item}@{m}" for _, item, m in rows],
        }
    )  # fmt: skip


LOGS = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("pqrstuv"), st.integers(0, 9)), min_size=1)


@given(LOGS, st.randoms(use_true_random=False), st.sampled_from([0, 0.5, 1]), st.integers(0, 3))
def test_a_negative_could_have_been_chosen_and_was_not(rows: Any, shuffle: Any, alpha: float, seed: int) -> None:
    asked = config(alpha=alpha, seed=seed, per_positive=3)
    known = {item: min(m for _, other, m in rows if other == item) for _, item, _ in rows}
    free = [
        {item for item in known if known[item] <= m and (user, item) not in {row[:2] for row in rows}}
        for user, _, m in rows
    ]
    if not any(free):
        with pytest.raises(BadInputError, match="no positive has an item that its user did not choose"):
            with_negatives(log(rows), asked)
        return
    frame, notes = with_negatives(log(rows), asked)
    mixed = list(rows)
    shuffle.shuffle(mixed)
    assert with_negatives(log(mixed), asked)[0].equals(frame)
    positives, negatives = frame.filter(pl.col("buy") == 1), frame.filter(pl.col("buy") == 0)
    assert positives.drop(WEIGHT).sort(pl.all()).equals(log(rows).sort(pl.all())) and (positives[WEIGHT] == 1).all()
    assert len(negatives) + len(positives) == len(frame)
    for user, item, at, request, price in negatives.drop("buy", WEIGHT).iter_rows():
        m = (at - START) // timedelta(minutes=1)
        assert request == f"{user}@{m}" and any(row[0] == user and row[2] == m for row in rows)
        assert known[item] <= m and (user, item) not in {row[:2] for row in rows}
        assert price == f"{item}@{max(when for _, other, when in rows if other == item and when <= m)}"
    without = sum(not one for one in free)
    assert (f"{without:,} positives without a negative: their users chose every item known" in notes) == bool(without)


def test_items_come_by_popularity_and_weigh_what_they_stand_for() -> None:
    """One asker of 40,000 draws; the others make items popular 1, 4 and 16 times."""
    rows = [(f"u{n}", item, 0) for item, count in (("p", 1), ("q", 4), ("r", 16)) for n in range(count)]
    rows += [("asker", "s", 5)]
    shares, draws = {}, 1000
    for seed in range(40):
        frame, _ = with_negatives(log(rows), config(alpha=0.5, per_positive=draws, seed=seed))
        drawn = frame.filter(pl.col("user_id") == "asker", pl.col("buy") == 0)
        for item, weight in drawn.select("item_id", WEIGHT).iter_rows():
            shares.setdefault(item, []).append(weight)
    for item, chance in (("p", 1 / 7), ("q", 2 / 7), ("r", 4 / 7)):
        assert len(shares[item]) == 40
        error = np.sqrt((1 - chance) / chance / draws / 40)
        assert np.mean(shares[item]) == pytest.approx(1, abs=4 * error)  # each stands for itself, once


def test_a_weighted_rate_is_the_true_one_and_an_unweighted_is_not() -> None:
    """Each of 20,000 users chooses one of 30 items, by a taste that depends on its group."""
    draw = np.random.default_rng(3)
    taste = draw.dirichlet(np.full(30, 0.7), size=2)
    group = draw.integers(2, size=20_000)
    rows = [(f"{g}{n}", f"i{draw.choice(30, p=taste[g]):02d}", 1) for n, g in enumerate(group)]
    frame, _ = with_negatives(log(rows), config(item_columns=[], per_positive=5))
    frame = frame.with_columns(pl.col("user_id").str.head(1).alias("group"))
    cells = frame.group_by("group", "item_id").agg(
        pl.col("buy").mean().alias("plain"), pl.col("buy").filter(pl.col("buy") == 1).len().alias("n"),
        ((pl.col("buy") * pl.col(WEIGHT)).sum() / pl.col(WEIGHT).sum()).alias("weighted"),
    ).sort("group", "item_id")  # fmt: skip
    truth = np.array([taste[int(g)][int(item[1:])] for g, item in cells.select("group", "item_id").iter_rows()])
    assert np.abs(cells["weighted"].to_numpy() - truth).max() < 0.02
    assert np.average(cells["weighted"] / truth, weights=truth) == pytest.approx(1, abs=0.02)
    assert np.average(cells["plain"] / truth, weights=truth) > 2


def test_what_is_known_only_after_a_positive_is_missing_in_a_negative() -> None:
    table = log([("a", "p", 0), ("b", "q", 1)]).with_columns(paid=pl.lit(9.5), returned=pl.lit(1, pl.Int8))
    frame, _ = with_negatives(table, config(feedback=["buy", "returned"], outcomes=["paid"]))
    assert frame.schema["returned"] == pl.Int8
    assert frame.select("buy", "returned", "paid").rows() == [(1, 1, 9.5), (0, 0, None), (1, 1, 9.5)]


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ({"buy": 0}, {}, "2 rows of 2 are no positives of 'buy': a log that has negatives needs none drawn"),
        ({WEIGHT: 1.0}, {}, "the events have a column 'sampling_weight' already"),
        ({}, {"item_columns": ["prise"]}, r"the events have no column 'prise' \(did you mean 'price'\?\)"),
        ({"user_id": "a"}, {}, "no positive has an item that its user did not choose"),
    ],
)
def test_what_nothing_can_be_drawn_from_is_told(rows: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    table = log([("a", "p", 0), ("b", "p", 1)]).with_columns(pl.lit(one).alias(name) for name, one in rows.items())
    with pytest.raises(BadInputError, match=said):
        with_negatives(table, config(**changes))


def test_names_are_judged_before_a_run() -> None:
    assert COMPONENT.flow is not None
    known = {name: Column("string") for name in ("user_id", "item_id", "price")}
    known |= {name: Column("int64", "feedback") for name in ("buy", "returned")}
    told = [fault.message for fault in COMPONENT.flow.asks(config(item="itemid"), {"events": Columns(known)})]
    assert told == [
        "the events have no column 'itemid' (did you mean 'item_id'?)",
        "'returned' tells of the positive what a negative does not have: name it in feedback, or in outcomes",
    ]
    given = COMPONENT.flow.gives(config(), {"events": Columns(known)})["events"]
    assert given.known[WEIGHT].role == "feedback"  # no input of a ranker: 1 tells a positive
