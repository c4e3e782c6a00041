"""Does a row see what the last materialisation before it wrote, and nothing that has grown too old since?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.data.build_training_set.rows import materialised_until
from features.joins.asof import ASKED_AT, CREATED, EVENT, MOMENT, TIME, known_rows
from features.services.served import Freshness

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOMENTS = st.datetimes(datetime(1995, 1, 1), datetime(2040, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def until(at: datetime, freshness: Freshness) -> datetime:
    found = pl.DataFrame({"t": [at]}, schema={"t": TIME}).select(materialised_until(pl.col("t"), freshness))["t"][0]
    assert isinstance(found, datetime)
    return found


@given(MOMENTS, st.integers(1, 72), st.integers(0, 48))
def test_it_ends_on_the_clock_lies_behind_and_is_the_newest_that_is_there(at: datetime, every: int, lag: int) -> None:
    freshness = Freshness(every=every * HOUR, lag=lag * HOUR if lag else None)
    end = until(at, freshness)
    assert (end - datetime(1970, 1, 1, tzinfo=UTC)) % (every * HOUR) == timedelta(0)
    assert end + lag * HOUR <= at < end + (every + lag) * HOUR


def test_a_night_s_values_are_there_two_hours_later() -> None:
    nightly = Freshness.model_validate({"every": "1d", "lag": "2h"})
    midnight = datetime(2024, 5, 7, tzinfo=UTC)
    assert until(midnight + 2 * HOUR, nightly) == midnight
    assert until(midnight + 2 * HOUR - timedelta(microseconds=1), nightly) == midnight - DAY
    assert str(nightly) == "every 1d, 2h later"


@pytest.mark.parametrize("written", [{"every": "0d"}, {"every": "now"}, {}, {"every": "1d", "lags": "2h"}])
def test_other_words_are_refused(written: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Freshness.model_validate(written)


def test_values_age_until_they_are_used() -> None:
    noon = datetime(2024, 5, 7, 12, tzinfo=UTC)
    table = pl.DataFrame(
        {"k": [1], EVENT: [noon - DAY], CREATED: [noon - DAY]}, schema_overrides={EVENT: TIME, CREATED: TIME}
    )
    asked = [noon, noon + HOUR]
    moments = pl.DataFrame(
        {"k": [1, 1], MOMENT: [noon - HOUR] * 2, ASKED_AT: asked}, schema_overrides={MOMENT: TIME, ASKED_AT: TIME}
    )
    assert known_rows(moments, table, ["k"], DAY, honour_created=True).to_list() == [0, None]
    assert known_rows(moments.drop(ASKED_AT), table, ["k"], DAY, honour_created=True).to_list() == [0, 0]
