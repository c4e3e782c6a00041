"""Are the files of a version brought once, however many processes of a service want them, and are they whole?"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.platform.errors import RetryableError
from components.platform.settings import Settings
from pipelines.run.service import versions as service
from pipelines.run.service.versions import StoredVersions
from registry.serving.wire.config import ServingConfig
from registry.serving.wire.pointed import Pointed
from registry.versions import seal
from registry.versions.seal import REQUIRED, SEAL, Seal

POINTED = Pointed(version=3, digest="d" * 64)


@dataclass
class Depot:
    """A registry that takes a moment to hand a version out."""

    downloads: list[Path] = field(default_factory=list)
    together: int = 0
    at_once: int = 0
    broken: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def download(self, model: str, version: int, directory: Path) -> Path:
        with self._lock:
            self.downloads.append(directory)
            self.together += 1
            self.at_once = max(self.at_once, self.together)
        directory.mkdir()
        for name in REQUIRED:
            (directory / name).write_text("{}")
        time.sleep(0.2)
        if self.broken:
            raise RetryableError("the connection was lost")
        (directory / SEAL).write_text(Seal.of(directory).model_dump_json())
        with self._lock:
            self.together -= 1
        return directory


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> Depot:
    made = Depot()
    monkeypatch.setattr(StoredVersions, "registry", property(lambda self: made))
    return made


def versions(home: Path) -> StoredVersions:
    """Return what one process of a service has; each has its own."""
    config: Any = {"name": "shop", "model": "shop"}
    return StoredVersions(Settings.at(home), ServingConfig.model_validate(config))


def test_two_that_follow_at_once_download_once(depot: Depot, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = {*pool.map(lambda one: one._files(POINTED), [versions(tmp_path) for _ in range(4)])}
    assert len(found) == len(depot.downloads) == depot.at_once == 1
    [folder] = found
    assert {path.name for path in folder.iterdir()} == {*REQUIRED, SEAL}


def test_files_that_were_changed_are_brought_again(depot: Depot, tmp_path: Path) -> None:
    folder = versions(tmp_path)._files(POINTED)
    (folder / "model.onnx").write_text("spoilt")
    assert (versions(tmp_path)._files(POINTED) / "model.onnx").read_text() == "{}"
    assert len(depot.downloads) == 2


def test_processes_that_start_together_read_large_files_once(
    depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> str:
        raise AssertionError(f"{path} is read again")

    folder = versions(tmp_path)._files(POINTED)
    monkeypatch.setattr(seal, "sha256_file", read)
    assert versions(tmp_path)._files(POINTED) == folder
    monkeypatch.setattr(service, "CHECKED_FOR", 0.0)
    with pytest.raises(AssertionError, match="read again"):
        versions(tmp_path)._files(POINTED)


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"at": "now", "files": 3}'])
def test_a_note_that_says_nothing_is_no_check(depot: Depot, tmp_path: Path, note: str) -> None:
    folder = versions(tmp_path)._files(POINTED)
    [path] = versions(tmp_path).folder.glob(".*.checked")
    path.write_text(note)
    (folder / "model.onnx").write_text("spoilt")
    versions(tmp_path)._files(POINTED)
    assert len(depot.downloads) == 2


def test_a_download_that_breaks_leaves_nothing(depot: Depot, tmp_path: Path) -> None:
    depot.broken = True
    with pytest.raises(RetryableError):
        versions(tmp_path)._files(POINTED)
    assert [path.name for path in versions(tmp_path).folder.iterdir() if path.is_dir()] == []
