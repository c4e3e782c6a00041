"""Does a damaged file give right values or one sentence? Each batch is read in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY, BATCH = 200, 10_000, 500
_CHILD = """
import sys, shutil, traceback
from pathlib import Path
from tests.unit.components.ingest.table.mutated import complaint, ingested, write
folder = Path(sys.argv[1])
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    print(f"reading {number}", flush=True)
    path = write(folder, number)
    try:
        outcome = ingested(path, folder / "scratch")
        wrong = complaint(outcome)
    except BaseException:
        wrong = f"{path.name}: {traceback.format_exc()}"
        outcome = None
    if wrong:
        print(f"WRONG {wrong!r}", flush=True)
    elif outcome:
        print("READ" if outcome.sentence is None else "TOLD", flush=True)
    path.unlink()
    shutil.rmtree(folder / "scratch", ignore_errors=True)
print("END")
"""


def read_all(folder: Path, first: int, last: int) -> tuple[int, int]:
    """Read the damaged files of these numbers; return how many were read, and how many told in a sentence."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(folder), str(first), str(last)],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("WRONG")]
    assert lines[-1:] == ["END"], f"the process ended after {lines[-1:]}: {done.stderr[-2000:]}"
    return lines.count("READ"), lines.count("TOLD")


def test_few_damaged_files(tmp_path: Path) -> None:
    read, told = read_all(tmp_path, 0, FEW)
    assert read + told == FEW and min(read, told) > FEW / 20


def test_a_page_whose_length_would_take_all_memory(tmp_path: Path) -> None:
    # polars alone ends the process on this file: "memory allocation of 2305843009213693944 bytes failed".
    assert read_all(tmp_path, 6878, 6879) == (0, 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(0, MANY, BATCH))
def test_many_damaged_files(tmp_path: Path, first: int) -> None:
    read, told = read_all(tmp_path, first, first + BATCH)
    assert read + told == BATCH
