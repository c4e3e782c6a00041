"""Does a window that ends before the champion's, and only such a one, keep a challenger from promotion?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.gate.window import WINDOW_END, older, window_end

DAY = datetime(2026, 1, 15, tzinfo=UTC)
MOMENTS = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))


def test_the_sentence_names_both_days() -> None:
    assert older(DAY - timedelta(days=5), DAY) == (
        "older than the champion's window, which ends 2026-01-15 (this one 2026-01-10): not promoted"
    )
    assert "2026-01-14T23:30Z" in str(older(DAY - timedelta(minutes=30), DAY))


@given(MOMENTS, MOMENTS)
def test_one_of_two_windows_is_older_unless_they_end_together(one: datetime, other: datetime) -> None:
    answers = [older(one, other), older(other, one)]
    assert [answer is not None for answer in answers] == [one < other, other < one]


@pytest.mark.parametrize(("challenger", "champion"), [(None, DAY), (DAY, None), (None, None), (DAY, DAY)])
def test_an_unknown_or_equal_window_is_left_to_the_gate(challenger: datetime | None, champion: datetime | None) -> None:
    assert older(challenger, champion) is None


@pytest.mark.parametrize(
    ("tag", "end"),
    [
        ("2026-01-15T00:00:00+00:00", DAY),
        ("2026-01-15T01:00:00+01:00", datetime(2026, 1, 15, 1, tzinfo=timezone(timedelta(hours=1)))),
        ("2026-01-15T00:00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_tag_that_says_no_moment_says_nothing(tag: str, end: datetime | None) -> None:
    assert window_end({WINDOW_END: tag}) == end
    assert window_end({}) is None
