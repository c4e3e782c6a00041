"""Whose is a folder that is half published or half deleted, and is that process gone?

Such a folder's name begins with a dot, so that no reader looks into it, and names the process that works on it.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from pathlib import Path

from features.ground.files import is_gone

INCOMING = ".incoming"
DISCARDED = ".discarded"
"""Prefixes of folders that are not there yet and not there any more."""


def half_done(kind: str, key: str) -> str:
    """Return a new name for a folder that this process publishes or deletes.

    Args:
        kind: `INCOMING` or `DISCARDED`.
        key: of the stage.
    """
    return f"{kind}-{key}-{_owner()}-{uuid.uuid4().hex}"


def sweep(root: Path) -> None:
    """Delete what killed processes of this machine left half done below the components' folders in `root`."""
    for left in root.glob("*/.*"):
        kind, _, rest = left.name.partition("-")
        owner = rest.split("-")[1:2]
        if kind in (INCOMING, DISCARDED) and owner and _has_ended(owner[0]):
            shutil.rmtree(left, ignore_errors=True)


def _owner() -> str:
    """Return this process in a name: its machine and number."""
    return f"{socket.gethostname().replace('-', '_')}@{os.getpid()}"


def _has_ended(owner: str) -> bool:
    """Return whether a process of this machine, as `_owner` names it, has ended."""
    machine, _, number = owner.partition("@")
    here = _owner().partition("@")[0]
    return machine == here and number.isdigit() and is_gone(int(number))
