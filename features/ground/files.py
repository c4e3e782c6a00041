"""How are small local files written whole, hashed, and kept to one process at a time?

It lies in the lowest room so that every room does it the same way.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from features.ground.errors import RetryableError

LINKED = 16 << 20
"""Bytes of a file that is worth no second copy on one disk."""
_CHUNK = 1 << 20
_POLL_SECONDS = 0.1


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def lay(source: str | Path, target: str | Path) -> Path:
    """Put a file that nobody writes to any more at another place too, as `shutil.copy2` would.

    A large file of the same disk is there twice without its bytes being copied. Fits `shutil.copytree`.
    """
    source, target = Path(source), Path(target)
    if source.stat().st_size >= LINKED:
        target.unlink(missing_ok=True)
        with suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return target
    return Path(shutil.copy2(source, target))


@contextmanager
def written(path: Path, text: str) -> Iterator[Path]:
    """Yield a file beside `path` that holds `text` on the disk; what is still there afterwards is deleted."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, text: str) -> None:
    """Replace a small local file atomically: the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path, text) as partial:
        partial.replace(path)


@contextmanager
def locked(path: Path, wait_seconds: float | None = None, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on `path` during the block; the kernel frees it when the process dies.

    Args:
        path: lock file, created when absent.
        wait_seconds: how long to wait for another process; None waits for ever.
        on_wait: called once when there is another one to wait for.

    Raises:
        RetryableError: another process holds the lock for longer.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    # Where a file system has no such locks, a file that stands for one would outlive its process: better to fail.
    lock = FileLock(path, poll_interval=_POLL_SECONDS, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if on_wait is not None:
            on_wait()
        try:
            lock.acquire(timeout=-1 if wait_seconds is None else wait_seconds)
        except Timeout:
            raise RetryableError(
                f"another run holds {path} for over {wait_seconds:g} s: wait for it or end it, then run again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def is_gone(pid: int) -> bool:
    """Return whether no process of this machine has the number `pid`; False where the system does not tell."""
    return Path("/proc/self").exists() and not Path(f"/proc/{pid}").exists()
