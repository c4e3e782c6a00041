"""When are a champion's weights of no use, and what does the stage do then?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.data.training_set import read_schema
from components.platform.errors import BadInputError
from components.rankers.config import RankerConfig
from components.train.continue_ranker.component import _start
from components.train.continue_ranker.config import Config
from components.train.continue_ranker.likeness import Described, domain_tables, unlike
from components.train.take_champion.config import Taken
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder
from features.encoding.vocabularies import Vocabulary
from tests.unit.components.train.continue_ranker.conftest import Days


@pytest.fixture
def described(days: Days) -> Described:
    return Described(RankerConfig.of(name="esmm"), read_schema(days.second), read_encoder(days.second))


def changed(encoder: Encoder, name: str, **update: Any) -> Encoder:
    fitted = tuple(f.model_copy(update=update) if f.name == name else f for f in encoder.fitted)
    return replace(encoder, fitted=fitted)


def without(encoder: Encoder, name: str) -> Encoder:
    return replace(encoder, fitted=tuple(f for f in encoder.fitted if f.name != name))


def test_another_vocabulary_and_other_scales_are_no_difference(described: Described, days: Days) -> None:
    first = replace(described, schema=read_schema(days.first), encoder=read_encoder(days.first))
    assert unlike(first, described) is None
    learned = {"mean": 9.0, "scale": 2.0, "edges": (1.0,), "scores": (0.0,), "misses": True}
    scaled = replace(described, encoder=changed(described.encoder, "popularity", **learned))
    assert unlike(scaled, described) is None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"name": "mmoe"}, "its ranker is 'mmoe'"),
        ({"name": "esmm", "hidden": (8, 8)}, "its ranker has another hidden"),
    ],
)
def test_another_architecture(config: dict[str, Any], reason: str, described: Described) -> None:
    assert unlike(replace(described, config=RankerConfig.of(**config)), described) == reason


def test_defaults_written_out_are_no_difference(described: Described) -> None:
    written = RankerConfig.of(name="esmm", embedding_width=18, hidden=(360, 200, 80))
    assert unlike(replace(described, config=written), described) is None


def test_other_features_encodings_or_roles(described: Described) -> None:
    fewer = replace(described, encoder=without(described.encoder, "popularity"))
    assert unlike(fewer, described) == "it has other features: popularity on one side only"
    longer = replace(described, encoder=changed(described.encoder, "genres", length=9))
    assert unlike(longer, described) == "it encodes genres in another way"
    hashed = replace(described, encoder=changed(described.encoder, "item_id", kind="hash", buckets=50))
    assert unlike(hashed, described) == "it encodes item_id in another way"
    buckets = replace(hashed, encoder=changed(hashed.encoder, "item_id", buckets=60))
    assert unlike(buckets, hashed) == "it encodes item_id in another way"
    roles = described.schema.declaration.model_copy(update={"feedback": ("like",)})
    other = replace(described, schema=described.schema.model_copy(update={"declaration": roles}))
    assert unlike(other, described) == "it was trained with other roles or feedback"
    judged = described.schema.declaration.model_copy(update={"group": "age_band", "judge_by": "gauc"})
    same = replace(described, schema=described.schema.model_copy(update={"declaration": judged}))
    assert unlike(same, described) is None, "weights know neither"


@pytest.mark.parametrize(("name", "reason"), [("star", "it has no weights for domain nowhere"), ("esmm", None)])
def test_a_new_domain_matters_to_weights_per_domain_alone(name: str, reason: str | None, described: Described) -> None:
    config = RankerConfig.of(name=name)
    known = described.encoder.vocabularies
    more = replace(
        described.encoder,
        vocabularies={**known, "age_band": Vocabulary.sorted([*known["age_band"], "nowhere"])},
    )
    assert domain_tables(described.schema) == ("age_band",)
    assert unlike(replace(described, config=config), replace(described, config=config, encoder=more)) == reason
    assert unlike(replace(described, config=config, encoder=more), replace(described, config=config)) is None


@pytest.mark.parametrize(
    ("taken", "otherwise", "answer"),
    [
        (Taken(reason="no champion yet"), "refuse", "no champion yet"),
        (Taken(reason="gone", as_expected=False), "fresh", "gone"),
        (Taken(reason="gone", as_expected=False), "refuse", None),
    ],
)
def test_without_a_champion_training_starts_from_nothing(
    taken: Taken, otherwise: Any, answer: str | None, days: Days, tmp_path: Path
) -> None:
    config = Config(ranker=RankerConfig.of(name="esmm"), otherwise=otherwise)
    if answer is None:
        with pytest.raises(BadInputError, match=r"^gone; set otherwise: fresh"):
            _start(taken, tmp_path, days.second, config)
    else:
        assert _start(taken, tmp_path, days.second, config) == (None, answer)


def test_a_champion_of_another_architecture_is_refused_or_left_behind(days: Days, yesterday: Any) -> None:
    before, taken = yesterday(), Taken(ranker_digest="abc")
    same = Config(ranker=RankerConfig.of(name="esmm", hidden=(16, 8)))
    assert _start(taken, before, days.second, same) == (before, "")
    other = Config(ranker=RankerConfig.of(name="esmm", hidden=(16, 16)))
    with pytest.raises(
        BadInputError, match=r"cannot be continued: its ranker has another hidden; set otherwise: fresh"
    ):
        _start(taken, before, days.second, other)
    fresh = other.model_copy(update={"otherwise": "fresh"})
    reason = "the champion cannot be continued: its ranker has another hidden"
    assert _start(taken, before, days.second, fresh) == (None, reason)


def test_what_has_no_row_per_value_is_refused_when_the_pipeline_is_read() -> None:
    with pytest.raises(ValidationError, match="a hashed embedding has no row per value to carry on"):
        Config(ranker=RankerConfig.of(name="esmm", embedding="hashed", buckets=100))
