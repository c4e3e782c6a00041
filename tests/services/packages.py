"""Are PostgreSQL and Redis here, and if not, can they be installed?

Run as ``python -m tests.services.packages`` by `make test-services`. SeaweedFS comes from the extra `services`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = {"postgres": "postgresql", "initdb": "postgresql", "redis-server": "redis-server"}
"""Debian's package of each program."""


def program(name: str) -> str:
    """Return the path of a program; Debian keeps PostgreSQL's outside of PATH.

    Raises:
        FileNotFoundError: it is not installed.
    """
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(newest[-1]) if newest else shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is not installed: `make test-services` installs it where it may")
    return found


def missing() -> list[str]:
    """Return the Debian packages whose programs are not here."""
    absent = set()
    for name, package in WANTED.items():
        try:
            program(name)
        except FileNotFoundError:
            absent.add(package)
    return sorted(absent)


def install(packages: list[str]) -> str:
    """Install Debian packages without starting their services; return why that was not possible, or nothing."""
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        return f"install {' and '.join(packages)} first: apt-get install {' '.join(packages)}, as root"
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            done = subprocess.run(
                [apt, *command],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
                return f"apt-get {command[0]} failed: {last[0]}"
    finally:
        if ours:
            policy.unlink()
    return ""


def main() -> int:
    """Install what is missing; 2 with one sentence where that cannot be done."""
    absent = missing()
    problem = install(absent) if absent else ""
    if problem:
        sys.stderr.write(f"the production set cannot be tried here: {problem}\n")
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
