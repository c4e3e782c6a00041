"""What does a stage take while it runs, and how much does it make? Its peak memory, the rows of its files."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

LOOK = 1.0
"""Seconds between looks at the children: a list of all processes costs some milliseconds."""
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """Watches the resident memory of this process and its children while a block runs.

    The kernel keeps the high-water mark of this process, which begins anew with the block; children are looked at
    once a second, so one that lives shorter may be missed. What a cluster's other machines take is not seen.
    """

    def __init__(self, look: float = LOOK) -> None:
        """Look at the children every so many seconds."""
        self._own, self._look = psutil.Process(), look
        self._done = threading.Event()
        self._seen = 0
        self._marked = False

    def __enter__(self) -> Self:
        """Begin."""
        with suppress(OSError):  # another system than Linux, or a container that forbids it
            _CLEAR.write_text("5")
            self._marked = True
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End; what comes later counts no more."""
        self._seen = self.bytes
        self._done.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """The most that was resident at once, in bytes, as far as it was seen."""
        if self._done.is_set():
            return self._seen
        own = _high_water() if self._marked else int(self._own.memory_info().rss)
        return max(own, self._seen)

    def _watch(self) -> None:
        while not self._done.wait(self._look):
            with suppress(psutil.Error):
                children = sum(map(_share, self._own.children(recursive=True)))
                self._seen = max(self._seen, int(self._own.memory_info().rss) + children)


def rows_of(files: Iterable[Path]) -> int | None:
    """Return how many rows Parquet files hold together, None where there is none among them or one cannot be read."""
    tables = [path for path in files if path.suffix == ".parquet"]
    if not tables:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return sum(int(pq.read_metadata(path).num_rows) for path in tables)
    except (OSError, pa.ArrowException):
        return None


def _high_water() -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _share(process: psutil.Process) -> int:
    """Return the bytes of a process, of what it shares with others its part; 0 when it has ended."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        with suppress(psutil.Error):
            return int(process.memory_info().rss)
    return 0
