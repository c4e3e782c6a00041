"""How does a `ranker:` block become a module, found by its registered name?"""

from __future__ import annotations

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.config import RankerConfig
from components.rankers.position import PositionEffect, add_position
from components.rankers.refusals import names_with_two_meanings
from components.rankers.registration import load
from features.declaration import RankerSchema


def build_ranker(config: RankerConfig, schema: RankerSchema) -> RankerModule:
    """Return a new ranker with fresh weights from torch's current seed.

    Raises:
        BadInputError: the ranker cannot serve this schema.
    """
    if not schema.fields:
        raise BadInputError("the training set has no field: name features, or drop fewer of them")
    for reason in names_with_two_meanings(schema.declaration, (field.name for field in schema.fields)).values():
        raise BadInputError(reason)
    place = next((field for field in schema.fields if field.name == schema.declaration.added), None)
    if place is None:
        plain: RankerModule = load(type(config))(config, schema)
        return plain
    others = tuple(field for field in schema.fields if field is not place)
    ranker = build_ranker(config, schema.model_copy(update={"fields": others}))
    add_position(ranker, PositionEffect(place, schema, ranker.one_effect))
    return ranker
