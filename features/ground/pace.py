"""How far is a long stage, how fast does it go, and when will it be done?"""

from __future__ import annotations

import time
from collections.abc import Callable

Report = Callable[[str], None]
EVERY = 10.0
"""Seconds between two lines."""


class Pace:
    """Rows that are done, told every `EVERY` seconds; what takes less time says nothing."""

    def __init__(
        self,
        what: str,
        total: int,
        report: Report | None,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "rows",
    ) -> None:
        """Begin.

        Args:
            what: begins each line: ``encoding train``.
            total: rows to do.
            report: told each line; None keeps silent.
            clock: seconds that pass.
            unit: what is counted.
        """
        self._what, self._total, self._report, self._clock, self._unit = what, total, report, clock, unit
        self._begun = self._told = clock()
        self._done = 0

    def done(self, rows: int) -> None:
        """Count rows, and tell where it is time to."""
        self._done += rows
        now = self._clock()
        if self._report is None or now - self._told < EVERY:
            return
        self._told = now
        rate = self._done / (now - self._begun)
        left = max(0, self._total - self._done) / rate if rate else 0.0
        done = f"{self._done:,} of {self._total:,} {self._unit}"
        self._report(f"{self._what}: {done}, {rate:,.0f} {self._unit}/s, {_span(left)} left")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
