"""Is it said when a field has values that training never held, and which encoding would help?"""

from __future__ import annotations

import pyarrow as pa
import pytest

from components.data.build_training_set.unknown import order_notes, unknown_notes, unknown_shares
from features.declaration import FieldEncoding
from features.encoding.encoder import Encoder
from registry.serving.incoming import count_unknown

IDS = ("user_id", "item_id")


def table(cents: list[int], users: list[str], price: list[float]) -> pa.Table:
    return pa.table({"cents": cents, "user_id": users, "price": price})


TRAIN = table([101, 102, 103, 104, 105, 106], ["a", "a", "b", "b", "c", "c"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
LATER = table([101, 999, 998, 997], ["a", "b", "c", "new"], [9.0, 9.0, 9.0, 9.0])


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.fit(TRAIN, {"cents": "int64", "user_id": "string", "price": "float64"})


def test_the_share_of_unknown_values_is_counted_per_vocabulary(encoder: Encoder) -> None:
    assert unknown_shares(encoder, encoder.encode_slices(LATER)) == {"cents": 0.75, "user_id": 0.25}
    assert unknown_shares(encoder, encoder.encode_slices(LATER.slice(0, 0))) == {"cents": 0.0, "user_id": 0.0}


def test_lists_are_counted_by_their_events_and_hashes_not_at_all() -> None:
    """Padding is no value; of a hash nobody can tell what it never held."""
    columns = {"tags": pa.array([["a"], ["a", "b"]]), "recent": pa.array([[1, 2], [3]]), "city": pa.array(["x", "y"])}
    options = {"tags": FieldEncoding(kind="bag"), "city": FieldEncoding(kind="hash", buckets=8)}
    dtypes = {"tags": "array<string>", "recent": "array<int64>", "city": "string"}
    encoder = Encoder.fit(pa.table(columns), dtypes, options)
    later = pa.table(
        {"tags": pa.array([["a", "new"], []]), "recent": pa.array([[9, 1, 2], [8]]), "city": pa.array(["new", "x"])}
    )
    assert unknown_shares(encoder, encoder.encode_slices(later)) == {"recent": 0.5, "tags": 0.5}
    assert count_unknown(encoder, encoder.encode(later), later.num_rows) == {"recent": 2, "tags": 1}, (
        "rows that hold one"
    )
    assert not count_unknown(encoder, encoder.encode(later.slice(0, 0)), 0)


def test_an_amount_that_became_a_vocabulary_is_named_with_what_to_write(encoder: Encoder) -> None:
    later = unknown_shares(encoder, encoder.encode_slices(LATER))
    known = unknown_shares(encoder, encoder.encode_slices(TRAIN))
    first, second = unknown_notes(encoder, 6, known, later, IDS)
    assert first == "values that training never held (validation / test): cents 0% / 75%, user_id 0% / 25%"
    assert second.startswith("cents: 6 values in 6 training rows, 75% of the test rows hold none of them")
    assert "encode: {cents: {kind: number}}" in second


def test_an_id_with_nearly_only_new_values_is_told_to_gather_them() -> None:
    encoder = Encoder.fit(TRAIN.set_column(1, "user_id", pa.array(list("abcdef"))), {"user_id": "string"})
    (line,) = unknown_notes(encoder, 6, {"user_id": 0.0}, {"user_id": 0.0}, IDS)
    assert "min_count: 3" in line and "drop: [user_id]" in line


def test_nothing_is_said_where_training_held_every_value(encoder: Encoder) -> None:
    known = {"cents": 0.0, "user_id": 0.0}
    assert unknown_notes(encoder, 100, known, known, IDS) == []


def test_whole_numbers_that_lost_their_order_are_named_once_with_what_to_write() -> None:
    seconds = list(range(150)) * 4
    columns = {"seconds": seconds, "shop": seconds, "author_id": seconds, "year": [2001, 2002] * 300}
    dtypes = dict.fromkeys(columns, "int64")
    encoder = Encoder.fit(pa.table(columns), dtypes)
    (line,) = order_notes(encoder, 600, {"shop"})
    assert (
        "seconds (150 values)" in line and "`encode: {seconds: {kind: number}}`" in line and "kind: vocabulary" in line
    )
    assert not any(name in line for name in ("shop", "author_id", "year"))
    assert order_notes(encoder, 200, {"shop"}) == [], "nearly all different: another line tells of it"
    amount = Encoder.fit(pa.table(columns), dtypes, {"seconds": FieldEncoding(kind="number")})
    assert order_notes(amount, 600, {"shop"}) == []
