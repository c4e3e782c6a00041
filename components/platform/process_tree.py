"""How does a command, with everything it starts, end when its caller ends, however the caller ends?

`ProcessTree` runs a command under a small supervisor (this module as ``python -m``), which

* sits in its own session and is a Linux child subreaper, so that daemons that detach themselves
  from their parents become its children instead of init's;
* holds the reading end of a pipe whose writing end only the caller has: when the caller returns,
  raises, is terminated or is killed with SIGKILL, the kernel closes the pipe and the supervisor sees it;
* kills whatever is left of the tree when the command or the caller ends, again and again until
  nothing is left, and then deletes the directories it was given.

Where there is no subreaper (macOS) the supervisor remembers every descendant it ever saw, and takes
along whoever is in a session or group of one of them.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Self

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.1
_ROOT = Path(__file__).resolve().parents[2]


class ProcessTree:
    """A running command whose whole tree of descendants ends with the ``with`` block or the process.

    Args:
        command: program and arguments; it runs in the application's root folder.
        log: file that receives the command's output, an open descriptor that is handed over, or None to inherit the
            caller's.
        env: environment of the command; the caller's when None.
        grace: seconds between SIGTERM and SIGKILL when the tree is ended.
        cleanup: directories to delete once no process of the tree is left.
        subreaper: use the Linux child subreaper; False forces the portable way.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | int | None = None,
        env: Mapping[str, str] | None = None,
        grace: float = 2.0,
        cleanup: Sequence[Path] = (),
        subreaper: bool = True,
    ) -> None:
        self._grace = grace
        opened = log.open("ab") if isinstance(log, Path) else os.fdopen(log, "wb") if log is not None else None
        self._log: IO[bytes] | None = opened
        reading, self._lifeline = os.pipe()
        supervisor = [sys.executable, "-m", "components.platform.process_tree", "--lifeline", str(reading)]
        supervisor += ["--caller", str(os.getpid()), "--grace", str(grace)]
        supervisor += [option for path in cleanup for option in ("--cleanup", str(path))]
        supervisor += [] if subreaper else ["--portable"]
        try:
            self._supervisor = subprocess.Popen(
                [*supervisor, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT if self._log else None,
                cwd=_ROOT,
                env=None if env is None else dict(env),
                pass_fds=(reading,),
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            self._close_log()
            raise
        finally:
            os.close(reading)

    def poll(self) -> int | None:
        """Return the command's exit status once its whole tree is gone, before that None.

        A command that died of signal N has status ``128 + N``.
        """
        code = self._supervisor.poll()
        return 128 - code if code is not None and code < 0 else code

    def wait(self, seconds: float) -> int | None:
        """Wait up to `seconds` and return what `poll` returns."""
        try:
            self._supervisor.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def end(self) -> None:
        """End the tree now and wait until it is gone."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self._supervisor.wait(self._grace + 15)
        except subprocess.TimeoutExpired:
            self._supervisor.kill()
            self._supervisor.wait()
        self._close_log()

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        """Return the tree itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the tree."""
        self.end()


def _prctl(option: int, value: int) -> bool:
    """Call Linux `prctl`; return whether it worked."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0


def end_with_parent() -> None:
    """Have this process sent SIGTERM when the one that started it ends, however it ends; on Linux only."""
    parent = os.getppid()
    if _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)  # it ended in between


def _die_with_supervisor() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Supervisor:
    """The other side of the pipe: starts the command, watches, kills, tidies."""

    def __init__(self, command: list[str], lifeline: int, caller: int, grace: float, portable: bool) -> None:
        self.lifeline, self.caller, self.grace = lifeline, caller, grace
        self.reaper = not portable and _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.stopped = False
        self.seen: dict[int, psutil.Process] = {}
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_supervisor,  # noqa: PLW1509 the supervisor has one thread
        )
        self.code: int | None = None

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True

    def watch(self) -> int:
        """Return the command's exit status after the last of its tree is gone."""
        while self.code is None and not self.stopped and not self._caller_gone():
            self._reap()
            if not self.reaper:
                self._descendants()
        self._end_tree()
        if self.code is None:
            return 128 + signal.SIGTERM
        return 128 - self.code if self.code < 0 else self.code

    def _caller_gone(self) -> bool:
        # A fork of the caller may keep the pipe open after its death, so the parent is looked at too.
        readable, _, _ = select.select([self.lifeline], [], [], _POLL)
        return bool(readable) or os.getppid() != self.caller

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child.pid:
                self.code = self.child.returncode = os.waitstatus_to_exitcode(status)

    def _descendants(self) -> list[psutil.Process]:
        if self.reaper:
            return psutil.Process().children(recursive=True)
        # Without a subreaper a detached daemon is init's child, but its session or group still
        # carries the id of a process that was seen while it was attached.
        self.seen |= {process.pid: process for process in psutil.Process().children(recursive=True)}
        # An id that now belongs to another process means nothing any more.
        ours = {pid for pid, process in self.seen.items() if process.is_running() or not psutil.pid_exists(pid)}
        for process in psutil.process_iter():
            if process.pid != os.getpid() and not ours.isdisjoint(_groups(process.pid)):
                self.seen[process.pid] = process
        return [process for process in self.seen.values() if process.is_running()]

    def _end_tree(self) -> None:
        """Send SIGTERM once to everything left, then SIGKILL until nothing is left."""
        started = time.monotonic()
        force_at, give_up_at = started + self.grace, started + self.grace + 10
        told: set[int] = set()
        while time.monotonic() < give_up_at:
            self._reap()
            alive = [p for p in self._descendants() if _is_alive(p)]
            if not alive:
                return
            force = time.monotonic() >= force_at
            for process in alive:
                if force or process.pid not in told:
                    _send(process, signal.SIGKILL if force else signal.SIGTERM)
                    told.add(process.pid)
            time.sleep(0.05)


def _groups(pid: int) -> tuple[int, ...]:
    """Return the session and the process group of a process; nothing when it is gone or not ours."""
    try:
        return os.getsid(pid), os.getpgid(pid)
    except OSError:
        return ()


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return


def main(arguments: Sequence[str]) -> int:
    """Run as the supervisor of the command that follows ``--``."""
    separator = list(arguments).index("--")
    command = list(arguments[separator + 1 :])
    parser = argparse.ArgumentParser(prog="components.platform.process_tree")
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--caller", type=int, required=True)
    parser.add_argument("--grace", type=float, default=2.0)
    parser.add_argument("--cleanup", type=Path, action="append", default=[])
    parser.add_argument("--portable", action="store_true")
    options = parser.parse_args(arguments[:separator])
    try:
        return _Supervisor(command, options.lifeline, options.caller, options.grace, options.portable).watch()
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror or error}\n")
        return 127
    finally:
        for directory in options.cleanup:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
