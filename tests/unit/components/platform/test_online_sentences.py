"""Is a server blamed only when one was asked, and does every library say what is wrong in one sentence?"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import redis
import sqlalchemy
import sqlalchemy.exc
from feast.errors import FeastObjectNotFoundException
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType
from google.protobuf.message import DecodeError
from pyarrow import ArrowInvalid

from components.data.materialize_features.sentences import one_sentence
from components.platform.errors import BadInputError, RetryableError
from features.ground.library_errors import library_in_words


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."),
        sqlalchemy.exc.OperationalError("select 1", {}, Exception("connection refused")),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError("timed out"),
        socket.gaierror(-2, "Name or service not known"),
        OSError(113, "No route to host"),
    ],
)
def test_a_connection_that_fails_is_tried_again(error: Exception) -> None:
    said = r"a server of the online store feature_store\.yaml does not answer: "
    with pytest.raises(RetryableError, match=said), one_sentence("feature_store.yaml"):
        raise error


def test_a_client_s_error_that_a_library_wraps_is_a_server_s() -> None:
    with pytest.raises(RetryableError, match="does not answer: could not push"), one_sentence("feature_store.yaml"):
        try:
            raise redis.exceptions.TimeoutError("Timeout reading from socket")
        except redis.exceptions.TimeoutError as cause:
            raise FeastObjectNotFoundException("could not push") from cause


@pytest.mark.parametrize(
    "error",
    [
        FeastObjectNotFoundException("no view 'x'"),
        ArrowInvalid("Column 'taste' is absent"),
        redis.exceptions.AuthenticationError("invalid username-password pair"),
        redis.exceptions.ResponseError("WRONGTYPE Operation against a key"),
        redis.exceptions.NoPermissionError("this user has no permissions to run the 'hset' command"),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        DecodeError("Error parsing message with type 'feast.core.Registry'"),
        sqlalchemy.exc.ArgumentError("Could not parse SQLAlchemy URL"),
    ],
)
def test_what_a_library_says_of_the_definitions_is_no_server(error: Exception) -> None:
    library = "google.protobuf" if isinstance(error, DecodeError) else type(error).__module__.partition(".")[0]
    said = rf"^{library} cannot write the features into the online store o\.db: "
    with pytest.raises(BadInputError, match=said), one_sentence("o.db"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ResponseError("MISCONF Redis is unable to persist to disk."),
    ],
)
def test_a_server_that_is_full_is_filled_by_the_next_run(error: Exception) -> None:
    with pytest.raises(RetryableError) as caught, one_sentence("feature_store.yaml"):
        raise error
    assert str(caught.value) == (
        f"a server of the online store feature_store.yaml has no room: {str(error).rstrip('.')}; give it more memory "
        "or disk and run again, which writes what is left"
    )


def wrong_value() -> None:
    python_values_to_proto_values(["a text"], ValueType.INT64_LIST)


def absent_name() -> None:
    import pandas as pd

    pd.DataFrame({"age": [1]})["taste"]


def wrong_argument() -> None:
    sqlalchemy.create_engine("sqlite://", nonsense=1)


@pytest.mark.parametrize(
    ("call", "library", "cause"),
    [
        (absent_name, "pandas", "there is no 'taste'; correct"),
        (wrong_argument, "sqlalchemy", "Invalid argument(s) 'nonsense' sent to create_engine()"),
        (wrong_value, "feast", "Value \"a\" is of type <class 'str'> not of type <class 'numpy.int64'>"),
    ],
)
def test_python_s_own_errors_in_a_library_say_the_cause(call: Callable[[], None], library: str, cause: str) -> None:
    with pytest.raises(BadInputError) as caught, one_sentence("o.db"):
        call()
    said = str(caught.value)
    assert said.startswith(f"{library} cannot write the features into the online store o.db: ")
    assert cause in said
    assert type(caught.value.__cause__).__module__ == "builtins"
    assert type(caught.value.__cause__).__name__ not in said and "\n" not in said


def test_a_file_that_cannot_be_used_is_no_server() -> None:
    with pytest.raises(RetryableError) as caught, one_sentence("feature_store.yaml"):
        raise PermissionError(13, "Permission denied", "/etc/registry.db")
    assert str(caught.value) == (
        "online store feature_store.yaml cannot be used (/etc/registry.db: Permission denied): check the file, its "
        "rights and the disk"
    )


def test_a_fault_of_ours_stays_what_it_is() -> None:
    with pytest.raises(KeyError), one_sentence("o.db"):
        raise KeyError("ours")


def test_what_keeps_a_process_from_working_is_no_bad_input() -> None:
    with pytest.raises(MemoryError), library_in_words("join the features", "correct the definitions"):
        raise MemoryError
