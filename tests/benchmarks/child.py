"""What does one call cost in a fresh process? Seconds, processor seconds and the memory it took on top.

Run as ``python -m tests.benchmarks.child MODULE FUNCTION ARGUMENTS`` by `tests.benchmarks.lab`. The function gets the
arguments of a JSON object. It is a generator function: what happens between its first and its second ``yield`` is
measured, and what it returns after them travels back. Nothing but the standard library is imported here, so it runs in
any environment.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def memory(field: str) -> float:
    """Return ``VmHWM`` (highest ever) or ``VmRSS`` (now) of this process in MiB.

    ``getrusage`` is of no use here: its maximum is inherited from the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    module, function, arguments = sys.argv[1:]
    work: Any = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    next(work)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest memory so far is forgotten
    before, cpu, start = memory("VmRSS"), sum(os.times()[:2]), time.perf_counter()
    next(work)
    seconds, used, mib = time.perf_counter() - start, sum(os.times()[:2]) - cpu, memory("VmHWM") - before
    value = None
    try:
        next(work)
    except StopIteration as stop:
        value = stop.value
    found = {"seconds": seconds, "cpu_seconds": used, "mib": mib, "value": value}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # engines print pages of leak reports when they are torn down


if __name__ == "__main__":
    main()
