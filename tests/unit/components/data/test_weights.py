"""Do weights say what the config says, once on average, and are they refused when they say nothing?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.data.build_training_set.config import Config
from components.data.build_training_set.weigh import row_weights, weight_notes, with_weights
from components.platform.errors import BadInputError, ContractViolationError

FRAME = pl.DataFrame({"p": [0.5, 0.25, 0.001, 1.0], "w": [1, 3, 0, 4], "click": [1, 0, 1, 0]})
PARTS: Any = {"train": np.array([0, 1]), "validation": np.array([2]), "test": np.array([3])}


def config(**weights: dict[str, Any]) -> Config:
    return Config.model_validate({"feature_service": "s", "feedback": ["click", "buy"], "weights": weights})


def test_a_propensity_counts_by_what_it_hides_and_a_column_by_itself() -> None:
    given = config(click={"propensity": "p", "clip": 0.1}, buy={"column": "w"})
    weights = row_weights(FRAME, given, PARTS)
    assert weights["click"].tolist() == pytest.approx([2 / 3, 4 / 3, 10 / 3, 1 / 3])  # 1 on average over train
    assert weights["buy"].tolist() == [0.5, 1.5, 0.0, 2.0]
    assert weights["click"].dtype == np.float32
    note = weight_notes(weights, PARTS)[0]
    assert note == "click: 2 weighted training rows say as much as 2 equal ones; the heaviest counts 1.3 times"
    table = with_weights(pa.table({"x": [7]}), weights, PARTS["test"])
    assert table.column_names == ["x", "click__weight", "buy__weight"] and table["buy__weight"].to_pylist() == [2.0]
    with pytest.raises(BadInputError, match="a column is called 'click__weight', as the weights of 'click' are"):
        with_weights(table, weights, PARTS["test"])


def test_of_positives_alone_a_row_without_the_label_counts_once() -> None:
    weights = row_weights(FRAME, config(click={"propensity": "p", "clip": 0.1, "form": "positives"}), PARTS)
    assert weights["click"].tolist() == pytest.approx([2 / 1.5, 1 / 1.5, 10 / 1.5, 1 / 1.5])


def test_equal_weights_are_exactly_one() -> None:
    same = FRAME.with_columns(p=pl.lit(0.03), w=pl.lit(7))
    weights = row_weights(same, config(click={"propensity": "p"}, buy={"column": "w"}), PARTS)
    assert all((values == 1).all() for values in weights.values())


@pytest.mark.parametrize(
    ("weight", "values", "said"),
    [
        (
            {"propensity": "p"},
            [0.5, 0.0, 0.2, None],
            r"2 impressions have a 'p' that is not above 0 and at most 1 \(row 1",
        ),
        ({"propensity": "p"}, [0.5, 1.5, 0.2, 0.1], r"at most 1 \(row 1: 1.5\)"),
        (
            {"column": "p"},
            [0.5, -1.0, float("inf"), 0.1],
            r"2 impressions have a 'p' that is not a number of at least 0",
        ),
        ({"column": "p"}, [0.0, 0.0, 1.0, 1.0], "every training row has weight 0 for 'click'"),
    ],
)
def test_a_weight_that_says_nothing_is_refused(weight: dict[str, Any], values: list[float | None], said: str) -> None:
    frame = pl.DataFrame({"p": values}, schema={"p": pl.Float64})
    with pytest.raises((ContractViolationError, BadInputError), match=said):
        row_weights(frame, config(click=weight), PARTS)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"like": {"column": "w"}}, "weights names 'like', which is no feedback"),
        ({"click": {}}, "name one of column and propensity"),
        ({"click": {"column": "w", "propensity": "p"}}, "name one of column and propensity"),
        ({"click": {"column": "w", "clip": 0.1}}, "leave clip out"),
        ({"click": {"column": "w", "form": "positives"}}, "leave form out"),
    ],
)
def test_a_wrong_config_is_a_sentence(weights: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**weights)
