"""How is a place given by an fsspec URI opened, and what does it mean when an object store refuses?

Drivers raise what their client library raises, of any class. Whoever works with files through
`open_files` sees only `FileNotFoundError`, `FileExistsError` and sentences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from features.ground.errors import BadInputError, RankmillError, RetryableError
from features.ground.plain_names import is_plain

LOCAL = ("", "file")
"""Schemes of folders of this machine."""
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
"""What S3 answers to a write of a new object that is there, or that somebody else writes at the same moment."""


def local_path(uri: str) -> str | None:
    """Return the path of a folder of this machine, or None for another store.

    A ``file:`` URI writes a space as ``%20``, and fsspec leaves it so; a plain path is taken as it stands.

    Args:
        uri: fsspec URI or path, such as ``file:///var/my%20home/ledger`` or ``/var/my home/ledger``.
    """
    if uri.startswith("file:"):
        rest = uri.removeprefix("file:")
        return unquote(rest.removeprefix("//").removeprefix("localhost") if rest.startswith("//") else rest)
    return uri if urlparse(uri).scheme in LOCAL else None


def name_below(root: str, uri: str) -> str | None:
    """Return the name that a URI has below a root, or None where it leads anywhere else.

    A URI comes from a record, a tag or a message, which others may have written: whatever it says, nothing is
    opened outside the root, and no driver but the root's own is asked.

    Args:
        root: fsspec URI or path of a folder.
        uri: fsspec URI or path, such as ``s3://bucket/rankmill/train_ranker/1f0c/ranker``.
    """
    base = local_path(root)
    place = uri if base is None else local_path(uri)
    if place is None or "::" in uri:
        return None
    top = f"{(root if base is None else str(Path(base).absolute())).rstrip('/')}/"
    name = place.removeprefix(top)
    return name if place.startswith(top) and is_plain(unquote(name)) else None


def sqlite_uri(path: Path) -> str:
    """Return the SQLAlchemy URL of an SQLite file, which reads ``%20`` as a space and ``?`` as the end of the path."""
    return f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}"


def open_files(uri: str, setting: str, failure: type[RetryableError] = RetryableError) -> tuple[Any, str]:
    """Return the file system of a URI, and the path that the URI has in it.

    What is listed is never remembered: other processes write there too.

    Args:
        uri: fsspec URI, such as ``file:///var/rankmill/artifacts`` or ``s3://bucket/rankmill``.
        setting: variable that holds it, for messages.
        failure: error of a store that does not answer.

    Raises:
        BadInputError: no driver for this URI is installed. So does every later call that the store denies.
    """
    import fsspec

    local = local_path(uri)
    if local is not None:
        return fsspec.filesystem("file"), str(Path(local).absolute())
    try:
        system, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise BadInputError(
            f"{uri} cannot be opened ({_first_line(error)}): install its driver, as the extra `prod` does for s3, "
            f"or correct {setting}"
        ) from None
    return RemoteFiles(system, uri, setting, failure), str(path)


class RemoteFiles:
    """A file system whose methods raise sentences."""

    def __init__(self, system: Any, uri: str, setting: str, failure: type[RetryableError]) -> None:
        self._system, self._uri, self._setting, self._failure = system, uri, setting, failure

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a method of the file system that raises sentences."""
        method = getattr(self._system, name)

        @functools.wraps(method)
        def explained(*args: Any, **options: Any) -> Any:
            try:
                return method(*args, **options)
            except (FileNotFoundError, FileExistsError, RankmillError):
                raise
            except PermissionError as error:
                raise BadInputError(
                    f"{self._uri} refuses: {_first_line(error)}; correct the keys, what they allow, or {self._setting}"
                ) from error
            except Exception as error:  # whatever the driver's client raises: its classes are its own
                if _was_there(error):
                    raise FileExistsError(f"{self._uri} got the file from somebody else first") from error
                raise self._failure(
                    f"{self._uri} does not answer: {_first_line(error)}; start it, or correct {self._setting}"
                ) from error

        return explained


def _was_there(error: BaseException | None) -> bool:
    """Return whether a conditional write was refused because the object exists; s3fs calls that an invalid argument."""
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict) and answer.get("Error", {}).get("Code") in _TAKEN:
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return text.rstrip(".")
