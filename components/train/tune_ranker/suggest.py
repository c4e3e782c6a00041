"""How does Ray Tune come by trials? A searcher that asks the search, and writes down how each came out.

Imported once it is set who may speak to Ray.
"""

from __future__ import annotations

import logging
import shutil
import time
from typing import Any

from pydantic import ValidationError
from ray.tune.search.searcher import Searcher

from components.train.tune_ranker.records import (
    Judge,
    Planned,
    Record,
    TrialJob,
    TuningJob,
    append_record,
    record_of,
    training_of,
)
from components.train.tune_ranker.search import Search

log = logging.getLogger("rankmill")


class Suggestions(Searcher):
    """What `Search` decides, as Ray Tune asks for it.

    Args:
        job: what is searched.
        search: what comes next.
        judge: how trials are judged.
        on_gpu: whether a trial has a GPU.
        spent: seconds of the budget that an earlier process used.
    """

    def __init__(self, job: TuningJob, search: Search, judge: Judge, on_gpu: bool, spent: float) -> None:
        super().__init__(metric="best", mode="max")
        self._job, self._search, self._judge, self._on_gpu = job, search, judge, on_gpu
        self._running: dict[str, Planned] = {}
        self._started = time.monotonic() - spent

    def suggest(self, trial_id: str) -> dict[str, str] | str | None:
        """Return the file of the next trial, None while trials must end first, or that all are over."""
        while True:
            budget = self._job.config.budget
            late = budget is not None and time.monotonic() - self._started > budget.total_seconds()
            trial = self._search.next(late)
            if trial == "wait":
                return None
            if not isinstance(trial, Planned):
                return str(Searcher.FINISHED)
            try:
                training = training_of(self._job, trial, self._search.block)
            except ValidationError as error:
                reason = f"these values do not go together: {error.errors()[0]['msg']}"
                self._over(Record(**trial.model_dump(), state="failed", epochs=(), reason=reason))
                continue
            self._running[trial_id] = trial
            file = TrialJob(trial=trial, training=training, judge=self._judge, on_gpu=self._on_gpu).write()
            log.info("trial %d: %s", trial.number, trial.values)
            return {"trial": str(file)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Write down how a trial came out."""
        trial = self._running.pop(trial_id, None)
        if trial is None:
            return
        lost = "its process was lost again and again (out of memory?)" if error else ""
        self._over(record_of(trial, self._judge, self._job.folder(trial.number), lost))
        shutil.rmtree(self._job.folder(trial.number), ignore_errors=True)

    def _over(self, record: Record) -> None:
        append_record(self._job.directory, record)
        self._search.over(record)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the file of trials has all there is to know."""

    def restore(self, checkpoint_path: str) -> None:
        """Take nothing from Ray's own files."""
