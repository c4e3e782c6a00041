"""Are rows that are put in order a span of time after the other the rows that are sorted at once?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ingest.events_table import InOrder, write_log
from components.ingest.ingest_table.remarks import _firsts
from features.joins import spill

START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(hours: list[int]) -> pl.DataFrame:
    times = pl.Series([START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"at": times, "user": [f"u{hour * 7 % 3}" for hour in hours], "row": range(len(hours))})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 12), st.booleans())
def test_spans_of_time_are_the_whole_in_order(hours: list[int], most: int, rises: bool) -> None:
    rows = frame(sorted(hours) if rises else hours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(spill.VARIABLE, str(most))
        blocks = [*InOrder(rows, ("at", "user")).blocks()]
    assert pl.concat(blocks).equals(rows.sort("at", "user", maintain_order=True))
    assert len(blocks) > 1 or len(rows) <= most or rows["at"][most] == rows["at"].min()


def test_a_log_that_is_written_in_blocks_has_the_bytes_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = frame(np.random.default_rng(0).integers(0, 50, 200).tolist())
    schema = pa.schema([("at", pa.timestamp("us", "UTC")), ("user", pa.string()), ("row", pa.int64())])
    whole = rows.sort("at", "user", maintain_order=True).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
    pq.write_table(whole.combine_chunks(), tmp_path / "whole.parquet", compression="zstd", version="2.6")
    monkeypatch.setenv(spill.VARIABLE, "30")
    write_log(tmp_path, "blocks", InOrder(rows, ("at", "user")), schema)
    assert (tmp_path / "blocks.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    write_log(tmp_path, "none", rows.clear(), schema)
    assert pq.read_table(tmp_path / "none.parquet").schema.equals(schema)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, -0.0, 1.5, float("nan"), None])), max_size=20))
def test_the_first_of_equal_rows_stays(rows: list[tuple[str, float | None]]) -> None:
    given_rows = pl.DataFrame(rows, schema={"text": pl.String, "number": pl.Float64}, orient="row").with_row_index("at")
    found = _firsts(given_rows.drop("at"))
    assert len(found) == given_rows.unique(["text", "number"], keep="first").height
