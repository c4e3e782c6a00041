"""How does a run's log stay free of secrets, whoever writes to it? Everything goes through this process on its way.

The first line of stdin is a JSON list of secrets, the rest is the log. A process of its own: engines
print from C and from children, and a thread could not read on while such code holds the interpreter.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def copy(log: Path) -> None:
    """Append stdin to `log`, line by line, without the secrets."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, whose last words belong to the log
    source = sys.stdin.buffer
    secrets = [secret.encode() for secret in json.loads(source.readline())]
    with log.open("ab", buffering=0) as target:
        for line in source:
            for secret in secrets:
                line = line.replace(secret, b"***")  # noqa: PLW2901  # one replacement after the other
            target.write(line)


if __name__ == "__main__":
    if os.fork():
        os._exit(0)  # no child of the run: a run ends all its children, and goes on writing to its log
    copy(Path(sys.argv[1]))
