"""Is a server blamed only when one was asked?"""

from __future__ import annotations

import pytest
import redis
import sqlalchemy.exc
from feast.errors import FeastObjectNotFoundException
from pyarrow import ArrowInvalid

from components.errors import BadInputError, RetryableError
from components.materialize_features.sentences import one_sentence


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:1. Connection refused."),
        sqlalchemy.exc.OperationalError("select 1", {}, Exception("connection refused")),
        ConnectionRefusedError(111, "Connection refused"),
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
    "error", [FeastObjectNotFoundException("no view 'x'"), ArrowInvalid("Column 'taste' is absent")]
)
def test_what_a_library_says_of_the_definitions_is_no_server(error: Exception) -> None:
    said = rf"^{type(error).__module__.partition('.')[0]} cannot write the features into the online store o\.db: "
    with pytest.raises(BadInputError, match=said), one_sentence("o.db"):
        raise error
