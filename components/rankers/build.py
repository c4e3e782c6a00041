"""How does a `ranker:` block become a module, found by its registered name?"""

from __future__ import annotations

import importlib

from components.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.config import RANKERS, RankerConfig
from components.rankers.tasks import HIDDEN, LOGIT, tasks_of
from features.declaration import RankerSchema


def build_ranker(config: RankerConfig, schema: RankerSchema) -> RankerModule:
    """Return a new ranker with fresh weights from torch's current seed.

    Raises:
        BadInputError: the ranker cannot serve this schema.
    """
    _check_names(schema)
    module, _, name = RANKERS[config.name].partition(":")
    ranker: RankerModule = getattr(importlib.import_module(module), name)(config, schema)
    return ranker


def _check_names(schema: RankerSchema) -> None:
    """Fields and tasks are inputs and outputs of one graph, so no name may have two meanings."""
    if not schema.fields:
        raise BadInputError("the training set has no field: name features, or drop fewer of them")
    tasks = [task.name for task in tasks_of(schema.declaration)]
    taken = {HIDDEN, *(name + LOGIT for name in tasks)}
    inputs = {field.name for field in schema.fields}
    for name in sorted(({*tasks} & taken) | (inputs & {*tasks, *taken}) | {n for n in tasks if tasks.count(n) > 1}):
        raise BadInputError(f"the name {name!r} means two things, an input or output of the ranker has it: rename it")
