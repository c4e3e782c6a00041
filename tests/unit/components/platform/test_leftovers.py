"""Does cleaning up delete checkpoints that nobody goes on from, and never those of a training that runs?"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.platform.settings import ROOT, Settings
from components.rankers.config import RankerConfig
from components.train.train_ranker.component import new_job
from components.train.train_ranker.config import Config
from components.train.unfinished import leftovers, remove_leftover
from features.declaration import Window
from features.ground.files import locked
from pipelines.cli import main as cli
from tests.ingesting import context_at

NOW = datetime.now(UTC)
SINCE = NOW - timedelta(days=30)
WINDOW = Window(start=NOW - timedelta(days=1), end=NOW)


class Failed(Exception):
    """Training ends here."""


def failed(home: Path, fate: type[Exception] | None = Failed) -> Path:
    """Leave what a training leaves that fails (or not) after its first checkpoint, and return its folder."""
    with suppress(Failed), new_job(context_at(home, WINDOW), home, Config(ranker=RankerConfig.of(name="lr"))) as job:
        (job.directory / "checkpoints" / "000001-000000000").mkdir(parents=True)
        (job.directory / "checkpoints" / "000001-000000000" / "state.safetensors").write_bytes(b"x" * 1000)
        if fate is not None:
            raise fate
    return job.directory


def age(folder: Path, days: int) -> None:
    moment = (NOW - timedelta(days=days)).timestamp()
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (moment, moment))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_only_what_nobody_touched_for_long_is_left_over(home: Path) -> None:
    settings = Settings.at(home)
    assert leftovers(settings, SINCE) == ()
    folder = failed(home)
    assert leftovers(settings, SINCE) == ()
    age(folder, 40)
    (found,) = leftovers(settings, SINCE)
    assert (found.folder, found.bytes) == (folder, 1000)
    # One new checkpoint deep inside is enough.
    (folder / "checkpoints" / "000002-000000000").mkdir()
    assert leftovers(settings, SINCE) == () and not remove_leftover(folder, SINCE)


def test_a_training_that_ended_well_leaves_nothing(home: Path) -> None:
    assert not failed(home, fate=None).exists()


def test_a_training_that_runs_in_another_process_stays_whatever_its_age(home: Path) -> None:
    folder = failed(home)
    age(folder, 40)
    (before,) = leftovers(Settings.at(home), SINCE)
    code = (
        "import sys; from pathlib import Path; from features.ground.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder.with_suffix(".lock"))]
    holder = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        assert leftovers(Settings.at(home), SINCE) == ()
        # It was found a moment before somebody went on from it.
        assert not remove_leftover(before.folder, SINCE) and folder.exists()
    finally:
        holder.kill()
        holder.communicate()
    # The kernel frees the lock of a killed process.
    assert remove_leftover(before.folder, SINCE) and not folder.exists()


def test_the_lock_stays_so_that_two_runs_still_see_each_other(home: Path) -> None:
    folder = failed(home)
    age(folder, 40)
    lock = folder.with_suffix(".lock")
    number = lock.stat().st_ino
    assert remove_leftover(folder, SINCE)
    with locked(lock):
        assert lock.stat().st_ino == number


def test_gc_lists_them_first_and_then_deletes_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKMILL_HOME", str(home))
    folder = failed(home)
    age(folder, 40)
    listed = CliRunner().invoke(cli.app, ["gc", "--dry-run"]).output
    assert f"{folder}, 0.0 MB, an unfinished training, would be deleted too" in listed.replace("\n", "")
    assert folder.exists()
    assert "unfinished" not in CliRunner().invoke(cli.app, ["gc", "--keep-days", "60"]).output
    assert "unfinished trainings deleted: 1, 0.0 MB" in CliRunner().invoke(cli.app, ["gc"]).output
    assert not folder.exists()
