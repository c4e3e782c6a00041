"""How does a test ask a service about rows of a world, and wait for what happens in the background?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from registry.serving.wire.protocol import Question, Reply, Tensor, question_body, read_reply
from tests.worlds import DTYPES

PATIENCE = 120.0
"""Seconds that a busy machine has."""
KINDS = {"int64": "INT64", "float64": "FP64", "float32": "FP32", "string": "BYTES"}


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait until something holds; fail where it does not come to pass."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("it did not come to pass")
        time.sleep(0.05)


def question(row: dict[str, Any], name: str = "") -> Question:
    """Return the question about one row of a world, with all its columns."""
    tensors = {}
    for column, dtype in DTYPES.items():
        listed = dtype.startswith("array<")
        value = row[column] if listed else [row[column]]
        shape = (1, len(value)) if listed else (1,)
        tensors[column] = Tensor(column, KINDS[dtype.removeprefix("array<").removesuffix(">")], shape, tuple(value))
    moment = int(row["event_timestamp"].timestamp() * 1_000_000)
    tensors["event_timestamp"] = Tensor("event_timestamp", "INT64", (1,), (moment,))
    return Question(tensors, id=name)


def ask(service: TestClient, model: str, asked: Question) -> Reply:
    """Return what a service answers."""
    answered = service.post(f"/v2/models/{model}/infer", content=question_body(asked))
    assert answered.status_code == 200, answered.text
    return read_reply(answered.content)
