"""Which texts must never be shown? What a profile fetched by reference, hidden from whatever this process prints.

Started as a file, it hides them from a log: the first line of stdin is a JSON list of secrets, the rest is the log. A
process of its own: engines print from C and from children, and a thread could not read on while such code holds the
interpreter. So it imports nothing of ours.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote

HIDDEN = "***"
PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")
"""User and password inside a URL."""
_NAMED = re.compile(r"\bpassword=([^,;&\s]+)")
"""Password in a connection string such as Redis' ``host:6379,password=…``."""
_SHORTEST = 4
"""A shorter text would be found inside ordinary words."""
_secrets: set[str] = set()


def remember(values: Iterable[str]) -> None:
    """Hide these texts from now on, and the passwords inside them."""
    for value in values:
        inside = [part.partition(":")[2] for part in PASSWORD.findall(value)] + _NAMED.findall(value)
        for text in (value, value.rstrip("/"), *inside, *map(unquote, inside)):
            if len(text) >= _SHORTEST:
                _secrets.add(text)


def secrets() -> tuple[str, ...]:
    """Return what is hidden, the longest first."""
    return tuple(sorted(_secrets, key=lambda text: (-len(text), text)))


def hidden(text: str) -> str:
    """Return `text` with every secret replaced."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return text


def without_passwords(text: str) -> str:
    """Return `text` with user and password of every URL replaced, known or not."""
    return PASSWORD.sub(HIDDEN, text)


class Hiding(io.TextIOBase):
    """A stream that hides secrets in what is written to another one."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text` without secrets."""
        self.stream.write(hidden(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self.stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream behind is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream behind."""
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute here, the class in C none
        """Encoding of the stream behind."""
        return self.stream.encoding


def hiding(stream: TextIO) -> TextIO:
    """Return a stream that hides secrets in what is written to it; the stream itself when there are none."""
    return Hiding(stream) if _secrets and not isinstance(stream, Hiding) else stream  # type: ignore[return-value]  # duck-typed


def filter_command(log: Path) -> list[str]:
    """Return the command that appends its stdin to `log` without secrets; the first line is a JSON list of them."""
    return [sys.executable, "-S", "-P", __file__, str(log)]


def copy(log: Path) -> None:
    """Append stdin to `log`, line by line, without the secrets."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, whose last words belong to the log
    source = sys.stdin.buffer
    secrets = [secret.encode() for secret in json.loads(source.readline())]
    with log.open("ab", buffering=0) as target:
        for line in source:
            for secret in secrets:
                line = line.replace(secret, HIDDEN.encode())  # noqa: PLW2901  # one replacement after the other
            target.write(line)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # no child of the run: a run ends all its children, and goes on writing to its log
    copy(Path(sys.argv[1]))
