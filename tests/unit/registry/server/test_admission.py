"""Are only a few questions computed at a time, a few more kept waiting, and the rest refused at once?"""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from registry.serving.server.admission import Admission
from registry.serving.wire.protocol import RefusedError


def test_more_than_fit_are_refused_at_once_and_those_inside_finish() -> None:
    async def scene() -> list[object]:
        admission, gate = Admission(in_flight=1, queue=1), threading.Event()
        until = time.monotonic() + 30
        first = asyncio.create_task(admission.run(lambda: gate.wait(20), until))
        second = asyncio.create_task(admission.run(lambda: "second", until))
        await asyncio.sleep(0.05)
        assert admission.inside == 2
        with pytest.raises(RefusedError) as refused:
            await admission.run(lambda: "third", until)
        assert refused.value.status == 503 and refused.value.retry_after
        gate.set()
        found = [await first, await second]
        assert await admission.run(lambda: "again", until) == "again"
        return found

    assert asyncio.run(scene()) == [True, "second"]


def test_a_question_whose_time_is_over_is_not_computed() -> None:
    async def scene() -> list[str]:
        admission, gate, done = Admission(in_flight=1, queue=5), threading.Event(), list[str]()
        slow = asyncio.create_task(admission.run(lambda: gate.wait(20), time.monotonic() + 30))
        await asyncio.sleep(0.02)
        with pytest.raises(RefusedError, match="time was over"):
            await admission.run(lambda: done.append("late"), time.monotonic() + 0.05)
        gate.set()
        await slow
        await asyncio.sleep(0.02)
        assert admission.inside == 0
        return done

    assert asyncio.run(scene()) == []


def test_a_caller_who_goes_away_frees_no_thread() -> None:
    async def scene() -> int:
        admission, gate, running = Admission(in_flight=1, queue=5), threading.Event(), list[int]()

        def work() -> None:
            running.append(1)
            gate.wait(20)
            running.append(-1)

        gone = asyncio.create_task(admission.run(work, time.monotonic() + 30))
        await asyncio.sleep(0.05)
        gone.cancel()
        other = asyncio.create_task(admission.run(lambda: sum(running), time.monotonic() + 30))
        await asyncio.sleep(0.05)
        assert not other.done() and admission.inside == 2
        gate.set()
        return await other

    assert asyncio.run(scene()) == 0


def test_an_error_of_the_work_reaches_the_caller_and_leaves_room() -> None:
    async def scene() -> str:
        admission = Admission(in_flight=1, queue=0)
        with pytest.raises(ZeroDivisionError):
            await admission.run(lambda: 1 // 0, time.monotonic() + 5)
        return await admission.run(lambda: "well", time.monotonic() + 5)

    assert asyncio.run(scene()) == "well"


def test_a_stop_waits_for_those_inside() -> None:
    async def scene() -> tuple[bool, bool]:
        admission, gate = Admission(in_flight=1, queue=0), threading.Event()
        inside = asyncio.create_task(admission.run(lambda: gate.wait(20), time.monotonic() + 30))
        await asyncio.sleep(0.02)
        impatient = await admission.drained(0.05)
        gate.set()
        await inside
        return impatient, await admission.drained(5)

    assert asyncio.run(scene()) == (False, True)
