"""Do the files arrive once, whole, and never over a user's own file?"""

from __future__ import annotations

import multiprocessing
import zipfile
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from components.ingest import download
from components.ingest.download import ensure_files, main
from components.ingest.wheels import SHIPPED, Shipped, Wheel
from components.platform.errors import BadInputError, MissingError, RetryableError
from features.ground.files import sha256_file


def _files(data: Path) -> list[str]:
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())


COMPLETE = [".tiny.lock", "tiny/tiny.inter", "tiny/tiny.item", "tiny/tiny.user"]


def test_pip_brings_only_the_files_that_are_needed(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    folder = ensure_files(index.wanted, tmp_path / "data", report=said.append)
    assert folder == tmp_path / "data" / "tiny"
    assert _files(tmp_path / "data") == COMPLETE
    assert {name: sha256_file(folder / name) for name in index.wanted.files} == index.wanted.files
    assert said[0].startswith("fetching tinyset==1.0")
    assert len(said) == 4

    said.clear()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    ensure_files(index.wanted, tmp_path / "data", report=said.append)
    assert said == [], "complete files are not fetched again"


def _fetch_in_process(wanted: Wheel, data: Path, queue: Any) -> None:
    said: list[str] = []
    ensure_files(wanted, data, report=said.append)
    queue.put(said)


def test_processes_that_start_together_fetch_once(index: Any, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    queue = spawn.Queue()
    data = tmp_path / "data"
    workers = [spawn.Process(target=_fetch_in_process, args=(index.wanted, data, queue)) for _ in range(3)]
    for worker in workers:
        worker.start()
    said = [line for _ in workers for line in queue.get(timeout=120)]
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sum(line.startswith("fetching") for line in said) == 1
    assert _files(data) == COMPLETE


def test_an_interrupted_download_is_completed(index: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    partial = data / ".tiny.partial"
    (partial / "pip-1").mkdir(parents=True)
    (partial / "pip-1" / "rest.whl").write_bytes(b"half")
    (partial / index.wanted.wheel).write_bytes((index.links / index.wanted.wheel).read_bytes()[:100])
    (partial / "tiny.inter").write_text("half")
    ensure_files(index.wanted, data)
    assert _files(data) == COMPLETE


def test_a_whole_wheel_of_an_interrupted_run_is_used(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    (data / ".tiny.partial").mkdir(parents=True)
    (data / ".tiny.partial" / index.wanted.wheel).write_bytes((index.links / index.wanted.wheel).read_bytes())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    said: list[str] = []
    ensure_files(index.wanted, data, report=said.append)
    assert said[0] == f"{index.wanted.wheel} is already downloaded"
    assert _files(data) == COMPLETE


def test_only_the_absent_file_is_added(index: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder = ensure_files(index.wanted, data)
    (folder / "tiny.item").unlink()
    kept = (folder / "tiny.inter").stat().st_ino
    ensure_files(index.wanted, data)
    assert _files(data) == COMPLETE
    assert (folder / "tiny.inter").stat().st_ino == kept


@pytest.mark.parametrize("damage", [lambda content: content[:-10], lambda content: content.replace(b"5", b"4")])
def test_a_damaged_file_is_named_and_left_alone(index: Any, tmp_path: Path, damage: Any) -> None:
    folder = ensure_files(index.wanted, tmp_path / "data")
    victim = folder / "tiny.inter"
    victim.write_bytes(damage(victim.read_bytes()))
    (folder / "tiny.user").unlink()
    before = victim.read_bytes()
    with pytest.raises(BadInputError) as caught:
        ensure_files(index.wanted, tmp_path / "data")
    said = str(caught.value)
    assert f"{victim} was changed or cut off ({len(before)} bytes)" in said
    assert sha256_file(victim) in said
    assert index.wanted.files["tiny.inter"] in said
    assert "delete the file" in said
    assert victim.read_bytes() == before
    assert ensure_files(index.wanted, tmp_path / "data", verify=False) == folder


def test_another_wheel_from_the_index_is_refused(index: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(index.links / index.wanted.wheel, "a") as archive:
        archive.writestr("tinyset/more.py", "1")
    with pytest.raises(BadInputError, match=r"the package index served another tinyset==1.0"):
        ensure_files(index.wanted, tmp_path / "data")
    assert _files(tmp_path / "data") == [".tiny.lock"]


def test_no_package_no_traceback(index: Any, tmp_path: Path) -> None:
    with pytest.raises(RetryableError, match=r"pip could not fetch tinyset==9.*run again, or put the files into"):
        ensure_files(index.wanted.model_copy(update={"wheel": "tinyset-9-py3-none-any.whl"}), tmp_path / "data")


def test_a_file_that_the_wheel_does_not_hold_is_told(index: Any, tmp_path: Path) -> None:
    wanted = index.wanted.model_copy(update={"files": index.wanted.files | {"tiny.users": "0" * 64}})
    with pytest.raises(
        BadInputError, match=r"no file 'tinyset/data/tiny.users' \(did you mean 'tinyset/data/tiny.user'"
    ):
        ensure_files(wanted, tmp_path / "data")


@pytest.mark.parametrize(
    "changes",
    [
        {"files": {"../tiny.inter": "0" * 64}},
        {"files": {"/etc/passwd": "0" * 64}},
        {"files": {"tiny.inter": "latest"}},
        {"files": {}},
        {"into": "../data"},
        {"folder": "a/../b"},
        {"wheel": "tinyset-1.0.tar.gz"},
    ],
)
def test_a_wheel_names_files_below_its_folders_only(index: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Wheel.model_validate(index.wanted.model_dump() | changes)


def test_every_wheel_that_the_schema_names_is_known() -> None:
    assert set(get_args(Shipped)) == set(SHIPPED)
    assert SHIPPED["ml-100k"].requirement == "recbole==1.2.1"


def test_download_off(index: Any, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"tiny\.inter is missing and download is off"):
        ensure_files(index.wanted, tmp_path / "data", download=False)
    assert not (tmp_path / "data").exists()


def test_command_line(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "SHIPPED", {"ml-100k": index.wanted})
    assert main(["--data", str(tmp_path / "data")]) == 0
    assert f"complete in {tmp_path / 'data' / 'tiny'}" in capsys.readouterr().err
    (tmp_path / "data" / "tiny" / "tiny.user").write_text("x")
    assert main(["--data", str(tmp_path / "data")]) == BadInputError.exit_code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    (tmp_path / "file").write_text("")
    assert main(["--data", str(tmp_path / "file" / "data")]) == RetryableError.exit_code
