"""Are columns that a rule tells 0 or 1, missing where nothing is told, and no input where they tell a label?"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from components.ingest.ingest_table.config import COMPONENT, Config
from components.ingest.ingest_table.fields import Column
from components.platform.errors import BadInputError
from tests.unit.components.ingest.table.conftest import Read, csv

RULE: dict[str, Any] = {"type": "int64", "rule": "status == 'paid' and price <= 5"}
ROWS = ("a,7,2026-01-01,1,4,5,paid", "b,7,2026-01-01,0,4,9,paid", "c,7,2026-01-01,0,4,,paid", "d,7,2026-01-01,0,4,1,")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_rule_makes_a_column(read: Read, suffix: str) -> None:
    text = csv(*ROWS)
    frame, _ = read(
        {f"events.{suffix}": text if suffix == "csv" else pl.read_csv(text.encode())}, columns={"cheap": RULE}
    )
    assert frame["cheap"].dtype == pl.Int64
    assert dict(frame.select("user_id", "cheap").iter_rows()) == {"a": 1, "b": 0, "c": None, "d": None}


def test_what_a_rule_cannot_compare_is_an_error(read: Read) -> None:
    with pytest.raises(BadInputError, match="row 3: column 'price' is empty, expected a finite number"):
        read({"events.csv": csv(*ROWS)}, columns={"cheap": RULE | {"required": True}})
    with pytest.raises(BadInputError, match="row 4: column 'status' is empty, expected a text"):
        read({"events.csv": csv(*ROWS)}, columns={"paid": {"type": "int64", "rule": "uid == status", "required": True}})
    with pytest.raises(BadInputError, match="row 1: column 'price' is 'x', expected a finite number"):
        read({"events.csv": csv(ROWS[0].replace(",5,", ",x,"))}, columns={"cheap": RULE})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"type": "int64", "rule": "paid"}, "rule compares columns: name 'paid', a 0/1 column, in column"),
        ({"type": "string", "rule": "a > 1"}, "a rule gives 0 or 1: say type: int64"),
        ({"type": "int64", "rule": "a > 1", "column": "a"}, "a rule names its own columns: leave all but"),
        ({"type": "int64", "rule": "a >"}, "rule"),
    ],
)
def test_what_is_no_column_of_a_rule_is_refused(column: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Column.model_validate(column)


def test_a_rule_that_reads_a_label_tells_it() -> None:
    base = {"files": "x.csv", "user": "u", "item": "i", "timestamp": "t", "feedback": {"good": "rating >= 4"}}
    columns = {"fair": {"type": "int64", "rule": "rating > 2 and price < 5"}, "cheap": RULE}
    config = Config.model_validate(base | {"columns": columns})
    assert COMPONENT.flow is not None
    known = COMPONENT.flow.gives(config, {})["events"].known
    assert (known["fair"].role, known["cheap"].role) == ("feedback", "other")
