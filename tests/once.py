"""How is something dear made once for a test run, whichever of its processes asks first?"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from features.ground.files import locked


def shared_folder(scratch: pytest.TempPathFactory) -> Path:
    """Return the run's folder that all its processes see."""
    base = scratch.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def once(scratch: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first caller of the run fills; read-only.

    Args:
        scratch: the session's factory of temporary folders.
        name: of the folder; whoever uses the same name makes the same.
        make: fills the folder it is given, which it has to create.
    """
    shared = shared_folder(scratch)
    made = shared / f"once-{name}"
    with locked(shared / f"once-{name}.lock"):
        if not made.exists():
            half = shared / f"half-{name}"
            shutil.rmtree(half, ignore_errors=True)
            make(half)
            half.rename(made)
    return made
