"""Do rows that meet `test_where` stand in test alone, and no others, with requests whole?"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from components.data.build_training_set.config import COMPONENT, Config, Split
from components.data.build_training_set.rows import _named
from components.data.build_training_set.split import kept_apart, split_rows
from components.platform.columns import Column, Columns
from components.platform.errors import BadInputError

FRAME = pl.DataFrame(
    {"at": range(10), "is_rand": [0, 1, 0, 0, 0, 0, 1, 0, 1, 1], "visit": [0, 1, 2, 2, 3, 4, 5, 6, 7, 7]}
)
SPLIT = Split(train=0.5, validation=0.2, test=0.3, test_where="is_rand == 1")
PARTS = split_rows(FRAME["at"], SPLIT)


def test_rows_of_the_other_kind_are_left_out() -> None:
    kept = {name: rows.tolist() for name, rows in kept_apart(PARTS, FRAME, SPLIT, "visit").items()}
    assert kept == {"train": [0, 2, 3, 4], "validation": [5], "test": [8, 9]}
    assert kept_apart(PARTS, FRAME, Split(), None) is PARTS


def test_a_missing_value_meets_nothing() -> None:
    frame = FRAME.with_columns(is_rand=pl.when(pl.col("at") == 8).then(None).otherwise("is_rand"))
    assert kept_apart(PARTS, frame, SPLIT, None)["test"].tolist() == [9]


def test_what_leaves_nothing_or_divides_a_request_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"leaves the test split without rows \(0 of 10 rows meet it\)"):
        kept_apart(PARTS, FRAME.with_columns(is_rand=pl.lit(0)), SPLIT, None)
    with pytest.raises(BadInputError, match="'is_rand == 1' divides a request"):
        kept_apart(PARTS, FRAME.with_columns(is_rand=pl.Series(np.arange(10) % 2)), SPLIT, "visit")


def test_its_columns_are_read_and_no_features() -> None:
    config = Config(feature_service="s", feedback=("click",), split=SPLIT)
    assert "is_rand" in _named(config, ())
    events = Columns(
        {"click": Column("int8", "feedback"), "user_id": Column(), "item_id": Column(), "event_timestamp": Column()}
    )
    said = [(fault.where, fault.message) for fault in COMPONENT.flow.asks(config, {"events": events})]
    assert said == [
        (
            ("split", "test_where"),
            "the events have no column 'is_rand' (known: click, event_timestamp, item_id, user_id)",
        )
    ]
    with pytest.raises(ValidationError, match="is_rand"):
        Split(test_where="is_rand =")
