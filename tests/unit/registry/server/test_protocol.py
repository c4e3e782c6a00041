"""Is a question read as it was written, and everything else refused with a sentence?"""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.serving.wire.protocol import (
    LONGEST_TEXT,
    Question,
    RefusedError,
    Reply,
    Tensor,
    column,
    parse,
    question_body,
    read_reply,
    reply_body,
)
from tests.unit.registry.server.spoilt import spoilt

INT64 = st.none() | st.integers(-(2**63), 2**63 - 1)
VALUES = {
    "INT64": INT64,
    "FP64": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "BYTES": st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    "BOOL": st.none() | st.booleans(),
}


@st.composite
def tensors(draw: st.DrawFn, name: str) -> Tensor:
    kind = draw(st.sampled_from(sorted(VALUES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=2)))
    data = tuple(draw(VALUES[kind]) for _ in range(int(np.prod(shape))))
    lengths = None
    if len(shape) == 2 and draw(st.booleans()):
        lengths = tuple(draw(st.integers(0, shape[1])) for _ in range(shape[0]))
    return Tensor(name, kind, shape, data, lengths)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    names = draw(st.lists(st.sampled_from(["user_id", "item_id", "age", "genres"]), unique=True))
    retrieve = draw(st.none() | st.integers(1, 500))
    return Question(
        {name: draw(tensors(name)) for name in names},
        id=draw(st.text(st.characters(exclude_categories=("Cs",)), max_size=10)),
        timeout=draw(st.none() | st.integers(1, 10_000).map(lambda ms: ms / 1000)),
        outputs=tuple(draw(st.lists(st.sampled_from(["like", "love"]), unique=True))),
        retrieve=retrieve,
        exclude=tuple(draw(st.lists(st.integers(0, 9) | st.sampled_from("ab")))) if retrieve else (),
        exclude_seen=bool(retrieve) and draw(st.booleans()),
        reasons=draw(st.integers(0, 20)),
    )


@given(questions())
def test_what_is_written_is_read(question: Question) -> None:
    assert parse(question_body(question)) == question


def test_rows_of_lists_may_be_nested() -> None:
    flat = {"name": "x", "shape": [2, 2], "datatype": "INT64", "data": [1, 2, 3, 4]}
    nested = flat | {"data": [[1, 2], [3, 4]]}
    read = [parse(json.dumps({"inputs": [one]}).encode()) for one in (flat, nested)]
    assert read[0] == read[1]


def test_an_answer_is_read_to_the_bit() -> None:
    values = np.random.default_rng(0).random(100)
    read = read_reply(reply_body(Reply("shop", "3", {"like": values, "rank": np.arange(100, dtype=np.int32)})))
    np.testing.assert_array_equal(read.outputs["like"], values)
    assert (read.model, read.version) == ("shop", "3")


def body(**changes: Any) -> bytes:
    one = {"name": "item_id", "shape": [2], "datatype": "INT64", "data": [1, 2]} | changes
    return json.dumps({"inputs": [one]}).encode()


