"""Which errors may a user see, and may a retry help?

The base classes live in the lowest room so that every room can raise them; the rest of the code
imports them from `components.errors`, which adds the errors of stages.
"""

from __future__ import annotations


class RankmillError(Exception):
    """An error a user can act on: one sentence with what, where and what to do.

    Attributes:
        exit_code: exit status of a command or child process that ends with this error.
        retryable: whether running the same thing again may succeed.
    """

    exit_code = 2
    retryable = False


class BadInputError(RankmillError):
    """Data or configuration that came from outside is wrong; running again changes nothing."""


class MissingError(RankmillError):
    """Something named does not exist: a file, an alias, a version, a store."""


class RetryableError(RankmillError):
    """The environment failed (a lost worker, a locked file, a full disk); running again may succeed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
    retryable = True
