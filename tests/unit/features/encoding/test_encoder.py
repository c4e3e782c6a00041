"""Does the encoder learn from the training rows only and answer for every value it may meet?"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.declaration import FIRST, PADDING, UNKNOWN, FieldEncoding
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder, write_encoder
from features.encoding.numbers import LARGEST
from features.ground.errors import BadInputError

TRAIN = pa.table(
    {
        "item": pa.array([30, 10, 20, 10], pa.int64()),
        "country": pa.array(["ch", "at", None, "ch"]),
        "price": pa.array([1.0, 3.0, None, 5.0]),
        "recent": pa.array([[10, 20], [], None, [30, 10, 20]], pa.list_(pa.int64())),
        "tags": pa.array([["b"], ["a", "b"], [], ["c"]], pa.list_(pa.string())),
    }
)
DTYPES = {
    "item": "int64",
    "country": "string",
    "price": "float64",
    "recent": "array<int64>",
    "tags": "array<string>",
}
OPTIONS = {
    "price": FieldEncoding(kind="normalise"),
    "recent": FieldEncoding(shares="item", length=2),
    "tags": FieldEncoding(kind="bag", length=3),
}


@pytest.fixture
def encoder() -> Encoder:
    return Encoder.fit(TRAIN, DTYPES, OPTIONS)


def test_known_values_follow_in_sorted_order(encoder: Encoder) -> None:
    encoded = encoder.encode(TRAIN)
    assert encoded["item"].tolist() == [FIRST + 2, FIRST, FIRST + 1, FIRST]
    assert encoded["country"].tolist() == [FIRST + 1, FIRST, PADDING, FIRST + 1]


def test_values_outside_the_training_rows_are_unknown_not_new(encoder: Encoder) -> None:
    rows = TRAIN.slice(0, 1).set_column(0, "item", pa.array([99], pa.int64()))
    assert encoder.encode(rows)["item"].tolist() == [UNKNOWN]


def test_histories_share_the_vocabulary_and_keep_the_most_recent(encoder: Encoder) -> None:
    encoded = encoder.encode(TRAIN)["recent"]
    assert encoded.tolist() == [[FIRST, FIRST + 1], [PADDING, PADDING], [PADDING, PADDING], [FIRST + 2, FIRST]]
    table = {field.name: field.table for field in encoder.fields}
    assert table["recent"] == table["item"] == "item"
    assert table["tags"] == "tags"


def test_missing_and_non_finite_numbers_become_the_mean(encoder: Encoder) -> None:
    rows = pa.concat_tables([TRAIN.slice(0, 1)] * 4).set_column(
        2, "price", pa.array([3.0, None, math.nan, math.inf], pa.float64())
    )
    assert encoder.encode(rows)["price"].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_outliers_are_clipped(encoder: Encoder) -> None:
    rows = TRAIN.slice(0, 1).set_column(2, "price", pa.array([1e12]))
    assert encoder.encode(rows)["price"].tolist() == [LARGEST]


def test_what_is_kept_encodes_equally(encoder: Encoder, tmp_path: Path) -> None:
    write_encoder(encoder, tmp_path)
    again = read_encoder(tmp_path)
    assert again == encoder
    for name, values in encoder.encode(TRAIN).items():
        np.testing.assert_array_equal(again.encode(TRAIN)[name], values)


def test_times_are_numbers_of_seconds() -> None:
    times = pa.table({"at": pa.array([0, 1_000_000, 2_000_000], pa.timestamp("us", "UTC"))})
    encoder = Encoder.fit(times, {"at": "float64"}, {"at": FieldEncoding(kind="normalise")})
    assert encoder.fitted[0].mean == 1.0
    assert encoder.encode(times)["at"].tolist() == pytest.approx([-1.2247449, 0.0, 1.2247449])


def test_bins_are_training_quantiles() -> None:
    train = pa.table({"x": pa.array(np.arange(100, dtype=np.float64))})
    encoder = Encoder.fit(train, {"x": "float64"}, {"x": FieldEncoding(kind="bin", buckets=4)})
    codes = encoder.encode(train)["x"]
    assert np.bincount(codes)[FIRST:].tolist() == [24, 25, 25, 26]
    assert codes.max() < encoder.fields[0].size
    assert encoder.encode(pa.table({"x": pa.array([None], pa.float64())}))["x"].tolist() == [PADDING]


@pytest.mark.parametrize(
    ("dtypes", "options", "message"),
    [
        ({"price": "bytes"}, {}, "no encoding"),
        ({"country": "string"}, {"country": FieldEncoding(kind="normalise")}, "cannot be encoded as 'normalise'"),
        ({"item": "int64"}, {"itme": FieldEncoding()}, "'itme' is not a feature"),
        ({"absent": "int64"}, {}, "'absent' is missing"),
        ({"country": "int64"}, {}, "'country' is string, not int64"),
        ({"recent": "array<int64>"}, {"recent": FieldEncoding(shares="item")}, "shares 'item'"),
        ({"item": "int64"}, {"item": FieldEncoding(min_count=9)}, "occurs 9 times"),
    ],
)
def test_what_cannot_be_encoded_is_refused_with_a_sentence(
    dtypes: dict[str, str], options: dict[str, FieldEncoding], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        Encoder.fit(TRAIN, dtypes, options)


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1), st.integers(2, 50))
def test_hashed_ids_stay_inside_the_table(ids: list[int | None], buckets: int) -> None:
    rows = pa.table({"id": pa.array(ids, pa.int64())})
    encoder = Encoder.fit(rows, {"id": "int64"}, {"id": FieldEncoding(kind="hash", buckets=buckets)})
    codes = encoder.encode(rows)["id"]
    assert codes.max() < encoder.fields[0].size
    assert [code == PADDING for code in codes] == [value is None for value in ids]
    assert all(code != UNKNOWN for code in codes)


def test_hashes_are_the_same_everywhere() -> None:
    """Reference values of SplitMix64's finaliser, computed with Python integers."""

    def reference(x: int) -> int:
        mask = (1 << 64) - 1
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    ids = [0, 1, 7, 2**40, 123_456_789]
    rows = pa.table({"id": pa.array(ids, pa.int64())})
    encoder = Encoder.fit(rows, {"id": "int64"}, {"id": FieldEncoding(kind="hash", buckets=1009)})
    assert encoder.encode(rows)["id"].tolist() == [FIRST + reference(i) % 1009 for i in ids]


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=20), st.integers(1, 4))
def test_sequences_equal_a_plain_loop(histories: list[list[int]], length: int) -> None:
    rows = pa.table({"h": pa.array(histories, pa.list_(pa.int64()))})
    if not any(histories):
        return
    encoder = Encoder.fit(rows, {"h": "array<int64>"}, {"h": FieldEncoding(length=length)})
    known = sorted({value for history in histories for value in history})
    expected = [
        [FIRST + known.index(value) for value in history[:length]] + [PADDING] * (length - len(history[:length]))
        for history in histories
    ]
    assert encoder.encode(rows)["h"].tolist() == expected
    # A slice of a larger table carries offsets; the encoding must not depend on them.
    assert encoder.encode(rows.slice(len(histories) // 2))["h"].tolist() == expected[len(histories) // 2 :]


def micros(*moments: datetime) -> list[int]:
    return [int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) for moment in moments]


NOW = datetime(2024, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TIMED = {
    "at": FieldEncoding(kind="elapsed", length=3),
    "seen": FieldEncoding(kind="sequence", length=3, timed_by="at"),
}


def timed_rows(*histories: list[int] | None, request: datetime = NOW) -> pa.Table:
    rows = len(histories)
    return pa.table(
        {
            "at": pa.array(histories, pa.list_(pa.int64())),
            "seen": pa.array([None if h is None else [7] * len(h) for h in histories], pa.list_(pa.int64())),
            "event_timestamp": pa.array([request] * rows, pa.timestamp("us", "UTC")),
        }
    )


def test_elapsed_times_count_back_from_the_request() -> None:
    tick, hour = timedelta(microseconds=1), timedelta(hours=1)
    rows = timed_rows(micros(NOW, NOW - hour), micros(NOW + tick), [], None, micros(NOW - 400 * 24 * hour - tick))
    encoder = Encoder.fit(rows, {"at": "array<int64>", "seen": "array<int64>"}, TIMED)
    assert encoder.encode(rows)["at"].tolist() == [
        [0.0, 3600.0, -1.0],
        [-1.0, -1.0, -1.0],  # after the request, if only by a microsecond: not visible
        [-1.0, -1.0, -1.0],
        [-1.0, -1.0, -1.0],
        [400 * 86_400.0, -1.0, -1.0],
    ]
    assert [field.timed_by for field in encoder.fields] == [None, "at"]
    assert encoder.columns == ["at", "event_timestamp", "seen"]


@given(st.lists(st.integers(0, 10**9), max_size=5), st.integers(0, 10**12))
def test_elapsed_times_do_not_depend_on_when_it_all_happened(back: list[int], later: int) -> None:
    first, second = (
        timed_rows(micros(*(at - timedelta(microseconds=b) for b in back)), request=at)
        for at in (NOW, NOW + timedelta(microseconds=later))
    )
    encoder = Encoder.fit(timed_rows([1]), {"at": "array<int64>", "seen": "array<int64>"}, TIMED)
    np.testing.assert_array_equal(encoder.encode(first)["at"], encoder.encode(second)["at"])


def test_a_request_without_a_time_is_one_sentence() -> None:
    rows = timed_rows(micros(NOW))
    encoder = Encoder.fit(rows, {"at": "array<int64>", "seen": "array<int64>"}, TIMED)
    with pytest.raises(BadInputError, match="'event_timestamp' is missing from the rows: 'at' counts back from it"):
        encoder.encode(rows.drop_columns(["event_timestamp"]))
    with pytest.raises(BadInputError, match="'event_timestamp' holds 1 nulls"):
        encoder.encode(rows.set_column(2, "event_timestamp", pa.array([None], pa.timestamp("us", "UTC"))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": FieldEncoding(kind="sequence", timed_by="at")}, "keeps 50 events and its times 'at' keep 3"),
        ({"seen": FieldEncoding(kind="sequence", timed_by="seen")}, "to a feature encoded as 'elapsed'"),
    ],
)
def test_times_that_do_not_fit_are_refused(options: dict[str, FieldEncoding], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Encoder.fit(timed_rows([1]), {"at": "array<int64>", "seen": "array<int64>"}, TIMED | options)


def test_a_vector_passes_and_a_missing_one_is_zero() -> None:
    rows = pa.table({"v": pa.array([[1.5, -2.0], None, [float("nan"), 3.0]], pa.list_(pa.float32()))})
    encoder = Encoder.fit(rows, {"v": "array<float32>"}, {"v": FieldEncoding(kind="vector", length=2)})
    assert encoder.encode(rows)["v"].tolist() == [[1.5, -2.0], [0.0, 0.0], [0.0, 3.0]]
    assert encoder.fields[0].kind == "vector"
    with pytest.raises(BadInputError, match="vectors of width 3, its encoding says 2"):
        encoder.encode(pa.table({"v": pa.array([[1.0, 2.0, 3.0]], pa.list_(pa.float32()))}))


HISTORIES = st.lists(
    st.none() | st.lists(st.none() | st.integers(1, 9), max_size=6), min_size=1, max_size=12
).filter(lambda rows: any(value for row in rows for value in row or ()))  # fmt: skip


@pytest.mark.parametrize("kind", ["sequence", "bag"])
@given(HISTORIES, st.integers(1, 4))
def test_the_newest_values_are_kept_in_either_order(
    kind: Literal["sequence", "bag"], histories: list[list[int | None] | None], length: int
) -> None:
    """The lists of `histories` are newest first; turned round and told so they mean the same."""
    turned = [None if history is None else history[::-1] for history in histories]
    newest, oldest = (pa.table({"h": pa.array(rows, pa.list_(pa.int64()))}) for rows in (histories, turned))
    known = sorted({value for history in histories for value in history or () if value is not None})

    def index(value: int | None) -> int:
        return PADDING if value is None else FIRST + known.index(value)

    expected = [[*map(index, (h or [])[:length]), *[PADDING] * length][:length] for h in histories]
    for rows, order in ((newest, "newest_first"), (oldest, "oldest_first")):
        option = FieldEncoding.model_validate({"kind": kind, "length": length, "order": order})
        encoder = Encoder.fit(rows, {"h": "array<int64>"}, {"h": option})
        assert encoder.encode(rows)["h"].tolist() == expected
        half = len(histories) // 2
        assert encoder.encode(rows.slice(half))["h"].tolist() == expected[half:]


def test_times_are_turned_with_their_history() -> None:
    """What happened after the request is not there, also where it stands at the end of a list."""
    hour = timedelta(hours=1)
    times = micros(NOW - 9 * hour, NOW - 3 * hour, NOW - 2 * hour, NOW - hour, NOW + hour)
    rows = timed_rows(times).set_column(1, "seen", pa.array([[5, 6, 7, 8, 9]], pa.list_(pa.int64())))
    options = {name: one.model_copy(update={"order": "oldest_first"}) for name, one in TIMED.items()}
    encoder = Encoder.fit(rows, {"at": "array<int64>", "seen": "array<int64>"}, options)
    made = encoder.encode(rows)
    assert made["at"].tolist() == [[-1.0, 3600.0, 7200.0]]
    assert made["seen"].tolist() == [[PADDING, FIRST + 3, FIRST + 2]]
    with pytest.raises(BadInputError, match="'seen' is read newest_first and its times 'at' oldest_first"):
        Encoder.fit(rows, {"at": "array<int64>", "seen": "array<int64>"}, options | {"seen": TIMED["seen"]})


def test_an_order_of_what_is_no_history_is_refused() -> None:
    with pytest.raises(ValueError, match="'normalise' reads none"):
        FieldEncoding(kind="normalise", order="oldest_first")
    with pytest.raises(BadInputError, match="'v' is array<float64>, of which order says nothing"):
        Encoder.fit(
            pa.table({"v": pa.array([[1.0]])}), {"v": "array<float64>"}, {"v": FieldEncoding(order="oldest_first")}
        )
