"""Which values keep their row, get one or lose it? The law against plain sets, and the boundary of a day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.train.continue_ranker.vocabulary import Known, Seen, grow, seen_in
from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField
from features.encoding.vocabularies import Vocabulary

IDS = st.integers(0, 12)
DAY = st.integers(0, 40)


def encoder(values: set[int]) -> Encoder:
    field = FittedField(name="item", kind="vocabulary", dtype="int64", table="item")
    return Encoder(fitted=(field,), vocabularies={"item": Vocabulary.sorted(values)})


def seen(days: dict[int, int], today: int) -> Seen:
    frame = pl.DataFrame({"value": list(days), "day": list(days.values())}, {"value": pl.Int64, "day": pl.Int32})
    return Seen({"item": frame}, today)


def known(days: dict[int, int]) -> Known:
    last = [days[value] for value in sorted(days)]
    return Known(encoder(set(days)), {"item": np.array(last, dtype=np.int32)})


@given(
    read=st.dictionaries(IDS, DAY, min_size=1), rare=st.sets(IDS), old=st.dictionaries(IDS, DAY),
    forget=st.none() | st.integers(1, 50),
)  # fmt: skip
def test_rows_follow_the_law(read: dict[int, int], rare: set[int], old: dict[int, int], forget: int | None) -> None:
    admitted = {*read} - rare or {*read}
    today = 40
    grown = grow(encoder(admitted), seen(read, today), known(old) if old else None, forget)
    last = {value: max(old.get(value, -1), read.get(value, -1)) for value in {*old, *read}}
    remembered = {value for value in old if forget is None or today - last[value] < forget}
    expected = sorted(admitted | remembered)
    values = grown.encoder.vocabularies["item"]
    assert list(values) == expected, "each value once, in order: one number per value and one value per number"
    assert grown.last_seen["item"].tolist() == [last[value] for value in expected]
    (counts,) = grown.tables
    kept = {*expected}
    assert (counts.rows, counts.carried, counts.new, counts.expired, counts.not_admitted) == (
        len(kept), len(kept & {*old}), len(kept - {*old}), len({*old} - kept), len({*read} - kept),
    )  # fmt: skip


@pytest.mark.parametrize(("last", "stays"), [(11, True), (10, False), (9, False)])
def test_a_row_lives_on_the_days_from_its_last_use_for_as_many_as_were_said(last: int, stays: bool) -> None:
    """Seen last on day 10 and kept for 30 days: on days [10, 40), and today is day 40."""
    grown = grow(encoder({1}), seen({1: 40}, today=40), known({1: 5, 2: last}), forget_after_days=30)
    assert (2 in grown.encoder.vocabularies["item"]) == stays
    assert grown.tables[0].expired == (not stays)


def test_a_rare_value_that_the_predecessor_knows_keeps_its_row_and_is_seen() -> None:
    grown = grow(encoder({1}), seen({1: 40, 2: 39}, today=40), known({2: 1}), forget_after_days=5)
    assert [*grown.encoder.vocabularies["item"]] == [1, 2]
    assert grown.last_seen["item"].tolist() == [40, 39]
    assert grown.tables[0].not_admitted == 0


def test_values_of_a_domain_never_expire() -> None:
    grown = grow(encoder({1}), seen({1: 40}, today=40), known({2: 1}), forget_after_days=5, lasting=("item",))
    assert [*grown.encoder.vocabularies["item"]] == [1, 2]


def test_numbers_keep_the_scale_that_the_weights_were_learned_with() -> None:
    def scaled(mean: float) -> Encoder:
        number = FittedField(name="price", kind="normalise", dtype="float64", mean=mean, scale=2.0)
        return Encoder(fitted=(*encoder({1}).fitted, number), vocabularies={"item": Vocabulary.sorted([1])})

    before = Known(scaled(5.0), {"item": np.array([3], dtype=np.int32)})
    assert grow(scaled(7.0), seen({1: 9}, 9), before, None).encoder.fitted[1].mean == 5.0
    assert grow(scaled(7.0), seen({1: 9}, 9), None, None).encoder.fitted[1].mean == 7.0


def test_a_value_is_seen_in_every_column_that_shares_its_vocabulary(tmp_path: Path) -> None:
    times = pa.array([0, 86_400_000_000 - 1, 86_400_000_000], pa.timestamp("us", "UTC"))
    table = pa.table({
        "item": pa.array([7, 8, None], pa.int32()),
        "band": pa.array(["a", "b", "a"]),
        "recent": pa.array([[], [7, None], [7, 7, 9]], pa.list_(pa.int64())),
        "event_timestamp": times,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "train.parquet")
    sequence = FieldEncoding(kind="sequence", shares="item")
    fitted = Encoder.fit(table, {"item": "int32", "band": "string", "recent": "array<int64>"}, {"recent": sequence})
    found = seen_in(tmp_path / "train.parquet", fitted, "event_timestamp")
    assert dict(found.tables["item"].iter_rows()) == {7: 1, 8: 0, 9: 1}
    assert dict(found.tables["band"].iter_rows()) == {"a": 1, "b": 0}
    assert found.today == (date(1970, 1, 2) - date(1970, 1, 1)).days


def test_admission_counts_the_window(tmp_path: Path) -> None:
    """`min_count` is the threshold: a value gets its own row after n occurrences in the training rows."""
    table = pa.table({
        "item": pa.array([1, 1, 1, 2, 2, 3]),
        "event_timestamp": pa.array([0] * 6, pa.timestamp("us", "UTC")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "train.parquet")
    for threshold, admitted in ((1, (1, 2, 3)), (2, (1, 2)), (3, (1,))):
        fitted = Encoder.fit(table, {"item": "int64"}, {"item": FieldEncoding(min_count=threshold)})
        grown = grow(fitted, seen_in(tmp_path / "train.parquet", fitted, "event_timestamp"), None, 30)
        assert tuple(grown.encoder.vocabularies["item"]) == admitted
        assert grown.tables[0].not_admitted == 3 - len(admitted)
        assert fitted.encode(pa.table({"item": [1, 2, 3]}))["item"].tolist()[len(admitted) :] == [1] * (
            3 - len(admitted)
        )
