"""Which versions may a service try on people beside the champion? Every one but those that a person took back.

A rollback leaves the alias `challenger` where it was: on the version that was just found harmful.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from features.ground.errors import MissingError
from registry.champion.ledger import Ledger, pending, taken_back

AGAIN = 60.0
"""Seconds after which the ledger is read again for a version that nobody had taken back."""


class Trials:
    """Asks the ledger of one model, and remembers for a while what it said."""

    def __init__(self, ledger: Ledger, model: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without an answer."""
        self._ledger, self._model, self._clock = ledger, model, clock
        self._free: dict[str, float] = {}

    def forget(self) -> None:
        """Ask again for every version, as when another one becomes champion."""
        self._free.clear()

    def check(self, number: int, digest: str) -> None:
        """Raise where a version is not to be tried.

        Raises:
            MissingError: a person took it back, or the champion is being moved at this moment.
            BadInputError: the ledger was changed.
            RetryableError: it cannot be read.
        """
        now = self._clock()
        if now < self._free.get(digest, float("-inf")):
            return
        entries = self._ledger.entries(self._model)
        if back := taken_back(entries).get(digest):
            raise MissingError(
                f"{self._model} v{number} was {back.held}: nobody is asked to try it until `rankmill promote "
                f"{self._model} {number} --lift`"
            )
        if pending(entries) is not None:  # of a rollback the alias moves before the ledger says that it has
            raise MissingError(f"the champion of {self._model} is being moved: no other version is tried meanwhile")
        self._free[digest] = now + AGAIN
