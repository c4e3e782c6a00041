"""How does a stage train where its process is not what is tested? In that of the test, which has imported torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from components.platform.errors import RankmillError
from components.train.train_ranker import component
from components.train.train_ranker.job import Failure, TrainingJob
from components.train.train_ranker.loop import Replica, train


class TrainingHere:
    """Takes the place of the process tree of a training: the same job, read from the same file.

    Args:
        command: that of the training process; the job's file stands last.
        log: where that process would write.
        cleanup: folders to delete at the end.
    """

    def __init__(self, command: Sequence[str], *, log: Path, cleanup: Sequence[Path]) -> None:
        self._job = TrainingJob.model_validate_json(Path(command[-1]).read_text(encoding="utf-8"))
        self._cleanup = cleanup
        log.touch()

    def __enter__(self) -> TrainingHere:
        return self

    def __exit__(self, *_: Any) -> None:
        for folder in self._cleanup:
            shutil.rmtree(folder, ignore_errors=True)

    def wait(self, seconds: float) -> int:
        """Train to the end, however long it takes, and return the status that the process would have."""
        assert self._job.config.least_workers == 1, "workers find each other in processes of their own"
        try:
            train(self._job, Replica())
        except RankmillError as error:
            Failure.write(self._job.directory, error)
            return error.exit_code
        return 0


@contextmanager
def training_here() -> Iterator[None]:
    """Let stages that run in this process train in it too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component, "ProcessTree", TrainingHere)
        yield
