"""Does SIGKILL anywhere leave no half artifact and a champion, and does the next run complete?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
POINTS = 100


def trials(folder: Path, seed: int, points: int, control: str = "") -> list[dict[str, Any]]:
    """Run the mill in a process of its own: it forks, and it installs audit hooks that cannot be taken out."""
    command = [sys.executable, "-m", "tests.integration.faults.mill", str(folder), str(seed), str(points), control]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_run_leaves_nothing_half_and_the_next_one_completes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    found = trials(tmp_path, 20_261_123, POINTS)
    kinds = Counter(trial["kind"] for trial in found)
    beside = sum(trial["beside"] for trial in found)
    bad = [trial for trial in found if trial["wrong"]]
    record_property(
        "counted",
        f"{len(found)} SIGKILLs: {kinds['boundary']} at stage boundaries, {kinds['publish']} while publishing, "
        f"{kinds['other']} elsewhere; {beside} with another run beside; {len(bad)} with damage",
    )
    assert bad == []
    assert len(found) == POINTS and kinds["boundary"] >= 4 and kinds["publish"] >= 48
    assert all(trial["killed"] for trial in found if not trial["beside"]), "beside another run there is less to do"
    assert beside >= POINTS // 2


@pytest.mark.parametrize(
    ("control", "words"), [("careless", "half an artifact"), ("forgetful", "the champion is lost")]
)
def test_the_trials_notice_when_a_protection_is_taken_away(tmp_path: Path, control: str, words: str) -> None:
    found = trials(tmp_path, 5, 12, control)
    assert any(words in wrong for trial in found for wrong in trial["wrong"])
