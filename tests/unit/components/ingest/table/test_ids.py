"""Are ids published under names of one's own, and may several columns make one?"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import COMPONENT, Config
from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import ROWS, Read, csv

ITEM = {"column": "article", "type": "int64", "name": "video"}
JOINED = {"columns": ["status", "article"], "separator": "/"}


def test_ids_have_names_of_their_own(read: Read) -> None:
    users = {"files": "users.csv", "key": "uid", "columns": {"age": "int64"}}
    same = [row.replace("11:00", "10:00") for row in (ROWS[1], ROWS[0], ROWS[0])]
    files = {"events.csv": csv(*same, ROWS[0].replace(",1,4", ",0,4")), "users.csv": csv("u2,9", header="uid,age")}
    frame, notes = read(files, user={"column": "uid", "name": "who"}, item=ITEM, users=users)
    assert frame.columns == ["who", "video", "event_timestamp", "created_timestamp", "click", "age"]
    assert frame.rows() == sorted(frame.rows(), key=lambda row: (row[2], row[0], row[1]))
    assert frame.select("who", "video", "age").rows() == [("u1", 7, None), ("u1", 7, None), ("u2", 8, 9)]
    assert "1 repeated rows dropped" in notes
    assert "1 rows differ from another one of the same user, item and time" in notes
    assert any("such as who 'u1'" in note for note in notes)
    with pytest.raises(BadInputError, match="first user u1, item 7 at 2026-01-01 10:00:00 UTC"):
        read({}, item=ITEM, duplicates="refuse")
    latest, _ = read({}, item=ITEM, duplicates="latest", created="shown_at")
    assert latest.select("user_id", "video").rows() == [("u1", 7), ("u2", 8)]


def test_what_is_published_is_told_by_name() -> None:
    given: dict[str, Any] = {
        "files": "x.csv", "user": JOINED | {"name": "segment"}, "item": ITEM, "timestamp": "t",
        "feedback": {"click": "clicked"},
        "columns": {
            "seconds": {"type": "int64", "outcome": True},
            "clicked": {"type": "int64", "moment": "hour"},
        },
    }  # fmt: skip
    known = COMPONENT.flow.gives(Config.model_validate(given), {})["events"].known
    assert {name: column.role for name, column in known.items() if column.role != "timestamp"} == {
        "segment": "user", "video": "item", "click": "feedback", "seconds": "feedback", "clicked": "other",
    }  # fmt: skip
    assert (known["segment"].dtype, known["video"].dtype) == ("string", "int64")


def test_several_columns_make_an_id_here_and_in_the_table(read: Read) -> None:
    items = {"files": "items.csv", "key": JOINED, "columns": {"colour": "string"}}
    frame, _ = read(
        {"events.csv": csv(*ROWS), "items.csv": csv("paid,7,red", "open,8,blue", header="status,article,colour")},
        item=JOINED,
        items=items,
    )
    assert frame.select("item_id", "colour").rows() == [("paid/7", "red"), ("open/8", "blue"), ("paid/7", "red")]
    with pytest.raises(BadInputError, match=r"row 2: 'status' and 'article' 'paid/7' has a row already"):
        read({"items.csv": csv("paid,7,red", "paid,7,blue", header="status,article,colour")}, item=JOINED, items=items)


def test_joined_ids_may_be_numbered_by_their_table(read: Read) -> None:
    items = {"files": "items.csv", "key": JOINED, "columns": {"colour": "string"}}
    files = {"events.csv": csv(*ROWS), "items.csv": csv("open,8,blue", "paid,7,red", header="status,article,colour")}
    frame, _ = read(files, item=JOINED | {"type": "int64", "numbered": True}, items=items)
    assert frame["item_id"].to_list() == [2, 1, 2]


def test_ids_begin_with_the_first_characters_and_what_is_missing_is_empty(read: Read) -> None:
    rows = ("u1,7,2026-01-01,1,4,,ábcdef", "u2,7,2026-01-02,1,4,9.5,")
    user = {"columns": ["status", "price", "rating"], "head": 2}
    frame, _ = read({"events.csv": csv(*rows)}, user=user)
    assert frame["user_id"].to_list() == ["áb--4", "-9.-4"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("u1,7,2026-01-01,1,4,,", "row 1: column 'status' is empty, expected an id in one of the columns"),
        ("u1,7,2026-01-01,1,4,,a-b", "row 1: column 'status' is 'a-b', expected a text without '-', which joins ids"),
    ],
)
def test_ids_that_could_be_others_are_refused(read: Read, row: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        read({"events.csv": csv(row)}, user={"columns": ["status", "price"]})


def test_a_column_of_no_text_is_not_joined(read: Read) -> None:
    frame = pl.DataFrame({"uid": ["a"], "article": [7], "shown_at": ["2026-01-01"], "clicked": [1], "x": [0.5]})
    with pytest.raises(BadInputError, match="column 'x' is float64, which is no string"):
        read({"events.parquet": frame}, user={"columns": ["uid", "x"]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": {"name": "who"}}, "in one column, or in columns that are joined"),
        ({"user": {"column": "a", "columns": ["b"]}}, "in one column, or in columns that are joined"),
        ({"user": {"column": "a", "head": 2}}, "separator and head shape joined texts"),
        ({"user": {"columns": ["a", "b"], "type": "int64"}}, "joined columns are a text: say type: string"),
        ({"user": {"column": "a", "name": "click"}}, "'click' would be published twice"),
        (
            {
                "item": {"column": "i", "type": "int64"},
                "items": {"files": "i.csv", "key": JOINED, "columns": {"a": "int64"}},
            },
            "the key of items is joined and so a text: say type: string for 'i'",
        ),
    ],
)
def test_ids_that_cannot_be_are_refused(changes: dict[str, Any], said: str) -> None:
    base = {"files": "x.csv", "user": "u", "item": "i", "timestamp": "t", "feedback": {"click": "c"}}
    with pytest.raises(ValidationError, match=said):
        Config.model_validate(base | changes)
