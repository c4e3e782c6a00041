"""Which names from a file may become part of a path? Only those that stay below the folder that they belong to.

A manifest, a record or a seal lies in a store that others may write to: a name such as ``../../.ssh/config`` in it
would be read, or written, where nobody expects it.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_DRIVE = re.compile(r"[A-Za-z]:")


def is_plain(name: str) -> bool:
    """Return whether a relative name of parts between slashes stays below its folder, wherever that lies."""
    return (
        not re.search(r"[\\\x00-\x1f\x7f]", name)
        and not _DRIVE.match(name)
        and all(part not in ("", ".", "..") for part in name.split("/"))
    )


def _file(name: str) -> str:
    if not is_plain(name):
        raise ValueError(f"{name!r} is no plain relative name: it could lead out of its folder")
    return name


def _part(name: str) -> str:
    if "/" in name:
        raise ValueError(f"{name!r} holds a slash, and it names one folder")
    return _file(name)


FileName = Annotated[str, AfterValidator(_file)]
"""Name of a file below a folder: plain parts between slashes."""
FolderName = Annotated[str, AfterValidator(_part)]
"""Name of one folder: one plain part."""
