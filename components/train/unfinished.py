"""Which trainings that did not end well left a folder that nobody goes on from, and how is it deleted?

A training keeps its checkpoints in a folder named by the stage's key, and holds the lock beside it while it runs. The
folder of one that ended well is gone; one that failed or was killed stays for the run that goes on from it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.platform.errors import RetryableError
from components.platform.settings import Settings
from components.train.train_ranker.job import TRAININGS, lock_of
from features.ground.files import locked


@dataclass(frozen=True)
class Leftover:
    """The folder of a training that nobody has touched for a while."""

    folder: Path
    used: datetime
    """When a file in it was last written."""
    bytes: int


def leftovers(settings: Settings, since: datetime) -> tuple[Leftover, ...]:
    """Return the folders of trainings that no process holds and that were last written before an aware moment."""
    parent = settings.home / TRAININGS
    folders = sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
    found = (_looked_at(folder) for folder in folders)
    return tuple(one for one in found if one.used < since and not _held(one.folder))


def remove_leftover(folder: Path, since: datetime) -> bool:
    """Delete the folder of a training unless one goes on in it; return whether it was deleted.

    The empty lock file stays: a run that waits for it would otherwise hold a lock that nobody else sees.
    """
    try:
        with locked(lock_of(folder), wait_seconds=0.0):
            if not folder.is_dir() or _looked_at(folder).used >= since:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return not folder.exists()
    except RetryableError:
        return False


def _looked_at(folder: Path) -> Leftover:
    times, size = [folder.stat().st_mtime], 0
    for path in folder.rglob("*"):
        try:
            found = path.lstat()
        except FileNotFoundError:  # a training that runs deletes old checkpoints
            continue
        times.append(found.st_mtime)
        size += found.st_size if path.is_file() else 0
    return Leftover(folder, datetime.fromtimestamp(max(times), UTC), size)


def _held(folder: Path) -> bool:
    if not lock_of(folder).exists():
        return False
    try:
        with locked(lock_of(folder), wait_seconds=0.0):
            return False
    except RetryableError:
        return True
