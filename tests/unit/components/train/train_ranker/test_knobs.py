"""Do the knobs of training refuse what makes no sense, and count workers as there is room?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from components.train.train_ranker.config import Elastic, Knobs, Tables
from components.train.train_ranker.losses import healthy, is_healthy


@pytest.mark.parametrize(
    ("workers", "room", "count"),
    [
        (2, 16, 2),
        (2, 1, 2),
        (Elastic(min=2, max=8), 16, 8),
        (Elastic(min=2, max=8), 5.0, 5),
        (Elastic(min=2, max=8), 1, 2),
    ],
)
def test_as_many_workers_as_there_is_room_for_and_never_fewer_than_asked(workers: Any, room: float, count: int) -> None:
    knobs = Knobs(workers=workers)
    assert knobs.workers_for(room) == count
    assert knobs.least_workers == 2


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"workers": {"min": 4, "max": 2}}, "min 4 is above max 2: swap them"),
        ({"tables": {"optimiser": "adam", "learning_rate": 0.1}}, "take the stage's learning_rate: leave theirs out"),
        ({"precision": "float16"}, "'float32' or 'bfloat16'"),
        ({"workers": 0}, "greater than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(block: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Knobs.model_validate(block)


def test_tables_take_the_stages_learning_rate_unless_they_have_their_own() -> None:
    assert Knobs(learning_rate=0.01).tables == Tables()
    assert Tables(optimiser="adam").learning_rate is None


@pytest.mark.parametrize("optimiser", ["adam", "rowwise_adam", "rowwise_adagrad"])
def test_knobs_come_back_from_the_job_file_of_the_training_process(optimiser: str) -> None:
    knobs = Knobs.model_validate({"tables": {"optimiser": optimiser}})
    assert Knobs.model_validate_json(knobs.model_dump_json()) == knobs


@pytest.mark.parametrize(
    ("loss", "goes_on"), [(0.7, True), (-2.0, True), (2e4, False), (float("inf"), False), (float("nan"), False)]
)
def test_a_loss_that_explodes_or_is_no_number_is_not_healthy(loss: float, goes_on: bool) -> None:
    assert is_healthy(loss) == goes_on
    assert float(healthy(torch.tensor([loss]))) == goes_on, "a device sees it as whoever reads it does"
