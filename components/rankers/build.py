"""How does a `ranker:` block become a module, found by its registered name?"""

from __future__ import annotations

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.config import RankerConfig
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
    ranker: RankerModule = load(type(config))(config, schema)
    return ranker
