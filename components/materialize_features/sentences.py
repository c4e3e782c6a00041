"""What does an online store that fails say, in one sentence? SQLite's file, or a server of your own configuration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from components.errors import BadInputError, RankmillError, RetryableError


@contextmanager
def one_sentence(online: str) -> Iterator[None]:
    """Turn what SQLite says about the online store's file, or a server's client about its own, into one sentence."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise RetryableError(
                f"online store {online} is locked by another process: close what writes to it and run again"
            ) from error
        raise RetryableError(
            f"online store {online} cannot be written ({error}): check that its folder is writable and has space"
        ) from error
    except sqlite3.DatabaseError as error:
        raise BadInputError(
            f"online store {online} is damaged ({error}): delete the file and run again, which writes it anew"
        ) from error
    except Exception as error:
        if isinstance(error, RankmillError) or (
            type(error).__module__ == "builtins" and not isinstance(error, OSError)
        ):
            raise
        # Classes of a client library, such as Redis' for the values or SQLAlchemy's for the registry.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
        raise RetryableError(
            f"a server of the online store {online} does not answer: {reason}; start it, or correct where it is"
        ) from error
