"""Are the rows of a question those that training would have seen: given, stored, and nothing too old?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pyarrow as pa
import pytest

from features.declaration import Declaration
from features.services.served import ServedColumn, ServedFeatures
from registry.serving.live.kept import ItemCache
from registry.serving.live.lookup import Lookup
from registry.serving.live.rows import Reads, Rows, rows_of
from registry.serving.wire.protocol import Question, RefusedError, Tensor
from tests.unit.registry.server.shop import LIFE, NOW, Shelves, served, stocked
from tests.worlds import DTYPES

DECLARATION = Declaration(feedback=("like", "love"), domain="age_band")


def reads(features: ServedFeatures | None = None) -> Reads:
    return Reads.of(DECLARATION, [*DTYPES, "event_timestamp"], DTYPES, features or served())


def ints(name: str, *values: int | None) -> Tensor:
    return Tensor(name, "INT64", (len(values),), values)


def asked(shelves: Shelves, *tensors: Tensor, features: ServedFeatures | None = None, most: int = 100) -> Rows:
    lookup = Lookup(lambda: shelves, cache=ItemCache(100, 60), timeout=5)
    question = Question({tensor.name: tensor for tensor in tensors})
    return rows_of(question, reads(features), lookup, NOW, most)


def test_the_user_is_read_once_and_items_row_by_row() -> None:
    shelves = stocked()
    rows = asked(shelves, ints("user_id", 7), ints("item_id", 3, 1, 3))
    assert rows.table["popularity"].to_pylist() == [3.0, 1.0, 3.0]
    assert rows.table["recent_items"].to_pylist() == [[3, 5]] * 3
    assert rows.table["event_timestamp"].to_pylist() == [NOW] * 3
    assert rows.table["age_band"].to_pylist() == [None] * 3
    assert {(view, keys) for view, keys, _ in shelves.reads} == {("shopper", ((7,),)), ("goods", ((3,), (1,)))}
    assert not rows.missing and rows.user_known and not rows.late
    assert {"user_id", "recent_items", "event_timestamp"} <= rows.shared and not {"item_id", "popularity"} & rows.shared


def test_types_are_those_of_training() -> None:
    table = asked(stocked(), ints("user_id", 7), ints("item_id", 1, 9)).table
    assert table.schema.field("taste").type == pa.list_(pa.float32())
    assert table.schema.field("popularity").type == pa.float64()
    assert table["popularity"].to_pylist() == [1.0, None]


def test_what_is_given_wins_and_is_not_asked_for() -> None:
    shelves = stocked()
    given = Tensor("popularity", "FP64", (2,), (0.5, None))
    rows = asked(shelves, ints("user_id", 7), ints("item_id", 1, 2), given)
    assert rows.table["popularity"].to_pylist() == [0.5, None]
    assert rows.given == {"goods": 1}
    assert ("goods", ((1,), (2,)), ("genres",)) in shelves.reads


def test_an_unknown_user_is_one_before_its_first_event() -> None:
    rows = asked(stocked(), ints("user_id", 99), ints("item_id", 1))
    assert rows.table["recent_items"].to_pylist() == [None]
    assert rows.missing == {("shopper", "unknown"): 1} and not rows.user_known


def test_without_a_user_nothing_is_known_of_one() -> None:
    rows = asked(stocked(), ints("item_id", 1, 2))
    assert rows.table["user_id"].to_pylist() == [None, None]
    assert rows.missing == {("shopper", "unknown"): 2} and not rows.user_known


def test_what_is_older_than_its_view_s_life_is_missing() -> None:
    rows = asked(stocked(), ints("user_id", 8), ints("item_id", 1))
    assert rows.table["recent_items"].to_pylist() == [None]
    assert rows.missing == {("shopper", "expired"): 1}
    moment = int((NOW - timedelta(seconds=2)).timestamp() * 1_000_000)
    earlier = asked(stocked(), ints("user_id", 8), ints("item_id", 1), ints("event_timestamp", moment))
    assert earlier.table["recent_items"].to_pylist() == [[3, 5]], "at that time it was not too old"
    assert LIFE == 10


def test_a_missing_candidate_has_no_features() -> None:
    rows = asked(stocked(), ints("user_id", 7), ints("item_id", 1, None))
    assert rows.table["popularity"].to_pylist() == [1.0, None]
    assert rows.missing == {("goods", "unknown"): 1}


def test_a_store_that_fails_leaves_everything_missing() -> None:
    shelves = stocked()
    shelves.broken = True
    rows = asked(shelves, ints("user_id", 7), ints("item_id", 1, 2))
    assert rows.late and rows.missing == {("shopper", "store"): 2, ("goods", "store"): 2}


def test_a_view_may_be_keyed_by_what_another_holds() -> None:
    columns = {column.name: column for column in served().columns}
    columns["brand"] = ServedColumn(name="brand", dtype="string", view="goods", keys=("item_id",))
    columns["taste"] = ServedColumn(name="taste", dtype="array<float32>", view="brands", keys=("brand",))
    features = served().model_copy(update={"columns": tuple(columns.values())})
    shelves = stocked()
    shelves.put("goods", 1, {"brand": "acme", "popularity": 1.0})
    shelves.put("brands", "acme", {"taste": [1.0, 2.0, 3.0]})
    rows = asked(shelves, ints("user_id", 7), ints("item_id", 1, 2), features=features)
    assert rows.table["taste"].to_pylist() == [[1.0, 2.0, 3.0], None]


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((ints("user_id", 7),), "no input 'item_id'"),
        ((ints("item_id"),), "0 candidates"),
        ((ints("item_id", *range(101)),), "101 candidates"),
        ((ints("item_id", 1), ints("popularitty", 1)), "did you mean 'popularity'"),
        ((ints("item_id", 1, 2), ints("user_id", 1, 2, 3)), "3 rows for 2 candidates"),
        ((ints("item_id", 1), Tensor("user_id", "BYTES", (1,), ("7",))), "send INT64"),
    ],
)
def test_what_fits_no_column_is_refused(tensors: tuple[Tensor, ...], said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        asked(stocked(), *tensors)
    assert refused.value.status == 400


def test_rows_of_another_model_are_taken_as_they_are_and_only_what_they_lack_is_looked_up() -> None:
    shelves = stocked()
    question = Question({"user_id": ints("user_id", 7), "item_id": ints("item_id", 3, 1)})
    lookup = Lookup(lambda: shelves, cache=ItemCache(100, 60), timeout=5)
    known = rows_of(question, reads(), lookup, NOW, 100)
    before = [*shelves.reads]
    same = rows_of(question, reads(), None, NOW + timedelta(days=1), 100, known)
    assert same.table.equals(known.table) and same.shared == known.shared and not same.missing
    other = Lookup(lambda: shelves, cache=ItemCache(100, 60), timeout=5)
    table = known.table.drop_columns(["popularity"])
    moved = table.set_column(table.column_names.index("genres"), "genres", pa.array([["western"]] * 2))
    found = rows_of(question, reads(), other, NOW, 100, replace(known, table=moved)).table
    assert found["popularity"].to_pylist() == [3.0, 1.0] and found["genres"].to_pylist() == [["western"]] * 2
    assert shelves.reads[len(before) :] == [("goods", ((3,), (1,)), ("popularity",))]
