"""Is what an as-of join finds at any moment what a plain loop over the events known then counts?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import Window
from features.definitions import Definitions
from features.definitions.common import NEVER, activity_fields, source
from features.definitions.recipe import Activity, Count, Decay, Distinct, History, Last, Rate, Since, Sum
from features.ground.errors import BadInputError
from features.joins.asof import CREATED, EVENT, MOMENT, known_rows
from features.joins.store import materialize, open_shared
from features.recipes.table import compute_table, write_table
from features.recipes.windows import decayed
from features.services.service import dtype_name

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(hours=2))
TICK = timedelta(microseconds=1)
TIME = pl.Datetime("us", "UTC")
SPANS: tuple[Last, ...] = (Last(minutes=1), Last(minutes=7), Last(hours=1))
HALF = Decay(hours=1)
RULE = "cents > 0 and not click or item == 2"
OVER: tuple[Any, ...] = (*SPANS, HALF, None)
RECIPE = Activity(
    key=("user", "shop"),
    prefix="u",
    rates=tuple(Rate("click", prior=0.5, weight=2, over=over) for over in OVER),
    sums=(Sum("cents", days=1), *(Sum(column, over=over) for column in ("cents", "price") for over in OVER)),
    counts=tuple(
        Count(where=where, over=over, name="odd" if where == RULE else "")
        for where in (None, "click", RULE)
        for over in OVER
        if (where, over) != (None, None)
    ),
    distincts=tuple(Distinct("item", over=over) for over in (*SPANS, None)),
    since=(Since("click"), Since(RULE, name="odd")),
    history=(
        History({"items": "item", "times": "event_timestamp"}, length=3),
        History({"clicked": "item", "clicked_at": "event_timestamp"}, length=2, where="click"),
        History({"odd_items": "item"}, length=2, where=RULE),
    ),
)
SCHEMA: dict[str, Any] = {
    "user": pl.Int64, "shop": pl.String, "event_timestamp": TIME, "created_timestamp": TIME, "item": pl.Int64,
    "click": pl.Int8, "cents": pl.Int16, "price": pl.Float64,
}  # fmt: skip
# Whole minutes, so that events tie and leave a span just when others come.
MINUTES = st.integers(0, 25)
ROW = st.tuples(
    st.sampled_from([1, 1, 1, 2, None]),
    st.sampled_from(["a", "a", "a", "b", None]),
    MINUTES,
    st.sampled_from([0, 0, 0, 3, 20]),
    st.sampled_from([1, 2, 3, None]),
    st.sampled_from([0, 1, None]),
    st.sampled_from([None, 5, -3, 32767]),
    st.sampled_from([None, 0.1, 0.7, 1e6]),
)
AFTER = st.sampled_from([0, 0, 1, 7, 20, 60])
MOMENTS = st.lists(st.tuples(MINUTES, AFTER, st.sampled_from([-1, 0, 1])), min_size=1, max_size=8)


def frame(rows: list[Any]) -> pl.LazyFrame:
    data = [
        (user, shop, START + timedelta(minutes=at), START + timedelta(minutes=at + late), *rest)
        for user, shop, at, late, *rest in rows
    ]
    return pl.DataFrame(data, schema=SCHEMA, orient="row").lazy()


def by_hand(rows: list[dict[str, Any]], moment: datetime) -> dict[str, Any] | None:
    """Count what was known of a key: nothing from the first event on that had not arrived."""
    rows = [row for row in rows if row["event_timestamp"] <= moment]
    under_way = [row["event_timestamp"] for row in rows if row["created_timestamp"] > moment]
    if under_way:
        moment = min(under_way) - TICK
    rows = [row for row in rows if row["event_timestamp"] <= moment]
    if not rows:
        return None
    rows.sort(key=lambda row: (row["event_timestamp"], row["item"] is not None, row["item"]))
    newest = rows[-1]["event_timestamp"]
    found: dict[str, Any] = {}
    for part in RECIPE.parts:
        if isinstance(part, Since):
            times = [row["event_timestamp"] for row in rows if meets(row, part.where)]
            found[RECIPE.name(part)] = (newest - max(times)).total_seconds() if times else None
            continue
        inside, weights = rows, [1.0] * len(rows)
        if isinstance(part.over, Last):
            inside = [row for row in rows if row["event_timestamp"] > moment - part.over.span]
        if isinstance(part.over, Decay):
            weights = [0.5 ** ((newest - row["event_timestamp"]) / part.over.span) for row in rows]
        if isinstance(part, Distinct):
            found[RECIPE.name(part)] = len({row["item"] for row in inside} - {None})
            continue
        amounts = [amount(part, row) * weight for row, weight in zip(inside, weights, strict=False)]
        total = sum(amounts)
        if isinstance(part, Rate):
            total = (total + part.prior * part.weight) / (sum(weights[: len(inside)]) + part.weight)
        found[RECIPE.name(part)] = pytest.approx(total, rel=1e-6, abs=1e-9)
    listed = list(reversed(rows))
    clicked = [row for row in listed if row["click"]][:2]
    return found | {
        RECIPE.count: len(rows),
        "items": [row["item"] for row in listed[:3]],
        "times": [micros(row) for row in listed[:3]],
        "clicked": [row["item"] for row in clicked],
        "clicked_at": [micros(row) for row in clicked],
        "odd_items": [row["item"] for row in listed if meets(row, RULE)][:2],
    }


def meets(row: dict[str, Any], where: str | None) -> bool:
    if where == RULE:
        return ((row["cents"] or 0) > 0 and row["click"] == 0) or row["item"] == 2
    return where is None or row[where] == 1


def amount(part: Any, row: dict[str, Any]) -> float:
    if isinstance(part, Count):
        return float(meets(row, part.where))
    return row["click" if isinstance(part, Rate) else part.column] or 0.0


def micros(row: dict[str, Any]) -> int:
    return int((row["event_timestamp"] - datetime(1970, 1, 1, tzinfo=UTC)) / TICK)


@settings(max_examples=80, deadline=None)
@given(st.lists(ROW, max_size=20), MOMENTS, st.randoms(use_true_random=False))
def test_a_value_is_the_truth_at_any_moment(rows: list[Any], moments: list[Any], random: Any) -> None:
    events = frame(rows)
    table = compute_table(RECIPE, events, WINDOW)
    random.shuffle(rows)
    assert compute_table(RECIPE, frame(rows), WINDOW).equals(table)  # the same bits in any order

    times = [START + timedelta(minutes=minute + after) + tick * TICK for minute, after, tick in moments]
    asked = [(user, shop, time) for user in (1, 2) for shop in ("a", "b") for time in times]
    known = known_rows(
        pl.DataFrame(asked, schema={"user": pl.Int64, "shop": pl.String, MOMENT: TIME}, orient="row"),
        table.select(
            "user", "shop", pl.col("event_timestamp").alias(EVENT), pl.col("created_timestamp").alias(CREATED)
        ),
        ["user", "shop"],
        timedelta(0),
        honour_created=True,
    )
    every = events.collect().to_dicts()
    for (user, shop, time), row in zip(asked, known.to_list(), strict=True):
        expected = by_hand([each for each in every if (each["user"], each["shop"]) == (user, shop)], time)
        assert (row is None) == (expected is None)
        if expected is not None:
            found = table.row(row, named=True)
            assert {name: found[name] for name in expected} == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(ROW, max_size=15), st.lists(ROW, max_size=15))
def test_what_happens_later_changes_no_bit_of_an_earlier_row(past: list[Any], later: list[Any]) -> None:
    middle = START + timedelta(minutes=26)
    later = [(user, shop, 26 + at, *rest) for user, shop, at, *rest in later]
    alone, both = (
        compute_table(RECIPE, frame(rows), WINDOW).filter(pl.col("event_timestamp") < middle)
        for rows in (past, past + later)
    )
    assert both.equals(alone)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROW, max_size=25))
def test_a_row_stands_only_where_an_event_happens_or_a_value_changes(rows: list[Any]) -> None:
    recipe = Activity(key="user", prefix="u", sums=(Sum("cents", over=Last(minutes=7)),))
    table = compute_table(recipe, frame(rows), WINDOW)
    happened = frame(rows).collect().select("user", "event_timestamp").unique().with_columns(event=True)
    table = table.join(happened, on=["user", "event_timestamp"], how="left", maintain_order="left")
    for before, row in zip(table.rows(named=True), table.rows(named=True)[1:], strict=False):
        assert row["event"] or (before["user"] == row["user"] and before["u_cents_7min"] != row["u_cents_7min"])
    assert set(table["event_timestamp"]) <= set(WINDOW.start + timedelta(minutes=m) for m in range(120))


def test_floats_of_events_that_differ_in_nothing_else_add_up_to_the_same_bits_in_any_order() -> None:
    recipe = Activity(key="user", prefix="u", sums=tuple(Sum("price", over=over) for over in (None, SPANS[0], HALF)))
    orders = permutations([(1, "a", 0, 0, 1, 1, 5, price) for price in (0.1, 0.2, 0.3, 0.7)])
    first, *others = (compute_table(recipe, frame(list(rows)), WINDOW) for rows in orders)
    assert all(other.equals(first) for other in others)


def test_a_value_that_comes_again_just_when_it_leaves_is_one() -> None:
    recipe = Activity(key="user", prefix="u", distincts=(Distinct("item", over=Last(minutes=7)),))
    table = compute_table(recipe, frame([(1, "a", minute, 0, 1, 1, 5, 0.1) for minute in (0, 7, 10)]), WINDOW)
    assert table["u_distinct_item_7min"].to_list() == [1, 1, 1, 0]


def test_windows_change_nothing_else() -> None:
    rows = [(1, "a", minute, 0, 1, minute % 2, 5, 0.1) for minute in (0, 3, 50)]
    plain = Activity(key="user", prefix="u", rates=(Rate("click", 0.5),), history=History({"items": "item"}))
    windowed = replace(plain, counts=(Count(over=Last(minutes=5)),))
    states, moments = (compute_table(recipe, frame(rows), WINDOW) for recipe in (plain, windowed))
    assert moments["u_impressions_5min"].to_list() == [1, 2, 1, 0, 1, 0]
    at_events = moments.filter(pl.col("event_timestamp").is_in(states["event_timestamp"].implode()))
    assert at_events.select(states.columns).equals(states)
    assert moments["u_gap_seconds"].to_list() == [None, 180.0, 180.0, 180.0, 2820.0, 2820.0]


@pytest.mark.parametrize("half_life", [timedelta(seconds=1), timedelta(days=30)])
def test_decay_over_thousands_of_half_lives_is_that_of_a_loop(half_life: timedelta) -> None:
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 50)
    times = np.sort(random.integers(0, 3 * 10**9, (20, 50)) * random.choice([1, 10**5], (20, 1)), axis=1).ravel()
    values = random.integers(0, 3, 1000).astype(float)
    expected, half = [], half_life / TICK
    for row in range(1000):
        first = row == 0 or group[row] != group[row - 1]
        kept = 0.0 if first else expected[-1] * 0.5 ** ((times[row] - times[row - 1]) / half)
        expected.append(kept + values[row])
    assert decayed(values, group, times, half_life) == pytest.approx(expected, rel=1e-9, abs=1e-50)


def test_every_feature_is_a_field_of_the_type_that_the_table_has() -> None:
    fields = {field.name: dtype_name(field.dtype) for field in activity_fields(RECIPE)}
    table = compute_table(RECIPE, frame([(1, "a", 0, 0, 1, 1, 5, 0.1)]), WINDOW)
    made = {name: str(table.schema[name]).lower() for name in table.columns if name in fields}
    assert made == fields
    assert {"u_impressions_1h", "u_click_count_half1h", "u_distinct_item_7min", "u_cents_1d"} < fields.keys()
    assert {"u_since_click_seconds", "u_price_half1h", "u_click_rate_1min", "u_cents_total"} < fields.keys()
    assert len({field.description for field in activity_fields(RECIPE)}) > len(OVER)


def test_a_list_without_events_is_empty() -> None:
    table = compute_table(RECIPE, frame([(1, "a", 0, 0, 1, 0, 5, 0.1)]), WINDOW)
    assert table["clicked"].to_list()[0] == [] and table["items"].to_list()[0] == [1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Last(), "must have one of days, hours, minutes"),
        (lambda: Last(days=1, hours=2), "must have one of days, hours, minutes"),
        (lambda: Decay(hours=0), "must have one of days, hours"),
        (lambda: Last(days=10**9), "must be at most 36,525 days"),
        (lambda: Sum("cents", days=7, over=Last(hours=1)), "takes days or over, not both"),
        (lambda: Count(where="cents > 3"), "is a rule: give it a name="),
        (lambda: Since("`click`"), "is a rule: give it a name="),
        (lambda: Since("cents >"), "where 'cents >' must be the name of a 0/1 column"),
        (lambda: History({"items": "item"}, where="item = 2"), "where 'item = 2' must be"),
        (lambda: replace(RECIPE, counts=(Count(),)), "2 columns 'u_impressions'"),
        (lambda: replace(RECIPE, rates=(Rate("click", 0.1), Rate("click", 0.2))), "2 columns 'u_click_rate'"),
        (lambda: Activity(key=("user", "user"), prefix="u"), "2 columns 'user'"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("part", [{"sums": (Sum("shop", over=SPANS[0]),)}, {"rates": (Rate("shop", prior=0.5),)}])
def test_a_text_is_not_added_up(part: Any) -> None:
    with pytest.raises(BadInputError, match=r"column 'shop' of the log 'events' is string, .*features of 'user'"):
        compute_table(Activity(key="user", prefix="u", **part), frame([(1, "a", 0, 0, 1, 1, 5, 0.1)]), WINDOW)


@pytest.mark.engine
def test_the_online_store_holds_a_window_as_of_its_end(tmp_path: Path) -> None:
    recipe = Activity(key=("user", "shop"), prefix="u", counts=tuple(Count(over=over) for over in SPANS))
    entities = (
        Entity(name="user", join_keys=["user"], value_type=ValueType.INT64),
        Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING),
    )
    keys = [Field(name="user", dtype=Int64), Field(name="shop", dtype=String)]
    fields = activity_fields(recipe)
    view = FeatureView(
        name="pair", entities=list(entities), ttl=NEVER, source=source("pair", ""), schema=[*keys, *fields]
    )
    own = Definitions(entities, (view,), (FeatureService(name="shop", features=[view]),), {"pair": recipe})
    rows = [(1, "a", minute, 0, 1, 1, 5, 0.1) for minute in (0, 3, 61, 115, 119)] + [(1, "b", 0, 0, 1, 1, 5, 0.1)]
    columns = {field.name: dtype_name(field.dtype) for field in [*keys, *fields]}
    write_table(compute_table(recipe, frame(rows), WINDOW), columns, tmp_path / "pair.parquet", ["user", "shop"])
    halves = [(WINDOW.start, START + timedelta(hours=1)), (START + timedelta(hours=1), WINDOW.end)]
    list(materialize(tmp_path / "feast", tmp_path, ["pair"], halves, own))
    store = open_shared(tmp_path / "feast", own)
    asked = [{"user": 1, "shop": "a"}, {"user": 1, "shop": "b"}]
    answer = store.get_online_features(store.get_feature_service("shop"), entity_rows=asked).to_dict()
    assert [answer[f"u_impressions_{over.suffix}"] for over in SPANS] == [[1, 0], [2, 0], [3, 0]]
    assert answer["u_impressions"] == [5, 1]
