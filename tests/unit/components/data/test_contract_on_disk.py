"""Does a contract say the same, and keep the same bytes, of rows that lie on disk as of a table in memory?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.validate_data.component import _rows, _write_docs, _write_kept, check_table
from features import suites
from features.declaration import Window
from features.joins import spill
from features.joins.stored_rows import StoredRows

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=9))


def events(folder: Path, *, late: bool) -> Path:
    """Write rows in small row groups; with `late` some were stored before they happened, some without a user."""
    rng, rows = np.random.default_rng(0), 240
    at = [START + timedelta(minutes=int(minute)) for minute in np.sort(rng.integers(0, 9 * 1440, rows))]
    stored = [time - timedelta(hours=1) if late and row % 50 == 3 else time for row, time in enumerate(at)]
    moment = pa.timestamp("us", "UTC")
    table = pa.table(
        {
            "event_timestamp": pa.array(at, moment),
            "user_id": pa.array([None if late and row % 90 == 7 else f"u{row % 11}" for row in range(rows)]),
            "item_id": pa.array([f"i{number}" for number in rng.integers(0, 30, rows)]),
            "created_timestamp": pa.array(stored, moment),
            "request_id": pa.array([f"r{row // 2}" for row in range(rows)]),
            "tags": pa.array([["a"] * (row % 3) for row in range(rows)], pa.list_(pa.string())),
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "events.parquet", row_group_size=70)
    return folder


@pytest.mark.parametrize("late", [False, True])
def test_rows_on_disk_are_judged_as_a_table_is(late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, source = suites.find("table_events"), events(tmp_path / "source", late=late)
    results, files = [], []
    for at_once in (1_000_000, 60):
        monkeypatch.setenv(spill.VARIABLE, str(at_once))
        table = _rows(source / "events.parquet")
        assert isinstance(table, StoredRows) == (at_once == 60)
        result, kept, aside = check_table(table, suite, WINDOW, now=START + timedelta(days=99))
        folder = tmp_path / str(at_once)
        folder.mkdir()
        _write_kept(folder, source, kept, aside)
        _write_docs(folder / "docs", result, suite, table)
        results.append((result, aside.to_pylist()))
        files.append({file.name: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()})
    assert results[0] == results[1] and files[0] == files[1]
    assert (results[0][0].kept < results[0][0].rows) == late
