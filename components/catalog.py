"""Which components can a pipeline name? The catalogue, read without importing any engine."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType

from components.contract import ComponentSpec
from components.errors import BadInputError, MissingError, did_you_mean

ENTRY_POINTS = "rankmill.components"
"""Entry-point group of third-party components: name = ``package.config:COMPONENT``."""

BUILTIN = (
    "ingest_movielens",
    "ingest_kuairand",
    "ingest_open_bandit",
    "ingest_household",
    "validate_data",
    "materialize_features",
    "build_training_set",
    "train_ranker",
    "adapt_ranker",
    "fit_lightgbm",
    "export_onnx",
    "calibrate_ranker",
    "evaluate_ranker",
    "simulate_policy",
    "register_model",
    "promote_model",
    "refresh_error_memory",
    "study_error_memory",
)


@cache
def catalog() -> Mapping[str, ComponentSpec]:
    """Return every component by name, built-in ones first.

    Raises:
        BadInputError: an installed package offers a component under a name that is taken, or something
            that is not a component.
    """
    found: dict[str, ComponentSpec] = {}
    for name in BUILTIN:
        found[name] = importlib.import_module(f"components.{name}.config").COMPONENT
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        spec = entry.load()
        if not isinstance(spec, ComponentSpec):
            raise BadInputError(f"entry point {entry.value!r} is not a ComponentSpec: fix package {entry.dist}")
        if spec.name in found:
            raise BadInputError(f"component {spec.name!r} of {entry.value!r} has a name that is taken: rename it")
        found[spec.name] = spec
    return MappingProxyType(found)


def component(name: str) -> ComponentSpec:
    """Return the component called `name`.

    Raises:
        MissingError: there is none; the message holds the nearest valid name.
    """
    known = catalog()
    if name not in known:
        raise MissingError(f"no component {name!r}{did_you_mean(name, known)}")
    return known[name]
