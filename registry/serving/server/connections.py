"""How long may a caller take to say what it wants? uvicorn waits for the end of a header for ever.

Somebody who opens connections and says nothing, or a letter every minute, would take all that a process may have open.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER = 5.0
"""Seconds from the first moment of a connection, or the first byte of a later question, to the end of its header."""


class Connection(H11Protocol):
    """A connection that is closed when a header does not end."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first header."""
        super().connection_made(transport)
        self._waits()

    def data_received(self, data: bytes) -> None:
        """Read on; a header that began has its time, and one that came needs none."""
        super().data_received(data)
        self._waits()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._no_more()
        super().connection_lost(exc)

    def _waits(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._no_more()
        elif self._patience is None:
            self._patience = self.loop.call_later(HEADER, self._late)

    def _late(self) -> None:
        self._patience = None
        if self.conn.their_state is h11.IDLE:
            self.transport.close()

    def _no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
