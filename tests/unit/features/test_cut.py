"""Is it said how much of a history its limit cuts, and at which end?"""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from components.data.build_training_set.cut import cut_notes
from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from features.joins.stored_rows import StoredRows

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
HISTORIES = [[1, 2, 3, 4], [5, 6], [], None]


def table(times: list[list[int] | None] | None = None) -> pa.Table:
    columns = {"seen": pa.array(HISTORIES, pa.list_(pa.int64()))}
    if times is not None:
        columns["at"] = pa.array(times, pa.list_(pa.int64()))
    return pa.table(columns | {"event_timestamp": pa.array([NOON] * 4, pa.timestamp("us", "UTC"))})


def notes(rows: pa.Table, **options: FieldEncoding) -> list[str]:
    return list(cut_notes(Encoder.fit(rows, dict.fromkeys(options, "array<int64>"), options), StoredRows.of(rows)))


def test_the_share_of_rows_and_values_is_told_with_what_to_write() -> None:
    assert notes(table(), seen=FieldEncoding(length=3)) == [
        "seen: 25.0% of the rows list more than 3 values and keep 3, 16.7% of all values are cut, at the end of the "
        "list; where that is the newest end, write `encode: {seen: {order: oldest_first}}`"
    ]
    [line] = notes(table(), seen=FieldEncoding(kind="bag", length=1, order="oldest_first"))
    assert line.startswith("seen: 50.0% of the rows list more than 1 values and keep 1, 66.7% of all values are cut")
    assert line.endswith("at the beginning of the list, which is its oldest end")


def test_nothing_is_said_where_nothing_is_cut() -> None:
    assert notes(table(), seen=FieldEncoding(length=4)) == []
    assert notes(table().slice(2), seen=FieldEncoding(kind="elapsed", length=1)) == []


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_times_that_run_against_the_order_are_told(order: str) -> None:
    rising = table([[10, 20, 30, 40], [7, 9], [], None])
    times = FieldEncoding.model_validate({"kind": "elapsed", "length": 3, "order": order})
    seen = FieldEncoding.model_validate({"kind": "sequence", "length": 3, "order": order, "timed_by": "at"})
    lines = notes(rising, at=times, seen=seen)
    cut = [line for line in lines if line.startswith("seen: ")]
    assert len(cut) == 1 and "write" not in cut[0]
    assert [line for line in lines if line not in cut] == (
        []
        if order == "oldest_first"
        else [
            "warning: at: times run oldest_first in 100% of the rows with several: write order: oldest_first for it "
            "and for the histories that it times"
        ]
    )
