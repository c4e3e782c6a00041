"""Which components can a pipeline name? The catalogue, read without importing any engine."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points

from components.platform import artifacts
from components.platform.contract import ComponentSpec
from components.platform.errors import BadInputError, MissingError, did_you_mean
from components.platform.offers import read_offers

ENTRY_POINTS = "rankmill.components"
"""Entry-point group of third-party components: name = ``package.config:COMPONENT``."""

FOLDERS: Mapping[str, tuple[str, ...]] = {
    "ingest": ("ingest_household", "ingest_served", "ingest_table", "ingest_vectors", "sample_negatives"),
    "data": (
        "validate_data",
        "derive_labels",
        "estimate_propensity",
        "embed_text",
        "assign_semantic_ids",
        "materialize_features",
        "build_training_set",
        "attach_vectors",
    ),
    "train": (
        "take_champion",
        "tune_ranker",
        "search_ranker",
        "train_ranker",
        "continue_ranker",
        "adapt_ranker",
        "fit_item_pairs",
    ),
    "judge": (
        "fit_lightgbm",
        "export_onnx",
        "calibrate_ranker",
        "choose_ranker",
        "evaluate_ranker",
        "learn_policy",
        "simulate_policy",
        "retrieve_candidates",
        "attribute_conversions",
        "audit_delivery",
        "compare_served",
        "watch_drift",
    ),
    "release": ("register_model", "promote_model"),
    "memory": ("refresh_error_memory", "refresh_bandit", "study_error_memory"),
}
"""Our own components by the folder of `components/` that holds them, along the flow."""
BUILTIN = tuple(name for names in FOLDERS.values() for name in names)


@dataclass(frozen=True)
class Catalog(Mapping[str, ComponentSpec]):
    """Every component by name, ours first; one of ours is imported when it is asked for."""

    offered: Mapping[str, ComponentSpec]
    """What other packages bring."""
    refused: Mapping[str, str]
    """See `Offers`; a name of ours that is in here too may not be run before that is settled."""

    def __getitem__(self, name: str) -> ComponentSpec:
        return _ours(name) if name in BUILTIN else self.offered[name]

    def __contains__(self, name: object) -> bool:
        return name in BUILTIN or name in self.offered

    def __iter__(self) -> Iterator[str]:
        return iter((*BUILTIN, *self.offered))

    def __len__(self) -> int:
        return len(BUILTIN) + len(self.offered)

    def fault(self, name: str) -> str | None:
        """Return in one sentence why a pipeline cannot use `name`, or None when it can."""
        if name in self.refused:
            return self.refused[name]
        return None if name in self else f"no component {name!r}{did_you_mean(name, self)}"


def _ours(name: str) -> ComponentSpec:
    folder = next(folder for folder, names in FOLDERS.items() if name in names)
    spec: ComponentSpec = importlib.import_module(f"components.{folder}.{name}.config").COMPONENT
    return spec


@cache
def catalog() -> Catalog:
    """Return every component: ours, and those that installed packages offer."""
    types = [value for value in vars(artifacts).values() if isinstance(value, type)]
    kinds = {kind.kind: kind for kind in types if issubclass(kind, artifacts.Artifact)}

    def adopted(spec: ComponentSpec, package: str, top: str) -> ComponentSpec:
        """Return a component of another package with that package's version and whole source in its cache key."""
        module, _, function = spec.entrypoint.partition(":")
        if "." not in module or not function:
            raise BadInputError(f"has the entrypoint {spec.entrypoint!r}, which is no package.module:function")
        for kind in (*spec.input_types.values(), *spec.output_types.values()):
            if kinds.setdefault(kind.kind, kind) is not kind:
                raise BadInputError(f"has an artifact {kind.__name__} of kind {kind.kind!r}, which is another's")
        return replace(spec, package=package, sources=(*spec.sources, top)) if package else spec

    offers = read_offers(entry_points(group=ENTRY_POINTS), _spec, "component", BUILTIN, adopted)
    return Catalog(offers.usable, offers.refused)


def _spec(thing: object) -> ComponentSpec:
    if not isinstance(thing, ComponentSpec):
        raise BadInputError("is no ComponentSpec")
    return thing


def component(name: str) -> ComponentSpec:
    """Return the component called `name`.

    Raises:
        MissingError: there is none; the message holds the nearest valid name.
        BadInputError: its package is broken, or two packages offer it; the message names them.
    """
    known = catalog()
    if name in known.refused:
        raise BadInputError(known.refused[name])
    if fault := known.fault(name):
        raise MissingError(fault)
    return known[name]
