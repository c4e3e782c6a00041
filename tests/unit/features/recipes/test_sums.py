"""Does a rolling sum add up exactly what a plain loop over the events does?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import Window
from features.definitions.common import activity_fields
from features.definitions.recipe import Activity, Sum
from features.ground.errors import BadInputError
from features.recipes.table import compute_table

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=60))
RECIPE = Activity(key="user_id", prefix="user", sums=(Sum("cents", days=7), Sum("cents", days=30)))
TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {"user_id": pl.Int64, "event_timestamp": TIME, "created_timestamp": TIME, "cents": pl.Int8}
# Whole days, so that an event lies exactly on the open end of a span, and ties of one moment.
EVENTS = st.lists(st.tuples(st.integers(1, 2), st.integers(0, 40), st.none() | st.integers(-100, 127)), min_size=1)


def frame(rows: list[tuple[int, int, int | None]]) -> pl.LazyFrame:
    times = [START + timedelta(days=day) for _, day, _ in rows]
    data = [(user, time, time, cents) for (user, _, cents), time in zip(rows, times, strict=True)]
    return pl.DataFrame(data, schema=SCHEMA, orient="row").lazy()


@settings(max_examples=80, deadline=None)
@given(EVENTS, st.randoms(use_true_random=False))
def test_it_is_the_sum_of_the_days_up_to_each_timestamp(rows: list[tuple[int, int, int | None]], random: Any) -> None:
    expected = [
        tuple(float(sum(c or 0 for u, d, c in rows if u == user and day - span < d <= day)) for span in (7, 30))
        for user, day in sorted({(user, day) for user, day, _ in rows})
    ]
    random.shuffle(rows)
    assert compute_table(RECIPE, frame(rows), WINDOW).select("user_cents_7d", "user_cents_30d").rows() == expected


def test_a_sum_is_a_field_of_its_activity_and_its_column_must_be_there() -> None:
    assert {"user_cents_7d", "user_cents_30d"} <= {field.name for field in activity_fields(RECIPE)}
    with pytest.raises(BadInputError, match="have no column 'cents'"):
        compute_table(RECIPE, frame([(1, 0, 5)]).drop("cents"), WINDOW)
