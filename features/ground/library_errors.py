"""What did a library mean by its error, and which library was it? In words, not by the names of Python's classes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from features.ground.errors import BadInputError, RankmillError

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("site-packages", "dist-packages")
_LONGEST = 300


@contextmanager
def library_in_words(doing: str, remedy: str) -> Iterator[None]:
    """Turn an error of a library into one sentence; an error of ours or of the system stays what it is.

    Raises:
        BadInputError: a library refused what it was given.
    """
    try:
        yield
    except (RankmillError, OSError, MemoryError):
        raise
    except Exception as error:  # a library's errors share no base class
        library = library_of(error)
        if library is None:
            raise
        raise BadInputError(f"{library} cannot {doing}: {reason(error)}; {remedy}") from error


def library_of(error: BaseException) -> str | None:
    """Return the package that an error comes from, or None when only code of ours and of Python raised it.

    The class tells where a library has its own ones; for one of Python's the code that raised it does.
    """
    package, _, inner = type(error).__module__.partition(".")
    if package == "google":  # many libraries of which protobuf asks no server
        return f"google.{inner.partition('.')[0]}"
    if package not in sys.stdlib_module_names and not _is_ours(package):
        return package
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = PurePath(frame.filename).parts
        for folder in _PACKAGES:
            if folder in parts:
                return PurePath(parts[len(parts) - parts[::-1].index(folder)]).stem
    return None


def reason(error: BaseException) -> str:
    """Return what an error says, in one line without its end: a `KeyError` says which name is not there."""
    if isinstance(error, KeyError) and type(error).__module__ == "builtins" and len(error.args) == 1:
        return f"there is no {error.args[0]!r}"
    lines = str(error).strip().splitlines() or [_in_words(type(error).__name__)]
    return lines[0].strip().rstrip(".")[:_LONGEST]


def _is_ours(package: str) -> bool:
    return (_ROOT / package).is_dir()


def _in_words(name: str) -> str:
    """Return a class's name as words: what an error without a message still tells."""
    spaced = "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in name).strip()
    return spaced.removesuffix(" error").removesuffix(" exception") or "an error without a message"
