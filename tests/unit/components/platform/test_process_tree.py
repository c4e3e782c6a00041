"""Does a command's whole tree end with its caller, however the caller ends?"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from components.platform.process_tree import ProcessTree

ROOT = Path(__file__).resolve().parents[4]
PORTABLE = [pytest.param(True, id="subreaper"), pytest.param(False, id="portable")]

DAEMON = """
import os, signal, sys, time
folder = sys.argv[1]
def remember(name):
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as stream:
        stream.write(str(os.getpid()))
    os.rename(path + ".new", path)      # a reader sees the whole id or none
if os.fork() == 0:                      # a daemon: two forks, a session of its own, deaf to SIGTERM
    os.setsid()
    time.sleep(0.5)
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        remember("daemon")
        time.sleep(300)
    os._exit(0)
if os.fork() == 0:                      # an ordinary child
    remember("child")
    time.sleep(300)
remember("command")
while not os.path.exists(os.path.join(folder, "daemon")):
    time.sleep(0.02)
if "quit" in sys.argv:
    sys.exit(7)
time.sleep(300)
"""
"""Writes the ids of a command, its child and its detached daemon."""

CALLER = """
import sys, time
from pathlib import Path
from components.platform.process_tree import ProcessTree
folder = Path(sys.argv[1])
with ProcessTree([sys.executable, "-c", (folder / "daemon.py").read_text(), str(folder)], grace=0.3):
    time.sleep(300)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder where the processes of a test write their ids; whatever is left of them is killed after it."""
    (tmp_path / "daemon.py").write_text(DAEMON)
    yield tmp_path
    for pid in ids(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def command(folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", DAEMON, str(folder), *more]


def ids(folder: Path) -> list[int]:
    return [int((folder / name).read_text()) for name in ("command", "child", "daemon") if (folder / name).exists()]


def wait_for_all(folder: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while len(found := ids(folder)) < 3:
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.02)
    time.sleep(0.3)  # the daemon's parent exits: it now belongs to the supervisor, or to init
    return found


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if lives(pid)]


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # asking first whether it exists would leave a gap in which it can end
        return False


def gone_within(pids: list[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pids)


@pytest.mark.parametrize("subreaper", PORTABLE)
def test_leaving_the_block_leaves_nothing(folder: Path, subreaper: bool) -> None:
    with ProcessTree(command(folder), grace=0.3, subreaper=subreaper):
        pids = wait_for_all(folder)
        assert len(alive(pids)) == 3
    assert alive(pids) == []


def test_an_exception_in_the_caller_leaves_nothing(folder: Path) -> None:
    pids: list[int] = []
    with pytest.raises(TimeoutError), ProcessTree(command(folder), grace=0.3):
        pids += wait_for_all(folder)
        raise TimeoutError
    assert len(pids) == 3
    assert alive(pids) == []


@pytest.mark.parametrize("subreaper", PORTABLE)
def test_a_command_that_ends_takes_its_daemons_along(folder: Path, subreaper: bool) -> None:
    with ProcessTree(command(folder, "quit"), grace=0.3, subreaper=subreaper) as tree:
        assert tree.wait(20) == 7
        pids = ids(folder)
        assert len(pids) == 3
        assert alive(pids) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_caller_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    caller = subprocess.Popen([sys.executable, "-c", CALLER, str(folder)], cwd=ROOT)
    pids = wait_for_all(folder)
    caller.send_signal(number)
    caller.wait(10)
    assert gone_within(pids, 5), alive(pids)


def test_terminating_the_supervisor_ends_the_tree(folder: Path) -> None:
    with ProcessTree(command(folder), grace=0.3) as tree:
        pids = wait_for_all(folder)
        [supervisor] = [p for p in psutil.Process().children() if "components.platform.process_tree" in p.cmdline()]
        supervisor.terminate()
        assert tree.wait(10) == 128 + signal.SIGTERM
        assert alive(pids) == []


def test_the_log_holds_the_output_and_the_directories_are_deleted(tmp_path: Path) -> None:
    temporary = tmp_path / "sockets"
    temporary.mkdir()
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    with ProcessTree([sys.executable, "-c", code], log=tmp_path / "log", cleanup=[temporary]) as tree:
        assert tree.wait(10) == 3
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert not temporary.exists()


def test_a_command_killed_by_a_signal_says_so(tmp_path: Path) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    with ProcessTree([sys.executable, "-c", code]) as tree:
        assert tree.wait(10) == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with ProcessTree([str(tmp_path / "nowhere")], log=tmp_path / "log") as tree:
        assert tree.wait(10) == 127
    assert "nowhere" in (tmp_path / "log").read_text()
