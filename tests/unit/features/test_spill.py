"""Do rows that wait on disk come back as they were, and is it said when they do not?"""

from __future__ import annotations

import errno
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.training_set import EncodedSplit, write_encoded
from features.encoding.slices import Slices
from features.ground.errors import BadInputError, RetryableError
from features.joins import spill, stored_rows
from features.joins.histories import view
from features.joins.spill import Spill, Spilled, blocks_of, divided, rows_at_once
from features.joins.stored_rows import StoredRows, write_together

ROWS = 20
TABLE = pa.table(
    {
        "row_id": np.arange(ROWS),
        "text": pa.array([None if at % 7 == 0 else f"t{at % 3}" for at in range(ROWS)]),
        "own": pa.array([[at] * (at % 3) for at in range(ROWS)], pa.list_(pa.int64())),
        "seen": view(
            pa.array([None if at % 5 == 0 else at for at in range(ROWS)]),
            pa.array([None if at % 5 == 0 else at % 4 for at in range(ROWS)]),
            pa.array(np.arange(2 * ROWS)),
        ),
    }
)


def on_disk(folder: Path, group: int) -> StoredRows:
    """Return `TABLE` with its plain columns in a file of small row groups."""
    held = StoredRows.of(TABLE)
    file = Spill(folder / "plain.parquet", group)
    for at in range(0, ROWS, 3):
        file.write(TABLE.select(["row_id", "text", "own"]).slice(at, 3))
    return StoredRows({**file.close().columns(), "seen": held.columns["seen"]})


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.sets(st.integers(0, ROWS - 1), min_size=1))
def test_stored_rows_are_the_rows_of_the_table(group: int, block: int, chosen: set[int]) -> None:
    numbers = np.array(sorted(chosen))
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(stored_rows, "BLOCK", block)
        rows = on_disk(Path(folder), group).take(numbers)
        wanted = TABLE.take(pa.array(numbers))
        assert rows.schema.equals(TABLE.schema, check_metadata=True)
        for name in TABLE.column_names:
            assert rows.column(name).to_pylist() == wanted[name].to_pylist()
            assert rows.null_count(name) == wanted[name].null_count
            parts = [part[name] for part in rows.blocks([name], block)]
            assert [value for part in parts for value in part.to_pylist()] == wanted[name].to_pylist()
        lengths = [len(value or []) for value in wanted["seen"].to_pylist()]
        assert np.concatenate([*rows.list_lengths("seen")]).tolist() == lengths


@pytest.mark.parametrize("chosen", [np.arange(4, 15), np.array([0, 3, 4, 11, 19])])
def test_what_is_written_again_in_spans_has_the_bytes_of_the_whole(tmp_path: Path, chosen: np.ndarray) -> None:
    write_together(tmp_path / "whole", {"rows": TABLE.take(pa.array(chosen))})
    write_together(tmp_path / "stored", {"rows": on_disk(tmp_path, 4).take(chosen)})
    names = ["rows.parquet", "events/0.parquet"]
    assert [(tmp_path / "whole" / n).read_bytes() for n in names] == [
        (tmp_path / "stored" / n).read_bytes() for n in names
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30), st.integers(1, 9), st.integers(1, 5)
)
def test_a_key_lies_in_one_part_and_its_rows_stay_in_order(rows: list[tuple[str, int]], block: int, parts: int) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row").with_row_index("at")
    with TemporaryDirectory() as folder:
        blocks = frame.iter_slices(block) if len(frame) else [frame]
        laid = divided(blocks, ["a", "b"], parts, Path(folder) / "x.parquet")
        found = [laid.part(number) for number in range(parts)]
    assert pl.concat(found).sort("at").rows() == frame.rows()
    assert all(part["at"].is_sorted() for part in found)
    keys = [{*part.select("a", "b").rows()} for part in found]
    assert sum(map(len, keys)) == len({*frame.select("a", "b").rows()})


@pytest.mark.parametrize("harm", ["a bit", "its end", "all"])
def test_a_file_that_is_not_what_was_written_ends_in_one_sentence(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "rows.parquet"
    file = Spill(path)
    file.write(pa.table({"number": np.arange(1000)}))
    file.close()
    assert Spilled(path).read(["number"], 10, 12)["number"].to_pylist() == [10, 11]
    whole = bytearray(path.read_bytes())
    if harm == "a bit":
        whole[4000] ^= 1
    path.write_bytes(b"" if harm == "all" else whole[:-9] if harm == "its end" else whole)
    with pytest.raises(RetryableError, match=r"^rows.parquet, which this stage put on disk, cannot .* again$") as said:
        Spilled(path).read(["number"])
    assert "\n" not in str(said.value)


def test_a_full_disk_is_an_error_of_the_system_which_a_stage_tells_in_one_sentence() -> None:
    file = Spill(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device") as full:
        file.write(pa.table({"number": np.arange(1 << 18)}))
    assert full.value.errno == errno.ENOSPC


def test_blocks_of_a_file_are_as_long_as_asked_for(tmp_path: Path) -> None:
    pq.write_table(TABLE.select(["row_id"]), tmp_path / "x.parquet", row_group_size=3)
    assert [len(block) for block in blocks_of(tmp_path / "x.parquet", ["row_id"], 8)] == [8, 8, 4]


def test_an_encoded_file_is_laid_out_and_filled_as_if_it_were_written_at_once(tmp_path: Path) -> None:
    from components.data.encoded_file import Blank, lay_out

    numbers, wide = np.arange(9, dtype=np.uint8), np.arange(27, dtype=np.float32).reshape(9, 3)
    labels, users = np.arange(9) % 2, np.arange(9)
    lists = Slices(np.arange(30, dtype=np.uint16), np.arange(9), np.full(9, 2, dtype=np.int32), 5)
    write_encoded(
        tmp_path / "whole", EncodedSplit({"n": numbers, "w": wide, "l": lists}, {"like": labels}, users, users)
    )
    code, number = Blank(np.dtype(np.int64)), Blank(np.dtype(np.float32))
    blank = EncodedSplit(
        {"n": Blank(numbers.dtype), "w": Blank(wide.dtype, 3), "l": lists},  # type: ignore[dict-item]
        {"like": number},  # type: ignore[dict-item]
        code,  # type: ignore[arg-type]
        code,  # type: ignore[arg-type]
    )
    file = lay_out(tmp_path / "filled", blank, 9)
    for name, values in {"n": numbers, "w": wide, "like": labels, "__domain": users, "__user": users}.items():
        file.fill(name, 0, values[:4])
        file.fill(name, 4, values[4:])
    file.close()
    assert (tmp_path / "filled").read_bytes() == (tmp_path / "whole").read_bytes()


def test_how_many_rows_are_held_is_said_or_follows_from_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(spill.VARIABLE, raising=False)
    for free, rows in {1 << 40: spill.MOST, 1 << 30: 1 << 18, 1: spill.FEWEST}.items():
        monkeypatch.setattr(spill, "_free_bytes", lambda free=free: free)
        assert rows_at_once() == rows
    monkeypatch.setenv(spill.VARIABLE, "500")
    assert rows_at_once() == 500
    monkeypatch.setenv(spill.VARIABLE, "many")
    with pytest.raises(BadInputError, match="RANKMILL_ROWS_AT_ONCE is 'many', and must be a number of rows"):
        rows_at_once()
