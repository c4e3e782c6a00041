"""How are competitors measured so that a busy machine treats them alike? In turns, in several rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.platform.errors import BadInputError
from components.train.train_ranker.ray_launch import keep_freed_memory, thread_environment, usable_cpus

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Cost:
    """What a child process spent; see `tests.benchmarks.child`."""

    seconds: float
    cpu_seconds: float
    mib: float
    value: Any


@dataclass(frozen=True)
class Lab:
    """Where benchmarks run.

    Attributes:
        quick: smallest sizes, one round.
        work: empty folder for data.
        peers: Python of the benchmark environment; None without one.
        say: called with a line of progress.
        against: another checkout that is measured beside this one; None without one.
    """

    quick: bool
    work: Path
    peers: Path | None = None
    say: Callable[[str], None] = lambda _: None
    against: Path | None = None

    def rounds(self, count: int) -> int:
        return 1 if self.quick else count

    @property
    def other(self) -> str:
        """Name of the other checkout, by its commit."""
        return f"commit {commit(self.against)}"

    def alternate(self, ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
        """Return seconds by way: each once per round, the order turned round every time, one call before all."""
        found: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way()
        for number in range(self.rounds(rounds)):
            for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
                start = time.perf_counter()
                ways[name]()
                found[name].append(time.perf_counter() - start)
        return found

    def child(
        self,
        function: Callable[..., Any] | tuple[str, str],
        limit_seconds: float = 600,
        *,
        peer: bool = False,
        **arguments: Any,
    ) -> Cost | None:
        """Return the cost of a call in a process of its own, or None when it took longer than the limit.

        Args:
            function: generator function of an importable module, or module and name when it cannot be imported here.
            limit_seconds: the child is killed after these, start included.
            peer: run it in the benchmark environment.
            arguments: JSON values.

        Raises:
            BadInputError: the child failed, or there is no benchmark environment.
        """
        module, name = function if isinstance(function, tuple) else (function.__module__, function.__name__)
        python = self.peers if peer else Path(sys.executable)
        if python is None:
            raise BadInputError(f"{module}.{name} needs the benchmark environment: run `make bench`, which makes it")
        command = [python, "-m", "tests.benchmarks.child", module, name, json.dumps(arguments)]
        environment = os.environ | {"PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            raise BadInputError(f"{module}.{name} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
        return Cost(**json.loads(done.stdout.strip().splitlines()[-1]))


def commit(checkout: Path | None) -> str:
    """Return the short name of a checkout's commit."""
    command = ["git", "-C", str(checkout or ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def as_a_stage(threads: int | None = None) -> None:
    """Set this process up as a training stage does, before torch is imported."""
    os.environ |= thread_environment(threads or usable_cpus())
    keep_freed_memory()
