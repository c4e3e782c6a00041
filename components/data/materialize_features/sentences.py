"""What does an online store that fails say, in one sentence? SQLite's file, or a server of your own configuration."""

from __future__ import annotations

import errno
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from components.platform.errors import BadInputError, RankmillError, RetryableError
from features.ground.library_errors import library_in_words, reason

CLIENTS = frozenset(
    {"redis", "psycopg", "psycopg2", "asyncpg", "sqlalchemy", "botocore", "google", "azure", "grpc", "pymysql"}
)
"""Packages whose errors say that a server was asked; any other library's is about what it was given."""
_REFUSALS = (
    *("Auth", "Argument", "Param", "Data", "Integrity", "Programming", "Response", "NoSuchModule"),
    *("NoPermission", "ReadOnly"),
)
"""Beginnings of the classes with which a client says that a server was there, or that it never asked one."""
_NETWORK = frozenset(
    {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOTCONN}
)


@contextmanager
def one_sentence(online: str) -> Iterator[None]:
    """Turn what SQLite says about the online store's file, or a library about its own, into one sentence.

    An error that neither a library nor the system raised is a fault of ours and stays what it is.

    Raises:
        RetryableError: the file is locked or cannot be written, or a server does not answer or has no room.
        BadInputError: the file is damaged, or a library refuses what it was given.
    """
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
        if isinstance(error, RankmillError):
            raise
        if _is_full(error):
            raise RetryableError(
                f"a server of the online store {online} has no room: {reason(error)}; give it more memory or disk and "
                "run again, which writes what is left"
            ) from error
        if _of_a_server(error):
            raise RetryableError(
                f"a server of the online store {online} does not answer: {reason(error)}; start it, or correct where "
                "it is"
            ) from error
        if isinstance(error, OSError):
            about = f"{error.filename}: " if error.filename else ""
            raise RetryableError(
                f"online store {online} cannot be used ({about}{error.strerror or reason(error)}): check the file, its "
                "rights and the disk"
            ) from error
        with library_in_words(
            f"write the features into the online store {online}", "correct the definitions or the store's configuration"
        ):
            raise


def _is_full(error: BaseException) -> bool:
    """Return whether Redis says that its memory is used up, or that it cannot save to its disk."""
    package = type(error).__module__.partition(".")[0]
    return package == "redis" and (type(error).__name__ == "OutOfMemoryError" or str(error).startswith("MISCONF "))


def _of_a_server(error: BaseException) -> bool:
    """Return whether an error, or one that it wraps, says that a connection failed."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | TimeoutError | socket.gaierror | ssl.SSLError):
            return True
        if isinstance(seen, OSError) and seen.errno in _NETWORK:
            return True
        module = type(seen).__module__
        if module.startswith("google.protobuf"):
            return False
        if module.partition(".")[0] in CLIENTS and not type(seen).__name__.startswith(_REFUSALS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
