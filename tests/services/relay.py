"""A line to a server that can fall silent: who is connected hears nothing any more, not even that it ended."""

from __future__ import annotations

import socket
import threading
from typing import Self

from tests.local_servers import HOST, free_port


class Relay:
    """Passes on what clients send to a port, and what comes back.

    Args:
        target: port of the server.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self._server = socket.create_server((HOST, self.port))
        self._open: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self._deaf = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._server, *self._open):
            each.close()

    @property
    def forgotten(self) -> int:
        """How many clients are connected to nobody."""
        return len(self._silent) // 2

    def fall_silent(self) -> None:
        """Forget every connection, those that come too, as when a machine vanishes."""
        self._deaf = True
        self._silent |= {*self._open}

    def hear_again(self) -> None:
        """Pass on what comes over new connections; what was forgotten stays so."""
        self._deaf = False

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self.target))
            except OSError:
                near.close()
                continue
            self._open += [near, far]
            self._silent |= {near, far} if self._deaf else set()
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while part := source.recv(1 << 16):
                if source in self._silent:
                    return
                target.sendall(part)
        except OSError:
            pass
        if source not in self._silent:
            target.close()
