"""Are labelled rows read in order of time, a block after the other, in whatever files and order they lie?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.training_set import SPLITS, write_raw
from components.memory.refresh_error_memory.stored_keys import StoredKeys
from components.memory.refresh_error_memory.stream import read_stream
from features.declaration import Declaration
from features.joins.histories import listed, view

START = datetime(2026, 1, 1, tzinfo=UTC)
DECLARATION = Declaration(feedback=("like",))
ROWS = 60


def table(seed: int) -> pa.Table:
    """Return rows of some moments each, with histories that share events."""
    rng = np.random.default_rng(seed)
    starts, counts = rng.integers(0, 20, ROWS), rng.integers(0, 5, ROWS)
    missing = rng.random(ROWS) < 0.1
    return pa.table(
        {
            "row_id": rng.permutation(ROWS),
            "event_timestamp": pa.array(
                [START + timedelta(hours=int(at)) for at in rng.integers(0, 10, ROWS)], pa.timestamp("us", "UTC")
            ),
            "user_id": [f"u{user}" for user in rng.integers(0, 9, ROWS)],
            "like": rng.integers(0, 2, ROWS),
            "seen": view(pa.array(starts, mask=missing), pa.array(counts, mask=missing), pa.array(np.arange(30))),
        }
    )


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from((1, 7, 1000)), st.booleans())
def test_blocks_are_the_rows_in_order_of_time(seed: int, block: int, ordered: bool) -> None:
    rows, rng = table(seed), np.random.default_rng(seed)
    if ordered:
        rows = rows.sort_by([("event_timestamp", "ascending"), ("row_id", "ascending")])
    split = rng.integers(0, 3, ROWS)
    cut = START + timedelta(hours=int(rng.integers(0, 5)))
    with TemporaryDirectory() as folder:
        parts = {name: rows.take(pa.array(np.flatnonzero(split == at))) for at, name in enumerate(SPLITS)}
        write_raw(Path(folder), parts)
        found = read_stream(Path(folder), DECLARATION, cut)
        blocks = [listed(one) for one in found.blocks(found.column_names, block)]
        some = found.read(["like"])
    late = [row for row in rows.to_pylist() if row["event_timestamp"] >= cut]
    wanted = sorted(late, key=lambda row: (row["event_timestamp"], row["row_id"]))
    assert [row for one in blocks for row in one.to_pylist()] == wanted
    assert {one.num_rows for one in blocks[:-1]} <= {block} and found.num_rows == len(wanted)
    roles = ["event_timestamp", "user_id", "like"]
    assert found.roles.to_pylist() == [{name: row[name] for name in roles} for row in wanted]
    assert some["like"].to_pylist() == [row["like"] for row in wanted]


def test_rows_of_one_file_are_read_too(tmp_path: Path) -> None:
    rows = listed(table(3))
    (tmp_path / "raw").mkdir()
    pq.write_table(rows, tmp_path / "raw" / "rows.parquet")
    found = read_stream(tmp_path, DECLARATION, START)
    [block] = found.blocks(["row_id", "seen"], 100)
    wanted = rows.sort_by([("event_timestamp", "ascending"), ("row_id", "ascending")])
    assert block.to_pylist() == wanted.select(["row_id", "seen"]).to_pylist()


@pytest.mark.parametrize("part", [slice(0, 0), slice(0, 3), slice(2, 7), slice(6, 99), slice(None)])
def test_keys_come_back_from_disk(tmp_path: Path, part: slice) -> None:
    keys = np.random.default_rng(0).normal(size=(9, 4))
    stored = StoredKeys.written(tmp_path / "keys", (keys[:2], keys[2:2], keys[2:]), 4)
    assert stored.shape == (9, 4)
    np.testing.assert_array_equal(stored[part], keys[part])
