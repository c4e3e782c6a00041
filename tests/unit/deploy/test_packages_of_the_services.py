"""Does `make test-services` say what to install where it may not install it, before anything is started?"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.services import packages


def test_somebody_who_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "missing", lambda: ["postgresql", "redis-server"])
    assert packages.main() == 2
    assert capsys.readouterr().err == (
        "the production set cannot be tried here: install postgresql and redis-server first: "
        "apt-get install postgresql redis-server, as root\n"
    )


def test_programs_that_are_not_here_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(packages.Path, "glob", lambda self, pattern: iter(()))
    assert packages.missing() == ["postgresql", "redis-server"]
