"""Does the language take the cron expressions that Airflow takes, and no others?"""

from __future__ import annotations

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.schedule import PRESETS, cron_fault

FIELD = st.sampled_from(
    ["*", "0", "1", "5", "*/5", "1-5", "1,2", "60", "24", "31", "mon", "jan", "a", "*/0", "-", "7", "L", "1#2"]
)


@given(st.lists(FIELD, min_size=3, max_size=7).map(" ".join) | st.text(max_size=20))
@settings(deadline=None)
def test_a_taken_expression_has_five_fields_and_a_next_time(text: str) -> None:
    if cron_fault(text) is None and text not in PRESETS:
        assert len(text.split()) == 5
        assert croniter(" ".join(text.split())).get_next() > 0


@pytest.mark.parametrize("text", ["0 2 * * *", "*/30 * * * *", "0 9-17 * * mon-fri", "15 3 1,15 * *", *PRESETS])
def test_usual_expressions_are_taken(text: str) -> None:
    assert cron_fault(text) is None


@pytest.mark.parametrize(
    "text", ["", "@", "@once", "daily", "* * * *", "0 2 * * * *", "60 * * * *", "0 0 31 2 *", "H * * * *"]
)
def test_others_are_refused_with_a_way_out(text: str) -> None:
    assert "@daily" in (cron_fault(text) or "")


def test_the_presets_are_airflows_own() -> None:
    presets = pytest.importorskip("airflow.utils.dates").cron_presets
    assert set(PRESETS) == set(presets)
