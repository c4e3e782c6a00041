"""Does a watch keep still where nothing drifted, and find what did? Streams whose truth is known, over many seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from components.judge.watch_drift.config import Limits
from components.judge.watch_drift.report import settled
from tests.unit.components.judge.watch_drift.streams import LOOSE, Drift, baseline_of, cells_of, day, found, rows_of

SEEDS = 80


def share_alarmed(users: int, each: int, level: float, together: bool = True, seeds: int = SEEDS) -> int:
    """Return on how many quiet days something is beyond a limit of nothing."""
    alarmed = 0
    for seed in range(seeds):
        rng = np.random.default_rng([7, seed])
        known = baseline_of(rows_of(rng, users * 3, each))
        cells = cells_of(rows_of(rng, users, each), known, LOOSE, together)
        (judged,) = settled([day(0, cells)], level)
        assert sum(cell.chance is not None for cell in judged.cells) == 18
        alarmed += bool(judged.alarms or judged.drifted)
    return alarmed


@pytest.mark.parametrize(("users", "each"), [(2000, 1), (200, 15)])
def test_a_quiet_day_is_beyond_a_limit_of_nothing_as_rarely_as_declared(users: int, each: int) -> None:
    """Without any least change: Holm's correction alone holds the chance, for rows that hang together as for others."""
    level = 0.05
    assert share_alarmed(users, each, level) <= binom.ppf(0.999, SEEDS, level)


def test_rows_that_hang_together_would_alarm_if_they_counted_one_by_one() -> None:
    assert share_alarmed(200, 15, 0.05, together=False, seeds=20) >= 15


def test_quiet_days_do_not_alarm() -> None:
    """Two days in a row with the limits as they are: at most 2 of 60."""
    assert sum(bool(found(Drift(), seed, users=200)) for seed in range(60)) <= 2


PLANTED: dict[str, tuple[Drift, set[tuple[str, str, str]], set[str]]] = {
    "a number moves by .3 sd": (Drift(shift=0.3), {("moved", "price", "all")}, set()),
    "a value goes from 5 to 10 %": (Drift(rare=0.1), {("moved", "kind", "all")}, set()),
    "a column goes missing": (Drift(gone=1.0), {("missing", "history", "all")}, set()),
    "a tenth of a column goes missing": (Drift(gone=0.12), {("missing", "history", "all")}, set()),
    "one domain clicks 1.5 times as often": (
        Drift(rate=1.5),
        {("calibration", "click", "loans"), ("calibration", "click", "all")},
        set(),
    ),
    "half of the clicks come late": (
        Drift(kept=0.5),
        {("calibration", "click", name) for name in ("all", "cards", "loans")},
        {"ranking"},  # those that are missing look like rows that nobody wanted
    ),
    "answers rank worse": (
        Drift(noise=1.0),
        {("ranking", "click", "all")},
        {"ranking", "score", "level", "calibration"},
    ),
}
"""What happens, what must be found, and which other checks may tell of it."""


@pytest.mark.parametrize("name", PLANTED)
def test_what_drifted_is_found_within_two_days_and_nothing_else(name: str) -> None:
    drift, planted, allowed = PLANTED[name]
    for seed in range(3):
        alarms = found(drift, seed, users=1500, each=8)
        assert alarms >= planted
        assert {check for check, _, _ in alarms - planted} <= allowed


def test_a_million_rows_do_not_alarm_over_nothing() -> None:
    """A shift that certainly is there, and that nobody minds."""
    rng = np.random.default_rng(3)
    known = baseline_of(rows_of(rng, 100_000, 2))
    cells = {cell.key: cell for cell in cells_of(rows_of(rng, 100_000, 2, Drift(shift=0.05)), known, Limits())}
    moved = cells["moved", "price", "all"]
    assert moved.chance is not None and moved.chance < 1e-9 and moved.change is not None and moved.change < 0.02
    (judged,) = settled([day(0, tuple(cells.values()))], 0.01)
    assert not judged.alarms and not judged.drifted
