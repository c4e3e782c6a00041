"""Are others served, in bounded memory, while somebody sends headers and bodies slowly, or far too much?"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from components.platform.settings import Settings
from tests.local_servers import HOST
from tests.served_shop import URL, Served, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
HEADER = f"POST {URL} HTTP/1.1\r\nHost: localhost\r\n"
MIB = 1 << 20


@pytest.fixture(scope="module")
def served(shop: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = {"body": "4MiB", "in_flight": 1, "queue": 3}
    with serving(shop, tmp_path_factory.mktemp("hostile"), limits=limits, listen={"workers": 1}) as served:
        served.until(lambda: served.ask().status_code == 200)
        yield served
        assert "Traceback" not in served.said()


@contextmanager
def connected(served: Served, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((HOST, served.port), timeout=60)) for _ in range(count)]


def memory(served: Served) -> int:
    return int(psutil.Process(served.process.pid).memory_info().rss)


def said(connection: socket.socket) -> bytes:
    """Return what comes until the service closes the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def pushed(connection: socket.socket, content: bytes) -> None:
    """Send as much as the service takes."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(content)


def test_a_header_that_does_not_end_is_not_waited_for(served: Served) -> None:
    with connected(served, 100) as connections:
        for place, connection in enumerate(connections):
            connection.sendall(HEADER.encode()[: place % 60])  # some say nothing at all
        assert served.ask().status_code == 200
        for _ in range(3):
            for connection in connections:
                pushed(connection, b"x")  # a letter now and then keeps nothing open
            time.sleep(0.2)
        assert {said(connection) for connection in connections} == {b""}, "all are closed"
    assert served.ask().status_code == 200


def test_a_second_header_has_no_more_time_than_the_first(served: Served) -> None:
    with connected(served, 1) as [connection]:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost:")
        assert said(connection) == b""


def test_a_service_that_runs_out_of_connections_gets_them_back(shop: Settings, tmp_path: Path) -> None:
    with serving(shop, tmp_path) as served:
        most = psutil.Process(served.process.pid).num_fds() + 40
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (most, most))
        with connected(served, 100):
            served.until(lambda: served.answers("/v2/health/live") == 200)


def test_a_body_that_drips_is_given_up(served: Served) -> None:
    with connected(served, 50) as connections:
        for connection in connections:
            connection.sendall(f"{HEADER}Content-Length: 1000\r\n\r\n".encode())
        assert served.ask().status_code == 200
        until = time.monotonic() + 30
        open_ones = set(connections)
        for connection in connections:
            connection.setblocking(False)
        replies = dict.fromkeys(connections, b"")
        while open_ones and time.monotonic() < until:  # each gets a byte now and then
            for connection in [*open_ones]:
                pushed(connection, b" ")
                try:
                    part = connection.recv(1 << 16)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    part = b""
                replies[connection] += part
                if not part:
                    open_ones.discard(connection)
            time.sleep(0.2)
        assert not open_ones
        assert {reply.split(b"\r\n")[0] for reply in replies.values()} == {b"HTTP/1.1 408 Request Timeout"}


def test_a_length_of_a_gibibyte_is_refused_unread(served: Served) -> None:
    with connected(served, 1) as [connection]:
        connection.sendall(f"{HEADER}Content-Length: {1 << 30}\r\n\r\n".encode())
        assert said(connection).startswith(b"HTTP/1.1 413")


def test_chunks_are_counted_while_they_come(served: Served) -> None:
    refused = 'rankmill_rejected_total{reason="size"}'
    before = served.counts().get(refused, 0)
    chunk = b"10000\r\n" + b" " * (1 << 16) + b"\r\n"
    with connected(served, 1) as [connection]:
        connection.sendall(f"{HEADER}Transfer-Encoding: chunked\r\n\r\n".encode())
        pushed(connection, chunk * (5 * MIB >> 16))
        said(connection)  # until it is closed, though the body has no end
    assert served.counts()[refused] == before + 1
    assert served.ask().status_code == 200


def test_long_bodies_that_do_not_end_share_one_room(served: Served) -> None:
    before = memory(served)
    with connected(served, 60) as connections:
        for connection in connections:  # 180 MiB of a room for 16
            connection.sendall(f"{HEADER}Content-Length: {4 * MIB}\r\n\r\n".encode())
            pushed(connection, b" " * (3 * MIB))
        assert served.ask().status_code == 200, "a short question is taken all the same"
        grown = memory(served) - before
    assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"
