"""What does an online store that fails say, in one sentence? SQLite's file, or a server of your own configuration."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from components.errors import BadInputError, RankmillError, RetryableError

CLIENTS = frozenset(
    {"redis", "psycopg", "psycopg2", "asyncpg", "sqlalchemy", "botocore", "google", "azure", "grpc", "pymysql"}
)
"""Packages whose errors say that a server was asked; any other library's is about what it was given."""


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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
        if _of_a_server(error):
            raise RetryableError(
                f"a server of the online store {online} does not answer: {reason}; start it, or correct where it is"
            ) from error
        library = type(error).__module__.partition(".")[0]
        raise BadInputError(
            f"{library} cannot write the features into the online store {online}: {reason}; correct the definitions "
            "or the store's configuration"
        ) from error


def _of_a_server(error: BaseException) -> bool:
    """Return whether an error comes from a connection: of the system, or a client library's, perhaps wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) or type(seen).__module__.partition(".")[0] in CLIENTS:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
