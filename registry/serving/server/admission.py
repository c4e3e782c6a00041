"""May this question be computed now, or is it better to say no at once? A few at a time, a short queue, a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from registry.serving.wire.protocol import RefusedError

Answer = TypeVar("Answer")


class Admission:
    """Threads that compute answers, and what waits for them; of one event loop."""

    def __init__(self, in_flight: int, queue: int) -> None:
        """Compute `in_flight` questions at a time and let `queue` more wait."""
        self._threads = ThreadPoolExecutor(in_flight, thread_name_prefix="answer")
        self._free = asyncio.Semaphore(in_flight)
        self._room = in_flight + queue
        self._inside = 0

    @property
    def inside(self) -> int:
        """Questions that are computed or wait."""
        return self._inside

    async def run(self, work: Callable[[], Answer], deadline: float) -> Answer:
        """Return what `work` returns, computed in a thread.

        Args:
            work: must not run longer than a question may take.
            deadline: moment of `time.monotonic` after which the answer is of no use.

        Raises:
            RefusedError: 503, too many wait, or the deadline passed before the work began.
        """
        if self._inside >= self._room:
            raise RefusedError(503, f"{self._room} questions are being answered: ask again", retry_after=1)
        self._inside += 1
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await self._free.acquire()
        except BaseException as error:
            self._inside -= 1
            if isinstance(error, TimeoutError):
                raise RefusedError(503, "the question's time was over before its turn came", retry_after=1) from None
            raise
        computed = asyncio.get_running_loop().run_in_executor(self._threads, work)
        computed.add_done_callback(self._leave)
        # A caller who goes away frees no thread: the next question waits until this one is done.
        return await asyncio.shield(computed)

    def _leave(self, computed: asyncio.Future[Any]) -> None:
        self._inside -= 1
        self._free.release()
        if not computed.cancelled():
            computed.exception()  # nobody may be there to take it

    async def drained(self, patience: float) -> bool:
        """Wait until nothing is computed any more; return whether that came within `patience` seconds."""
        until = time.monotonic() + patience
        while self._inside and time.monotonic() < until:
            await asyncio.sleep(0.02)
        self._threads.shutdown(wait=False, cancel_futures=True)
        return not self._inside
