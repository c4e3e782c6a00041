"""Is the memory of a stage and its children seen, each stage for itself, and are its rows counted?"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.platform.usage import PeakMemory, rows_of

MIB = 2**20
HOLD = "held = b'x' * (200 << 20)\nprint(len(held), flush=True)\ninput()"
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel's high-water mark is Linux's")


@linux
def test_the_high_water_mark_begins_anew_with_each_stage() -> None:
    with PeakMemory() as quiet:
        pass
    with PeakMemory() as large:
        held = b"x" * (300 * MIB)
    assert large.bytes > quiet.bytes + 250 * MIB and len(held) == 300 * MIB
    del held
    with PeakMemory() as after:
        pass
    assert after.bytes < large.bytes - 250 * MIB


@linux
def test_what_children_hold_counts_while_they_live() -> None:
    with PeakMemory(look=0.02) as alone:  # with what other tests have left running
        time.sleep(0.5)
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    with PeakMemory(look=0.02) as together:
        while together.bytes < alone.bytes + 150 * MIB:  # the test's own time-out ends a watch that sees no child
            pass
    child.communicate("\n")
    assert together.bytes < alone.bytes + 400 * MIB


def test_rows_are_those_of_all_tables(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no table")
    assert rows_of(tmp_path.rglob("*")) is None
    for name, rows in (("a", 3), ("b", 4)):
        pq.write_table(pa.table({"x": list(range(rows))}), tmp_path / f"{name}.parquet")
    assert rows_of(tmp_path.rglob("*")) == 7
    (tmp_path / "c.parquet").write_bytes(b"half a file")
    assert rows_of(tmp_path.rglob("*")) is None
