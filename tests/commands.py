"""How does a test run `rankmill` without paying for its imports? In a process forked from one that has done them.

Each command has a process, an environment and exit handlers of its own, as it has in a shell. What Airflow and we
ourselves read from the environment when imported is imported by each anew.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parent.parent
PRELOADED = (
    "a2wsgi",
    "alembic.command",
    "cadwyn",
    "fastapi.testclient",
    "libcst",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "onnxruntime",
    "pandas",
    "pydantic.v1",
    "pyarrow.parquet",
    "rich.progress",
    "sqlalchemy.dialects.postgresql",
    "structlog",
    "svcs",
    "upath",
)
"""What Airflow and the registry stand on; none starts a thread or reads where a home lies."""


class Command:
    """A running `rankmill`.

    Args:
        words: its arguments.
        env: its whole environment.
        cwd: folder it runs in.
        main: what it calls, as `module:function`; the arguments are in `sys.argv`.
    """

    def __init__(
        self, *words: str, env: Mapping[str, str], cwd: Path = ROOT, main: str = "pipelines.cli.main:main"
    ) -> None:
        self._words = words
        self._said = Path(mkdtemp(prefix="rankmill-command-"))
        self._process = _forking().Process(target=_run, args=(words, dict(env), cwd, main, self._said))
        self._process.start()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it, as a shell or a scheduler does."""
        os.kill(self._process.pid or 0, number)

    def wait(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait for its end and return what it said.

        Raises:
            TimeoutError: it has not ended in time, and was killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError(f"{self._words} runs longer than {timeout} s")
        out, err = ((self._said / name).read_text() for name in ("out", "err"))
        return subprocess.CompletedProcess(self._words, self._process.exitcode, out, err)


def rankmill(
    *words: str, env: Mapping[str, str], cwd: Path = ROOT, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run `rankmill` to its end and return what it said; see `Command`."""
    return Command(*words, env=env, cwd=cwd).wait(timeout)


@cache
def _forking() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


def _run(words: tuple[str, ...], env: dict[str, str], cwd: Path, main: str, said: Path) -> None:
    gc.freeze()  # the modules: nobody looks for garbage among them, nor copies the pages that they lie on
    gc.set_threshold(20_000, 20, 20)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = ["rankmill", *words]
    module, _, function = main.partition(":")
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        atexit._run_exitfuncs()
