"""Is whatever is sent to a service over HTTP answered or refused with a sentence, and never with a traceback?"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from registry.serving.log.feedback import FeedbackLog
from registry.serving.log.segments import Segments
from registry.serving.server.app import make_app
from registry.serving.wire.protocol import Question, Tensor, question_body
from tests.unit.registry.server.shop import Registry, served, service, stocked
from tests.unit.registry.server.spoilt import spoilt

INFER, FEEDBACK = "/v2/models/shop/infer", "/v2/models/shop/feedback"
GOOD = {
    INFER: question_body(
        Question({
            "user_id": Tensor("user_id", "INT64", (1,), (7,)),
            "item_id": Tensor("item_id", "INT64", (2,), (1, 2)),
            "age_band": Tensor("age_band", "BYTES", (1,), ("35_plus",)),
            "genres": Tensor("genres", "BYTES", (1, 2), ("drama", "war"), (1,)),
            "popularity": Tensor("popularity", "FP64", (2,), (1.5, None)),
            "event_timestamp": Tensor("event_timestamp", "BYTES", (1,), ("2024-02-01T12:00:00Z",)),
        }, id="7f0c", outputs=("love", "rank"))
    ),
    FEEDBACK: b'{"events": [{"request_id": "7f0c", "item_id": 3, "feedback": "love", "at": "2024-02-01T12:00:00Z"}]}',
}  # fmt: skip


async def post(app: Starlette, path: str, body: bytes) -> tuple[int, bytes]:
    """Send a body to the app as an HTTP server does; return status and answer."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost"), (b"content-length", str(len(body)).encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8500),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def answers(app: Starlette, count: int) -> Counter[tuple[str, int]]:
    """Send so many spoilt bodies, every tenth to where feedback goes, and count what came of them."""
    rng, seen = random.Random(11), Counter[tuple[str, int]]()
    async with app.router.lifespan_context(app):
        while (await post(app, INFER, GOOD[INFER]))[0] == 503:
            await asyncio.sleep(0.05)
        assert (await post(app, INFER, GOOD[INFER]))[0] == 200
        for place in range(count):
            path = FEEDBACK if place % 10 == 0 else INFER
            body = spoilt(GOOD[path], rng)
            status, answer = await post(app, path, body)
            assert status < 500 and b"Traceback" not in answer, (status, body, answer)
            assert status in (200, 202) or answer.startswith(b'{"error":"'), (status, body, answer)
            seen[path, status] += 1
    return seen


@pytest.mark.parametrize(
    "count", [2_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)], id="long")]
)
def test_spoilt_bodies_are_answered_or_refused_with_a_sentence(
    model_of: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    monkeypatch.setattr("registry.serving.log.feedback.TOGETHER", 0.0)  # nobody else sends anything
    shutil.copytree(model_of("lr"), tmp_path / "v1")
    kept = replace(
        service(Registry({1: tmp_path / "v1"}, 1, served()), stocked()),
        feedback=FeedbackLog(Segments((tmp_path / "feedback").as_uri())),
    )
    with caplog.at_level(logging.ERROR, "rankmill"):
        seen = asyncio.run(answers(make_app(kept), count))
    assert [record for record in caplog.records if record.name.startswith("rankmill")] == []
    assert {status for _, status in seen} <= {200, 202, 400, 413}
    assert count / 100 < seen[INFER, 200] < count * 0.9 and seen[INFER, 400] > count / 10
    assert 0 < seen[FEEDBACK, 202] < count / 10
