"""Is what MLflow's client says about a server that does not answer cut down to its cause?"""

from __future__ import annotations

import traceback

import pytest

from features.ground.errors import RetryableError
from registry.versions.database import explain, explained

SERVER = "http://mlflow:5000"
POOL = (
    f"API request to {SERVER}/api/2.0/mlflow/runs failed with exception HTTPConnectionPool(host='mlflow', port=5000): "
)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Max retries exceeded with url: /api (Caused by NewConnectionError(\"HTTPConnection(host='mlflow'): "
         "Failed to establish a new connection: [Errno 111] Connection refused\"))", "Connection refused"),
        ("Max retries exceeded with url: /api (Caused by NameResolutionError(\"HTTPConnection(host='mlflow'): "
         "Failed to resolve 'mlflow' ([Errno -2] Name or service not known)\"))", "Name or service not known"),
        ("Max retries exceeded with url: /api (Caused by ResponseError('too many 503 error responses'))",
         "too many 503 error responses"),
        ("Read timed out. (read timeout=120)", f"{POOL}Read timed out. (read timeout=120)"),
    ],
)  # fmt: skip
def test_the_cause_is_told(said: str, cause: str) -> None:
    error = explain(RuntimeError(POOL + said), SERVER)
    assert isinstance(error, RetryableError)
    assert str(error) == f"the MLflow server {SERVER} does not answer: {cause}; start it and run again"


def test_a_password_is_in_neither_the_sentence_nor_its_cause() -> None:
    from mlflow.exceptions import MlflowException

    secret = "http://ada:hunter2@mlflow:5000"
    with pytest.raises(RetryableError) as caught, explained(secret):
        raise MlflowException(f"API request to {secret}/api failed with exception no answer")
    said = "".join(traceback.format_exception(caught.value))
    assert "hunter2" not in said and "http://***@mlflow:5000" in said and "API request to" in said
