"""Where does a content lie that several artifacts hold? Once, under its sha256, however many refer to it.

A window moves on by a day a night, and a stage hands on what it got: the rows that a contract passed are those that
came in, a continued ranker's training set has the raw rows of the one before, a predecessor is a ranker. So the store
keeps files by what is in them, below ``<root>/.contents/``, and an artifact refers to them:

* In a folder of this machine an artifact's file is a hard link. The artifact stays a plain folder, which is read and
  memory-mapped as it stands, and the file system counts the references: a content with no other name is unused. Where
  it has no hard links, or another user owns the content, a file is the artifact's own.
* In an object store the artifact's manifest lists the files that lie there (``shared``); its digest, which covers what
  is in the files, is the same.

Files below `LEAST` bytes are each artifact's own: a reference would take as much.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.platform.errors import StorageError
from features.ground.files import sha256_file

CONTENTS = ".contents"
LEAST = 4096
"""Bytes of the smallest file that is shared."""
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
SAFE_FOR = timedelta(days=1)
"""An object that is younger is not deleted: the manifest that refers to it may not be written yet."""
_RENEWED_AFTER = timedelta(hours=12)
_SHA256 = re.compile("[0-9a-f]{64}")


def content_path(base: str, sha256: str) -> str:
    """Return where a content lies below the path of a store.

    Raises:
        StorageError: what a manifest says is no sha256, so it could lead anywhere.
    """
    if not _SHA256.fullmatch(sha256):
        raise StorageError(f"{sha256[:80]!r} in a manifest is no sha256: delete the artifact and run its stage again")
    return f"{base.rstrip('/')}/{CONTENTS}/{sha256[:2]}/{sha256}"


def link(kept: Path, file: Path, sha256: str, spare: Path) -> None:
    """Make an artifact's file and a content one file.

    Args:
        kept: where the content lies, or will.
        file: of an artifact that is not published yet.
        sha256: of both.
        spare: a path in the same file system that nothing else uses.
    """
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            # What was damaged since would damage every artifact that comes: it is read before it is used.
            whole = kept.stat().st_size == file.stat().st_size and sha256_file(kept) == sha256
            if whole:
                os.link(kept, spare)
                spare.replace(file)
        except FileNotFoundError:  # it was never there, or was unused until now
            whole = False
        if not whole:
            os.link(file, spare)
            spare.replace(kept)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    finally:
        spare.unlink(missing_ok=True)


def unlink_unused(folder: Path) -> int:
    """Delete the contents that no artifact has a link to, and return their bytes."""
    freed = 0
    for kept in folder.glob("*/*"):
        with suppress(FileNotFoundError):  # somebody else cleans up too
            # A publication that begins now makes a link of its own to the file, or puts its own file here.
            found = kept.stat()
            if found.st_nlink == 1:
                kept.unlink()
                freed += found.st_size
    return freed


def put(files: Any, path: str, file: Path) -> None:
    """Write a content to an object store unless it is there.

    One that has been there for long is written again, so that `delete_unused` sees that somebody needs it.
    """
    try:
        found = files.info(path)
    except FileNotFoundError:
        found = {}
    when = written_at(found)
    new = when is not None and datetime.now(UTC) - when < _RENEWED_AFTER
    if found.get("size") != file.stat().st_size or not new:
        files.put_file(str(file), path)


def delete_unused(files: Any, folder: str, used: Collection[str], now: datetime) -> int:
    """Delete the contents of an object store that no manifest refers to, and return their bytes.

    Args:
        files: of the store.
        folder: where the contents lie.
        used: sha256 of those that manifests refer to, read before this call.
        now: when they were read, aware.
    """
    freed = 0
    for path in files.find(folder):
        if path.rpartition("/")[2] in used:
            continue
        try:
            found = files.info(path)  # once more: somebody may have renewed it since it was listed
        except FileNotFoundError:
            continue
        when = written_at(found)
        if when is not None and now - when > SAFE_FOR:
            files.rm_file(path)
            freed += int(found["size"])
    return freed


def written_at(info: dict[str, Any]) -> datetime | None:
    """Return when a file was last written, as its file system tells; None where it does not."""
    when = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("created")
    return datetime.fromtimestamp(when, UTC) if isinstance(when, int | float) else when
