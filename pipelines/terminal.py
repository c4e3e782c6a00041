"""How wide may a table be that a command prints? As the terminal, or with room where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def show(table: Table) -> None:
    """Print a table on stdout."""
    from rich.console import Console

    # A pipe has no width: give a table there room, so that nothing is folded in the middle of a name.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
