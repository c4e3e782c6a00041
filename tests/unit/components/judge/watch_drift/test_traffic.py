"""Does traffic follow its weekday, and is a day told that does not?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from components.judge.watch_drift.clusters import beyond
from components.judge.watch_drift.traffic import usual

LIMIT = float(np.log1p(0.3))


def counts(rng: np.random.Generator, days: int, spread: float = 0.1) -> list[int]:
    """Return counts with quiet weekends that vary by more than chance."""
    level = 5000 * np.where(np.arange(days) % 7 < 5, 1.0, 0.3)
    return rng.poisson(level * np.exp(spread * rng.normal(size=days))).tolist()


def chance(seen: list[int], limit: float) -> float:
    found = usual(seen, 7)
    assert found is not None
    return beyond(found.difference, found.error, limit, found.freedom, both=True)


def test_a_weekend_is_no_drop_and_a_quiet_day_is_told_as_rarely_as_declared() -> None:
    rng = np.random.default_rng(0)
    told = sum(chance(counts(rng, int(rng.integers(22, 36))), 0.0) < 0.05 for _ in range(400))
    assert binom.ppf(0.001, 400, 0.05) <= told <= binom.ppf(0.999, 400, 0.05)


@pytest.mark.parametrize("factor", [0.0, 0.4, 2.5])
def test_a_day_with_other_traffic_is_told(factor: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        seen = counts(rng, 29)
        assert chance([*seen[:-1], int(seen[-1] * factor)], LIMIT) < 0.01


def test_what_varies_much_must_change_more() -> None:
    rng = np.random.default_rng(2)
    seen = counts(rng, 29, spread=0.5)
    assert chance([*seen[:-1], int(seen[-8] * 1.5)], LIMIT) > 0.01


def test_days_before_a_log_began_and_outages_teach_nothing() -> None:
    rng = np.random.default_rng(3)
    seen = counts(rng, 29)
    young, broken = [0] * 14 + seen, [*seen[:10], 0, *seen[11:]]
    for history in (seen, young, broken):
        assert chance([*history[:-1], history[-1] // 3], LIMIT) < 0.01
    assert usual(young, 7) == usual(seen, 7)


def test_two_earlier_weeks_are_needed() -> None:
    assert usual([100] * 14, 7) is None
    found = usual([100] * 15, 7)
    assert found is not None and found.expected == pytest.approx(100.5) and found.error > 0, "never surer than a count"
