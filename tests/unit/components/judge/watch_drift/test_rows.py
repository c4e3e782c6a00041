"""Are large days cut to whole users, and questions of a log asked again as a whole?"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from components.judge.watch_drift.days import spans
from components.judge.watch_drift.rows import asked_again, some_users
from tests.integration.registry.mill import WINDOW


def test_of_a_large_day_a_share_of_the_users_is_kept_with_all_their_rows() -> None:
    users = np.random.default_rng(0).permutation(np.repeat(np.arange(2000), 5))
    kept = some_users(pa.chunked_array([pa.array(users)]), 3000)
    assert 2500 < kept.sum() < 3500
    assert not {*users[kept]} & {*users[~kept]}
    again = some_users(pa.chunked_array([pa.array(users[::-1].astype(str))]), 3000)
    assert {*users[::-1][again]} == {*users[kept]}, "whatever the order of the rows and the type of the ids"
    assert some_users(pa.chunked_array([pa.array(users)]), 10_000).all()


def test_whole_questions_of_the_version_are_asked_again() -> None:
    questions = np.repeat(np.arange(3000), 4)
    own = questions % 3 != 0
    at = asked_again(pa.table({"served.request": pa.array(questions.astype(str))}), own)
    assert own[at].all() and 1500 < at.size < 3000
    assert all(np.bincount(questions[at], minlength=3000) % 4 == 0)
    assert asked_again(pa.table({"served.request": pa.array(["q"])}), np.zeros(1, dtype=bool)).size == 0


@pytest.mark.parametrize("days", [1, 2, 7])
def test_spans_are_whole_and_end_with_the_window(days: int) -> None:
    found = spans(WINDOW, timedelta(days=days))
    assert len(found) == 31 // days and found[-1][1] == WINDOW.end and found[0][0] >= WINDOW.start
    assert all(one[1] == other[0] for one, other in pairwise(found))
