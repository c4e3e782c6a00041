"""Which errors may a user see, and may a retry help?

The base classes live in the lowest room so that every room can raise them; the rest of the code
imports them from `components.platform.errors`, which adds the errors of stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

LISTED = 8
"""Names that a sentence lists: a table may have a thousand columns."""


class RankmillError(Exception):
    """An error a user can act on: one sentence with what, where and what to do."""

    exit_code = 2
    """Exit status of a command or child process that ends with this error."""
    retryable = False
    """Whether running the same thing again may succeed."""


class BadInputError(RankmillError):
    """Data or configuration that came from outside is wrong; running again changes nothing."""


class MissingError(RankmillError):
    """Something named does not exist: a file, an alias, a version, a store."""


class RetryableError(RankmillError):
    """The environment failed (a lost worker, a locked file, a full disk); running again may succeed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
    retryable = True


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the valid name that `name` was probably meant to be, or None when none is near."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.6)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest valid name, or the first names of all when none is near."""
    names = sorted(known)
    near = nearest(name, names)
    if near:
        return f" (did you mean {near!r}?)"
    return f" (known: {listed(names)})" if names else ""


def no_columns(absent: Sequence[str], known: Iterable[str]) -> str:
    """Return ``no column 'x' (did you mean 'y'?)``, or the same of several in one go."""
    names = sorted(known)
    if len(absent) == 1:
        return f"no column {absent[0]!r}{did_you_mean(absent[0], names)}"
    near = {name: nearest(name, names) for name in absent}
    told = [repr(name) + (f" (did you mean {near[name]!r}?)" if near[name] else "") for name in absent]
    return f"no columns {listed(told)}" + ("" if any(near.values()) or not names else f" (known: {listed(names)})")


def listed(names: Sequence[str]) -> str:
    """Return names with commas between them, of many the first and how many more there are."""
    if len(names) <= LISTED + 1:  # "and 1 more" would save nothing
        return ", ".join(names)
    return f"{', '.join(names[:LISTED])} and {len(names) - LISTED:,} more"
