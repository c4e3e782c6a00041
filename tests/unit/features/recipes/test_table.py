"""Do the recipes give, for every key and time, what a plain loop over the impressions gives?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import Window
from features.definitions.recipe import Activity, History, Profile, Rate
from features.ground.errors import BadInputError
from features.recipes.table import compute_table, write_table

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=1))
ACTIVITY = Activity(
    key="user_id",
    prefix="user",
    rates=(Rate("like", prior=0.5), Rate("love", prior=0.1, weight=4)),
    history=History({"recent": "item_id", "liked": "like"}, length=3),
)
PROFILE = Profile(key="user_id", columns=("age", "tags"))
TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    "user_id": pl.Int64, "item_id": pl.Int64, "event_timestamp": TIME, "created_timestamp": TIME,
    "like": pl.Int8, "love": pl.Int8, "age": pl.Int64, "tags": pl.List(pl.String),
}  # fmt: skip


@st.composite
def impressions(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Few users and seconds, so that ties are the rule; some rows arrive late, some repeat."""
    rows = []
    for _ in range(draw(st.integers(1, 25))):
        time = START + timedelta(seconds=draw(st.integers(0, 6)))
        like = draw(st.integers(0, 1))
        rows.append(
            {
                "user_id": draw(st.integers(1, 3)),
                "item_id": draw(st.integers(1, 5)),
                "event_timestamp": time,
                "created_timestamp": time + timedelta(seconds=draw(st.sampled_from([0, 0, 0, 3, 60]))),
                "like": like,
                "love": draw(st.integers(0, like)),
                "age": draw(st.sampled_from([20, 20, 21, None])),
                "tags": draw(st.sampled_from([["a"], ["a", "b"]])),
            }
        )
    return rows


def frame(rows: list[dict[str, Any]]) -> pl.LazyFrame:
    return pl.DataFrame(rows, schema=SCHEMA).lazy()


def activity_by_hand(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    states = []
    for user, time in sorted({(row["user_id"], row["event_timestamp"]) for row in rows}):
        seen = [row for row in rows if row["user_id"] == user and row["event_timestamp"] <= time]
        seen.sort(key=lambda r: (r["event_timestamp"], r["item_id"], r["created_timestamp"], r["like"], r["love"]))
        times = sorted({row["event_timestamp"] for row in seen})
        newest = list(reversed(seen))[:3]
        states.append(
            {
                "user_id": user,
                "event_timestamp": time,
                "created_timestamp": max(row["created_timestamp"] for row in seen),
                "user_impressions": len(seen),
                "user_like_rate": pytest.approx((sum(r["like"] for r in seen) + 5) / (len(seen) + 10)),
                "user_love_rate": pytest.approx((sum(r["love"] for r in seen) + 0.4) / (len(seen) + 4)),
                "user_gap_seconds": (times[-1] - times[-2]).total_seconds() if len(times) > 1 else None,
                "recent": [row["item_id"] for row in newest],
                "liked": [row["like"] for row in newest],
            }
        )
    return states


def profile_by_hand(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        return (row["created_timestamp"], row["age"] is not None, row["age"] or 0, row["tags"])

    found = []
    for user in sorted({row["user_id"] for row in rows}):
        known: tuple[Any, ...] | None = None
        for time in sorted({row["event_timestamp"] for row in rows if row["user_id"] == user}):
            row = max((r for r in rows if (r["user_id"], r["event_timestamp"]) == (user, time)), key=rank)
            value = (row["age"], row["tags"])
            before = time - timedelta(microseconds=1)
            if known is None:
                found.append((user, before, before, *value))
            elif value != known:
                found.append((user, time, row["created_timestamp"], *value))
            known = value
    names = ("user_id", "event_timestamp", "created_timestamp", "age", "tags")
    return [dict(zip(names, row, strict=True)) for row in found]


@settings(max_examples=60, deadline=None)
@given(impressions(), st.randoms(use_true_random=False))
def test_activity_is_the_state_after_each_timestamp(rows: list[dict[str, Any]], random: Any) -> None:
    expected = activity_by_hand(rows)
    random.shuffle(rows)
    assert compute_table(ACTIVITY, frame(rows), WINDOW).to_dicts() == expected


@settings(max_examples=60, deadline=None)
@given(impressions(), st.randoms(use_true_random=False))
def test_a_profile_is_known_before_the_first_impression_and_changes_when_it_changes(
    rows: list[dict[str, Any]], random: Any
) -> None:
    expected = profile_by_hand(rows)
    random.shuffle(rows)
    assert compute_table(PROFILE, frame(rows), WINDOW).to_dicts() == expected


@settings(max_examples=30, deadline=None)
@given(impressions(), impressions())
def test_what_happens_later_never_changes_an_earlier_state(
    past: list[dict[str, Any]], later: list[dict[str, Any]]
) -> None:
    for row in later:
        row["event_timestamp"] += timedelta(hours=1)
        row["created_timestamp"] += timedelta(hours=1)
    for recipe in (ACTIVITY, PROFILE):
        alone = compute_table(recipe, frame(past), WINDOW)
        both = compute_table(recipe, frame(past + later), WINDOW)
        early = both.filter(pl.col("event_timestamp") < START + timedelta(minutes=30))
        seen = set(alone["user_id"].to_list())
        assert early.filter(pl.col("user_id").is_in(seen)).equals(alone)


@settings(max_examples=30, deadline=None)
@given(impressions(), st.randoms(use_true_random=False))
def test_a_key_of_several_columns_is_their_combination(rows: list[dict[str, Any]], random: Any) -> None:
    for row in rows:
        row["user_id"] = random.choice([row["user_id"], None])
    pair = pl.concat_str("user_id", "item_id", separator=" ", ignore_nulls=False).alias("pair")
    for recipe in (ACTIVITY, PROFILE):
        ours = compute_table(replace(recipe, key=("user_id", "item_id")), frame(rows), WINDOW)
        packed = compute_table(replace(recipe, key="pair"), frame(rows).with_columns(pair), WINDOW)
        assert ours.with_columns(pair).select(packed.columns).equals(packed)


def test_impressions_outside_the_window_do_not_count() -> None:
    inside = {"user_id": 1, "item_id": 1, "event_timestamp": START, "created_timestamp": START, "like": 1, "love": 0}
    outside = [inside | {"event_timestamp": t} for t in (START - timedelta(microseconds=1), WINDOW.end)]
    table = compute_table(ACTIVITY, frame([inside | {"age": 1, "tags": []}, *outside]), WINDOW)
    assert table["user_impressions"].to_list() == [1]


def test_a_missing_column_is_one_sentence_that_names_it() -> None:
    with pytest.raises(BadInputError, match=r"no column 'love'.*features of 'user_id'"):
        compute_table(ACTIVITY, frame([]).drop("love"), WINDOW)


def test_a_view_that_disagrees_with_its_recipe_is_an_error(tmp_path: Any) -> None:
    table = pl.DataFrame({"user_id": [1], "name": ["x"], "event_timestamp": [START], "created_timestamp": [START]})
    with pytest.raises(BadInputError, match="gives no 'age'"):
        write_table(table, {"user_id": "int64", "age": "int64"}, tmp_path / "user_profile.parquet")
    with pytest.raises(BadInputError, match=r"user_profile: .*change the dtype"):
        write_table(table, {"user_id": "int64", "name": "int64"}, tmp_path / "user_profile.parquet")
