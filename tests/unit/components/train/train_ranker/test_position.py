"""Is what a place does told apart from what an item is worth, and is every answer for the one place that is served?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from components.data.training_set import EncodedSplit, write_encoded
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.train.train_ranker.config import Config
from components.train.train_ranker.job import TrainingJob
from components.train.train_ranker.loop import Replica, train
from features.declaration import Declaration, Position, RankerSchema
from features.encoding.encoder import Encoder
from registry.metrics import auc
from registry.serving.incoming import placed

ITEMS, PLACES, REQUESTS = 60, 10, 3000
Effect = Literal["input", "additive"]
DECLARATION = Declaration(feedback=("click",), position=Position(column="place", served=1))


def world(seed: int, examined: bool = False) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """Return rows of lists that an older, half-blind ranker ordered, and what each item is worth.

    A place divides the odds of a click by place^1.5 or, where rows must be `examined` first, its chance by place.
    """
    rng = np.random.default_rng(seed)
    worth, old = rng.normal(size=ITEMS), rng.normal(size=ITEMS)
    item = np.stack([rng.permutation(ITEMS)[:PLACES] for _ in range(REQUESTS)])
    belief = old[item] + 0.3 * rng.normal(size=item.shape)  # of other things than what makes people click
    item = np.take_along_axis(item, np.argsort(-belief, axis=1), axis=1)
    place = np.tile(np.arange(1, PLACES + 1), (REQUESTS, 1))
    chance = 1 / (1 + np.exp(-(worth[item] - (0 if examined else 1.5) * np.log(place))))
    click = rng.random(item.shape) < (chance / place if examined else chance)
    columns = {"item_id": item, "place": place, "click": click.astype(np.int8)}
    return pa.table({name: values.ravel() for name, values in columns.items()}), worth


def order(tmp_path: Path, seed: int, effect: Effect | None, chosen: str = "lr", examined: bool = False) -> float:
    """Return how well a trained ranker orders the items that are worth more than the median."""
    table, worth = world(seed, examined)
    place = None if effect is None else Position(column="place", served=1, effect=effect)
    declaration = Declaration(feedback=("click",), position=place)
    dtypes = {"item_id": "int64"} | ({"place": "int64"} if place else {})
    encoder = Encoder.fit(table, dtypes)
    schema = RankerSchema(declaration=declaration, fields=encoder.fields, base_rates={"click": 0.2}, rows=len(table))
    dataset = tmp_path / f"{seed}-{effect}-{chosen}-{examined}"
    (dataset / "run").mkdir(parents=True)
    (dataset / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
    for name, rows in (("train", table), ("validation", placed(table, declaration))):
        click, none = rows["click"].to_numpy().astype(np.float32), np.zeros(len(rows), dtype=np.int64)
        split = EncodedSplit(encoder.encode(rows), {"click": click}, none, none)
        write_encoded(dataset / "encoded" / f"{name}.arrow", split)
    rate = 0.1 if chosen == "lr" else 0.01
    config = Config(ranker=RankerConfig.of(name=chosen), epochs=8, batch_size=512, learning_rate=rate)
    train(TrainingJob(name="test", dataset=dataset, directory=dataset / "run", config=config), Replica())
    ranker = build_ranker(config.ranker, schema)
    ranker.load_state_dict(load_file(str(dataset / "run" / "weights.safetensors")))
    asked = placed(pa.table({"item_id": np.arange(ITEMS)}), declaration)
    batch = {name: torch.from_numpy(values) for name, values in encoder.encode(asked).items()}
    with torch.no_grad():
        return auc(worth > np.median(worth), ranker.eval()(batch)["click"].numpy()) or 0.0


def test_the_order_is_of_the_items_where_the_place_is_told_and_of_the_old_ranker_where_not(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for seed in (0, 1, 2):
        told, untold = order(tmp_path, seed, "input"), order(tmp_path, seed, None)
        assert told > 0.93 and told > untold + 0.1, (seed, told, untold)


@pytest.mark.parametrize("chosen", ["lr", "dnn"])
def test_an_added_effect_is_told_apart_where_rows_must_be_looked_at_first(tmp_path: Path, chosen: str) -> None:
    torch.set_num_threads(1)
    for seed in (0, 1, 2):
        added, untold = (order(tmp_path, seed, effect, chosen, examined=True) for effect in ("additive", None))
        assert added > 0.89 and added > untold + 0.1, (seed, added, untold)


def test_rows_stand_where_every_answer_is_for_whatever_they_say() -> None:
    rows = pa.table({"place": [3, 1, 2], "x": [1, 2, 3]})
    assert placed(rows, DECLARATION)["place"].to_pylist() == [1, 1, 1]
    assert placed(rows.drop_columns(["place"]), DECLARATION).column_names == ["x", "place"]
    assert placed(rows, Declaration(feedback=("click",))) is rows
