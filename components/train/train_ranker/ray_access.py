"""Who may speak to Ray? Ray runs whatever code it is sent, so every cluster asks for a token.

A cluster that lives for one run listens on loopback only, where the other users of the machine reach it too: it has a
token that nobody else knows. A cluster by address has its operator's token, which ``RAY_AUTH_TOKEN`` holds or
``RAY_AUTH_TOKEN_PATH`` points at. Import this before `ray`, which reads the variables once.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import MutableMapping
from pathlib import Path

import psutil

MODE = "RAY_AUTH_MODE"
TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 names of variables
TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""What keeps Ray from replacing 127.0.0.1 by the machine's address, and from listening on all interfaces."""


def close_to_others(folder: Path, environ: MutableMapping[str, str] | None = None) -> None:
    """Set the variables of a cluster that only this process and its children can speak to.

    Args:
        folder: gets the file with the token; it ends with the run.
        environ: environment to write to; this process' when None.
    """
    env = os.environ if environ is None else environ
    path = folder / "auth_token"
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(secrets.token_hex(32))
    env.pop(TOKEN, None)  # it would count more than the file
    env.update({MODE: "token", TOKEN_PATH: str(path)} | LOOPBACK_ONLY)
    if loopback := _loopback_interface():
        env.update({"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback})


def show_token(environ: MutableMapping[str, str] | None = None) -> None:
    """Make Ray's clients show the token that is set, whatever the cluster asks for; a mode that is set stays.

    Args:
        environ: environment to write to; this process' when None.
    """
    env = os.environ if environ is None else environ
    if env.get(TOKEN) or env.get(TOKEN_PATH):
        env.setdefault(MODE, "token")
    if environ is None and "ray._raylet" in sys.modules:
        sys.modules["ray._raylet"].Config.initialize("")  # imported before: it reads the variables again


def _loopback_interface() -> str | None:
    """Return the name of the interface that 127.0.0.1 belongs to: gloo and nccl are told names, not addresses."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    return None