REFUSED = {
    "no JSON": b"{",
    "another encoding": '{"inputs": []}'.encode("utf-16"),
    "a list": b"[]",
    "no inputs": b'{"id": "7"}',
    "a number that JSON does not know": b'{"inputs": [{"name": "a", "shape": [1], "datatype": "FP64", "data": [NaN]}]}',
    "deep nesting": b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "true as an id": body(data=[True, 2]),
    "a fraction as an id": body(data=[1.5, 2]),
    "a list as an id": body(data=[[1], 2]),
    "too few values": body(data=[1]),
    "an unknown datatype": body(datatype="FP16"),
    "a shape of three": body(shape=[2, 1, 1]),
    "a negative shape": body(shape=[-1]),
    "a list too long": body(shape=[1, 1025], data=[0] * 1025),
    "a text too long": body(datatype="BYTES", data=["a", "b" * (LONGEST_TEXT + 1)]),
    "lengths of no list": body(parameters={"lengths": [1, 1]}),
    "lengths too large": body(shape=[1, 2], parameters={"lengths": [3]}),
    "twice the same": json.dumps(
        {"inputs": [{"name": "a", "shape": [0], "datatype": "BOOL", "data": []}] * 2}
    ).encode(),
    "too many inputs": json.dumps(
        {"inputs": [{"name": f"a{i}", "shape": [0], "datatype": "BOOL", "data": []} for i in range(257)]}
    ).encode(),
    "a timeout below 0": json.dumps({"inputs": [], "parameters": {"timeout_ms": -1}}).encode(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_question_is_refused(name: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse(REFUSED[name])
    assert refused.value.status == 400
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_ten_thousand_spoilt_bodies_are_questions_or_refused() -> None:
    rng = random.Random(3)
    good = question_body(
        Question({
            "user_id": Tensor("user_id", "INT64", (1,), (7,)),
            "item_id": Tensor("item_id", "INT64", (3,), (1, 2, None)),
            "genres": Tensor("genres", "BYTES", (1, 2), ("drama", "war"), (1,)),
        })
    )  # fmt: skip
    read = 0
    for _ in range(10_000):
        try:
            question = parse(spoilt(good, rng))
            for name, tensor in question.tensors.items():
                column(tensor, {"user_id": "int64", "item_id": "int64"}.get(name, "array<string>"), 3)
            read += 1
        except RefusedError as error:
            assert error.status == 400
    assert 100 < read < 9_000


def test_one_row_holds_for_all_candidates() -> None:
    one = Tensor("user_id", "INT64", (1,), (7,))
    assert column(one, "int64", 3).to_pylist() == [7], "one row, which holds for all"
    many = Tensor("x", "INT64", (3,), (7, None, 9))
    assert column(many, "int64", 3).to_pylist() == [7, None, 9]


def test_lists_have_their_lengths() -> None:
    lists = Tensor("g", "BYTES", (2, 3), ("a", "b", "c", "d", "e", "f"), (1, 3))
    assert column(lists, "array<string>", 2).to_pylist() == [["a"], ["d", "e", "f"]]
    whole = Tensor("g", "INT64", (1, 2), (1, 2))
    assert column(whole, "array<int64>", 2).to_pylist() == [[1, 2]]
    empty = Tensor("g", "INT64", (1, 0), ())
    assert column(empty, "array<int64>", 2).to_pylist() == [[]]


def test_times_are_microseconds_or_texts() -> None:
    texts = column(Tensor("t", "BYTES", (2,), ("2024-01-01T00:00:00Z", None)), "unix_timestamp", 2)
    plain = column(Tensor("t", "BYTES", (1,), ("2024-01-01 00:00:00",)), "unix_timestamp", 1)
    numbers = column(Tensor("t", "INT64", (1,), (1_704_067_200_000_000,)), "unix_timestamp", 1)
    assert texts[0] == numbers[0] == plain[0] and texts.type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (Tensor("a", "BYTES", (1,), ("7",)), "int64"),
        (Tensor("a", "INT64", (1,), (7,)), "string"),
        (Tensor("a", "INT64", (1,), (2**40,)), "int32"),
        (Tensor("a", "UINT64", (1,), (2**64 - 1,)), "int64"),
        (Tensor("a", "INT64", (1,), (10**40,)), "int64"),
        (Tensor("a", "INT64", (1,), (7,)), "array<int64>"),
        (Tensor("a", "INT64", (1, 1), (7,)), "int64"),
        (Tensor("a", "INT64", (2,), (7, 8)), "int64"),
        (Tensor("a", "BYTES", (1,), ("noon",)), "unix_timestamp"),
    ],
)
def test_what_a_column_does_not_take_is_refused(tensor: Tensor, dtype: str) -> None:
    with pytest.raises(RefusedError) as refused:
        column(tensor, dtype, 3)
    assert refused.value.status == 400 and "'a'" in str(refused.value)
