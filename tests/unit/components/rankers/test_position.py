"""Does the effect of a place reach every graph, go on by value when a ranker is continued, and stay out of the way?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import nn

from components.judge.export_onnx.graph import export_graph
from components.judge.export_onnx.parity import compare, require
from components.judge.export_onnx.request import request_fields, request_ranker
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.position import PositionEffect, add_position
from components.testing.ranker import example_batch, example_schema, placed_schema
from components.train.ranker_files import CONFIG, WEIGHTS, write_weights
from components.train.train_ranker.config import Knobs, Tables
from components.train.train_ranker.job import OPTIMISER
from components.train.train_ranker.optimiser import RankerOptimiser
from components.train.train_ranker.start import carried_optimiser, carry_on, write_optimiser
from features.declaration import Declaration, Position, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder
from registry.serving.model.session import open_session

TASKS = ("like", "love", "love_given_like")
PLACES = torch.arange(60) % 7


def moved(name: str, schema: RankerSchema) -> RankerModule:
    torch.manual_seed(0)
    ranker = build_ranker(RankerConfig.of(name=name), schema).eval()
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return ranker


@pytest.mark.parametrize(("name", "shape"), [("lr", "row"), ("gnolr", "row"), ("esmm", "row"), ("esmm", "request")])
def test_the_graph_adds_it_as_the_module_does(name: str, shape: str, tmp_path: Path) -> None:
    schema, rows = placed_schema("like", "love"), example_batch(60) | {"place": PLACES}
    ranker, path = moved(name, schema), tmp_path / "model.onnx"
    once = request_fields(schema, ()) if shape == "request" else ()
    export_graph(request_ranker(ranker, schema, once) if once else ranker, schema, TASKS, path, once)
    arrays = {field: values.numpy() for field, values in rows.items()}
    require(compare(ranker, open_session(path, "cpu"), schema.fields, TASKS, arrays, 1e-5, once), "the differences")


def test_without_a_place_to_add_nothing_is_another() -> None:
    plain, placed = moved("dnn", example_schema("like", "love")), moved("dnn", placed_schema("like", "love"))
    assert {*placed.state_dict()} - {*plain.state_dict()} == {"place.weight"}
    assert not plain._forward_hooks


def test_a_ranker_without_logits_is_refused() -> None:
    ranker = nn.Identity()
    add_position(ranker, PositionEffect(placed_schema("like").fields[-1], placed_schema("like"), one=False))
    with pytest.raises(BadInputError, match="no logit of 'like' that a place could add to"):
        ranker({"place": PLACES})


@pytest.mark.parametrize("tables", ["adam", "rowwise_adam"])
def test_places_go_on_by_value(tables: Any, tmp_path: Path) -> None:
    """Yesterday showed places 1 and 3, today 1 to 3: what was known of 3 stays with 3."""
    declaration = Declaration(feedback=("click",), position=Position(column="place", effect="additive"))
    knobs = Knobs(tables=Tables(optimiser=tables))

    def day(places: list[int]) -> tuple[Encoder, RankerSchema]:
        encoder = Encoder.fit(
            pa.table({"item_id": [7] * len(places), "place": places}), dict(place="int64", item_id="int64")
        )
        return encoder, RankerSchema(declaration=declaration, fields=encoder.fields, base_rates={"click": 0.1})

    (old, old_schema), (new, new_schema) = day([1, 3]), day([1, 2, 3])
    config = RankerConfig.of(name="lr")
    before, ranker = build_ranker(config, old_schema), build_ranker(config, new_schema)
    learner = RankerOptimiser(before, knobs)
    batch = {
        name: torch.from_numpy(values) for name, values in old.encode(pa.table({"item_id": [7], "place": [3]})).items()
    }
    before.loss(before(batch), {"click": torch.ones(1)}).backward()
    learner.step()
    write_weights(tmp_path / WEIGHTS, before)
    write_optimiser(tmp_path / OPTIMISER, learner.state(), knobs)
    (tmp_path / CONFIG).write_text(config.model_dump_json())
    (tmp_path / "schema.json").write_text(old_schema.model_dump_json())
    write_encoder(old, tmp_path)
    sources = carry_on(ranker, new, tmp_path)
    weight, then = (made.get_parameter("place.weight").flatten().tolist() for made in (ranker, before))
    assert then[3] > 0 and weight == [0.0, 0.0, then[2], 0.0, then[3]]
    again = RankerOptimiser(ranker, knobs)
    again.load(carried_optimiser(ranker, sources, tmp_path, knobs))
    kept = [value.flatten().tolist() for value in again.state().values() if value.shape == (5, 1)]
    assert any(moment[4] != 0 and moment[3] == 0 for moment in kept)
