"""Is a large file at two places without a second copy of its bytes, and a small one copied?"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from features.ground import files
from features.ground.files import lay


def test_a_large_file_is_there_twice_and_takes_its_bytes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LINKED", 4)
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_text("large")
    small.write_text("few")
    (tmp_path / "there").write_text("what was there before")
    for source, target in ((large, tmp_path / "there"), (small, tmp_path / "copied")):
        assert lay(source, target) == target and target.read_text() == source.read_text()
    assert (tmp_path / "there").samefile(large)
    assert not (tmp_path / "copied").samefile(small)


def test_where_nothing_can_be_linked_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(files, "LINKED", 4)
    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "large").write_text("large")
    lay(tmp_path / "large", tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "large"
    assert not (tmp_path / "copied").samefile(tmp_path / "large")
