"""How does a `ranker:` block become a module, found by its registered name?"""

from __future__ import annotations

import importlib

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.config import RankerConfig, class_of
from components.rankers.refusals import names_with_two_meanings
from features.declaration import RankerSchema


def build_ranker(config: RankerConfig, schema: RankerSchema) -> RankerModule:
    """Return a new ranker with fresh weights from torch's current seed.

    Raises:
        BadInputError: the ranker cannot serve this schema.
    """
    _check_names(schema)
    module, _, name = class_of(config.name).partition(":")
    try:
        made = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BadInputError(
            f"ranker {config.name!r} is {module}:{name}, which cannot be imported ({error}): repair that package"
        ) from error
    ranker: RankerModule = made(config, schema)
    return ranker


def _check_names(schema: RankerSchema) -> None:
    """Refuse a name with two meanings."""
    if not schema.fields:
        raise BadInputError("the training set has no field: name features, or drop fewer of them")
    for reason in names_with_two_meanings(schema.declaration, (field.name for field in schema.fields)).values():
        raise BadInputError(reason)
