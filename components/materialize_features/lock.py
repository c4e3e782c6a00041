"""How do two runs avoid writing the online store at once? They take turns on a locked file."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.errors import RetryableError


@contextmanager
def exclusive(path: Path, wait_seconds: float = 600.0) -> Iterator[None]:
    """Hold an exclusive lock on `path` during the block; the kernel frees it when the process dies.

    Args:
        path: lock file, created when absent.
        wait_seconds: how long to wait for another run.

    Raises:
        RetryableError: another run holds the lock for longer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_seconds
    with path.open("a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RetryableError(
                        f"another run holds {path} for over {wait_seconds:g} s: wait for it or end it, then run again"
                    ) from None
                time.sleep(0.1)
        yield
