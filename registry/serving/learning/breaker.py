"""Does the error memory still help? A breaker per task over the newest labelled rows, as they were answered.

Each answer was given before its row was learned, so the comparison is prequential. It is made at the ends of slots,
over rows in the order of their answers: every process, and one that starts again, comes to the same result.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from registry.memory.error_memory import MemoryHeader
from registry.metrics.weighted import CLIP
from registry.serving.learning.live_memory import ClosedRows

Array = np.ndarray[Any, Any]
JUDGED = 5000
"""Newest rows that a task is judged on; fewer judge nothing."""


class Breaker:
    """Switches off the tasks that lose by the memory, until its base is refreshed."""

    def __init__(self, header: MemoryHeader, rows: int = JUDGED) -> None:
        """Begin with all tasks as the base's refresh left them."""
        self._tasks = tuple(sorted(name for name, task in header.tasks.items() if task.enabled))
        self._rows = rows
        self._waiting: dict[int, list[Array]] = {}
        self._recent = np.zeros((0, len(self._tasks)))
        self._closed = -1
        self.off: frozenset[str] = frozenset()
        """Tasks that are switched off."""

    def take(self, rows: ClosedRows) -> None:
        """Take rows that were answered with this base memory; they are judged when their slot is closed."""
        rows = rows.where(rows.corrected & (rows.slots > self._closed))
        if not self._tasks or not len(rows):
            return
        excess = [_loss(rows.labels[t], rows.answered[t]) - _loss(rows.labels[t], rows.base[t]) for t in self._tasks]
        # What orders rows comes first: time and question, then the values, so that no order of reading is seen.
        table = np.column_stack(
            [rows.at.astype(np.float64), (rows.requests >> np.uint64(11)).astype(np.float64), *excess]
        )
        for number in np.unique(rows.slots).tolist():
            self._waiting.setdefault(number, []).append(table[rows.slots == number])

    def forget(self, numbers: Collection[int]) -> None:
        """Leave out rows of slots that are made again, where they are not judged yet."""
        for number in numbers:
            self._waiting.pop(number, None)

    def close(self, until: int) -> None:
        """Judge the slots before `until`, in order: what comes of them later is not judged."""
        for number in sorted(number for number in self._waiting if number < until):
            rows = np.concatenate(self._waiting.pop(number))
            rows = rows[np.lexsort(rows.T[::-1])]
            self._recent = np.concatenate([self._recent, rows[:, 2:]])[-self._rows :]
            if len(self._recent) == self._rows:
                worse = self._recent.mean(axis=0) > 0
                self.off |= {task for task, is_so in zip(self._tasks, worse, strict=True) if is_so}
        self._closed = max(self._closed, until - 1)


def _loss(label: Array, predicted: Array) -> Array:
    """Return the negative log-likelihood of each row, clipped as `registry.metrics.log_loss` clips."""
    p = np.clip(np.asarray(predicted, dtype=np.float64), CLIP, 1 - CLIP)
    return np.asarray(-np.where(np.asarray(label) > 0, np.log(p), np.log1p(-p)), dtype=np.float64)
