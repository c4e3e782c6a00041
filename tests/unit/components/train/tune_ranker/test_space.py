"""Is what a space may hold what `train_ranker` itself would take, and does everything drawn from it lie within it?"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.train.tune_ranker.config import Config
from components.train.tune_ranker.samplers import GridSampler, RandomSampler
from components.train.tune_ranker.space import Choice, Range, dimensions, size, tunable
from components.train.tuned import block_of, changed, training_config
from pipelines.language import shape

SPACE: dict[str, Any] = {
    "learning_rate": {"log": [1e-4, 1e-2]},
    "ranker.embedding_width": [8, 16, 32],
    "ranker.dropout": {"from": 0.0, "to": 0.5},
    "ranker.hidden": [[64, 32], [128, 64]],
    "batch_size": {"from": 64, "to": 256},
    "tables.optimiser": ["rowwise_adam", "rowwise_adagrad"],
}


def config(**changes: Any) -> Config:
    return Config.model_validate({"ranker": {"name": "esmm"}, "space": SPACE, **changes})


def test_a_space_is_read_as_the_models_of_its_knobs_say() -> None:
    made = config()
    found = {one.path: one for one in dimensions(made.space, block_of(made, made.ranker))}
    assert found["learning_rate"] == Range("learning_rate", 1e-4, 1e-2, log=True, whole=False)
    assert found["batch_size"] == Range("batch_size", 64, 256, log=False, whole=True)
    assert found["ranker.hidden"] == Choice("ranker.hidden", ((64, 32), (128, 64)))
    assert size((found["batch_size"], found["ranker.hidden"])) == 193 * 2
    assert size(tuple(found.values())) is None
    assert Config.model_validate_json(made.model_dump_json()) == made


def test_every_knob_but_those_that_change_no_result_can_be_tuned() -> None:
    knobs = {*tunable({"ranker": {"name": "esmm"}})}
    assert {"epochs", "weight_decay", "tables.learning_rate", "ranker.interaction", "precision"} <= knobs
    assert not knobs & {"seed", "device", "workers", "checkpoints.keep", "shuffle_rows", "ranker.name", "ranker.code"}


REFUSED: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    ({"lerning_rate": [1]}, ("lerning_rate",), "no knob 'lerning_rate' (did you mean 'learning_rate'?)"),
    ({"workers": [1, 2]}, ("workers",), "workers cannot be tuned, because a trial is one process"),
    ({"checkpoints.keep": [1]}, ("checkpoints.keep",), "checkpoints.keep cannot be tuned"),
    ({"learning_rate": [0.1, -1]}, ("learning_rate", 1), "must be more than 0.0, not -1"),
    ({"epochs": [1, 2.5]}, ("epochs", 1), "must be a whole number, not 2.5"),
    ({"epochs": ["two"]}, ("epochs", 0), "must be a whole number, not 'two'"),
    ({"epochs": [2, 2]}, ("epochs", 1), "2 is listed twice"),
    ({"tables.optimiser": ["adm"]}, ("tables.optimiser", 0), "(did you mean 'adam'?), not 'adm'"),
    ({"ranker.dropout": {"from": 0, "to": 1.5}}, ("ranker.dropout", "to"), "must be less than 1.0, not 1.5"),
    ({"ranker.dropout": {"from": 0.5, "to": 0.1}}, ("ranker.dropout", "to"), "0.1 is not above 0.5"),
    ({"ranker.dropout": {"log": [0, 0.5]}}, ("ranker.dropout", "log", 0), "0 has no logarithm"),
    ({"ranker.layers": [1]}, ("ranker.layers", 0), "'layers' is read by sequence 'transformer'"),
    ({"ranker.name": ["gnolr"]}, ("ranker.name",), "rankers are compared by `rankmill compare`"),
]


@pytest.mark.parametrize(("space", "where", "said"), REFUSED, ids=[next(iter(space)) for space, _, _ in REFUSED])
def test_what_train_ranker_would_not_take_is_refused_where_it_stands(
    space: dict[str, Any], where: tuple[str | int, ...], said: str
) -> None:
    made, findings = shape.fit(Config, {"ranker": {"name": "esmm"}, "space": space})
    assert made is None
    (finding,) = findings
    assert finding.where == ("space", *where)
    assert said in finding.message


def test_a_grid_has_points_and_all_of_them_are_tried() -> None:
    points = {"epochs": [1, 2, 3], "tables.optimiser": ["adam", "rowwise_adam"]}
    made = config(space=points, search="grid", trials=7)
    grid = GridSampler(dimensions(made.space, block_of(made, made.ranker)))
    tried = [grid.ask() for _ in range(7)]
    assert tried[6] is None and len({str(one) for one in tried}) == 7
    with pytest.raises(ValueError, match="raise trials to 6"):  # the default of 3 epochs and rowwise_adam is a point
        config(space=points, search="grid", trials=5)
    with pytest.raises(ValueError, match="learning_rate is a range: list its values"):
        config(search="grid")


@given(seed=st.integers(0, 2**40), low=st.floats(1e-6, 1), ratio=st.floats(1.01, 1e4))
@settings(max_examples=30, deadline=None)
def test_what_is_drawn_lies_in_the_space_and_is_a_config(seed: int, low: float, ratio: float) -> None:
    high = min(low * ratio, 0.99)
    space = {**SPACE, "learning_rate": {"log": [low, low * ratio]}, "ranker.dropout": {"from": high / 2, "to": high}}
    made = config(space=space)
    block = block_of(made, made.ranker)
    found = dimensions(made.space, block)
    draws = [RandomSampler(found, seed) for _ in range(2)]
    for _ in range(3):
        values, again = (draw.ask() for draw in draws)
        assert values == again and values is not None
        training_config(changed(block, values))
        assert low <= float(values["learning_rate"]) <= low * ratio  # type: ignore[arg-type]
        assert high / 2 <= float(values["ranker.dropout"]) <= high  # type: ignore[arg-type]
        assert isinstance(values["batch_size"], int) and 64 <= values["batch_size"] <= 256


def test_orders_of_magnitude_are_drawn_alike() -> None:
    draw = RandomSampler((Range("learning_rate", 1e-4, 1e-2, log=True, whole=False),), 0)
    drawn = [draw.ask() for _ in range(400)]
    below = sum(float(one["learning_rate"]) < 1e-3 for one in drawn if one)  # type: ignore[arg-type]
    assert abs(below - 200) < 4 * math.sqrt(100)


def test_nothing_is_drawn_twice_and_a_small_space_ends() -> None:
    draw = RandomSampler((Choice("epochs", (1, 2, 3)),), 0)
    drawn = [draw.ask() for _ in range(4)]
    assert drawn[3] is None and sorted(str(one) for one in drawn[:3]) == [f"{{'epochs': {n}}}" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("metric", "said"),
    [("auc", "metric is validation/TASK"), ("validation/acu/mean", "no metric 'acu' .did you mean 'auc'")],
)
def test_a_metric_is_known_by_name(metric: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(metric=metric)


def test_a_metric_says_what_is_averaged() -> None:
    feedback = ("like", "love")
    assert config().metric_of("gauc", feedback) == ("gauc", feedback)
    assert config(metric="validation/log_loss/mean").metric_of("auc", feedback) == ("log_loss", feedback)
    assert config(metric="validation/love/auc").metric_of("gauc", feedback) == ("auc", ("love",))
