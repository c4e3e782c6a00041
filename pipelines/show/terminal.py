"""What does a command show on the terminal? Tables with room, and of the engines' chatter nothing."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.language.hiding import filter_command, hiding, secrets

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table


def frameless(*columns: Column | str) -> Table:
    """Return a table without frames: eighty columns are few."""
    from rich.table import Table

    return Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))


def folding(*headings: str, title: str | None = None) -> Table:
    """Return a table without frames that folds what is too wide, below bold headings."""
    from rich.table import Column, Table

    columns = (Column(heading, overflow="fold") for heading in headings)
    return Table(*columns, title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")


def show(table: Table) -> None:
    """Print a table on stdout."""
    from rich.console import Console

    # A pipe has no width: give a table there room, so that nothing is folded in the middle of a name.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


@contextmanager
def quiet_terminal(log: Path) -> Iterator[Console]:
    """Send what this process and its children print to `log`, and yield a console on the real stdout.

    File descriptors are moved, not `sys.stdout`: engines print from C and from child processes. Some
    of them print once more while Python shuts down, which goes to the log too.
    """
    from rich.console import Console

    sys.stdout.flush()
    sys.stderr.flush()
    saved = {1: os.dup(1), 2: os.dup(2)}
    target = filtered(log) if secrets() else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in saved:
        os.dup2(target, descriptor)
    stream = os.fdopen(os.dup(saved[1]), "w", encoding="utf-8", errors="replace", buffering=1)
    try:
        yield Console(file=hiding(stream), highlight=False)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)
        stream.close()
        atexit.register(_hush, target)


def hide_secrets() -> None:
    """Hide what a profile fetched by reference in everything that Python prints from now on."""
    sys.stdout, sys.stderr = hiding(sys.stdout), hiding(sys.stderr)


def filtered(log: Path) -> int:
    """Return a descriptor whose writings reach `log` without secrets, also from children that outlive this process."""
    # Not in this process group: Ctrl-C would end it before the engines' last words.
    child = subprocess.Popen(filter_command(log), stdin=subprocess.PIPE, start_new_session=True)
    pipe = child.stdin
    if pipe is None:
        raise RuntimeError("a child was started without its stdin")
    pipe.write(json.dumps(secrets()).encode() + b"\n")
    pipe.flush()
    target = os.dup(pipe.fileno())
    pipe.close()
    child.wait()
    return target


def _hush(target: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 2)
