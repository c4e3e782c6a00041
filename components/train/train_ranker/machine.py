"""How does a training process use the processors and the memory of its machine?

Two defaults of the C libraries cost a step on a CPU a third of its time. Threads of OpenMP that wait for work either
sleep at once, and are slow to wake some hundred times a step, or turn for so long that two trainings on the same
processors take five times as long as one after the other. And glibc gives freed blocks of some MiB back to the system,
to ask for them again at the next step, one page of 4 KiB at a time.
"""

from __future__ import annotations

import ctypes
import os

SPINS = 10_000
"""Turns, a tenth of a millisecond or so, before a thread that waits for work sleeps. Measured on two processors, ms a
step: alone 24, two trainings beside each other 68; with threads that sleep at once 36 and 41, by default 23 and 238."""
KEPT_BYTES = 2**30
"""Freed memory that the process may keep for itself."""
LARGE_BYTES = 32 * 2**20
"""Blocks of at least this size go back when they are freed: the most that glibc accepts here."""
# Numbers of glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that a process needs before it imports torch."""
    return {"OMP_NUM_THREADS": str(max(1, threads)), "GOMP_SPINCOUNT": str(SPINS)}


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB of what it frees; where the C library is not glibc, nothing changes."""
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def usable_cpus() -> int:
    """Return the CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
