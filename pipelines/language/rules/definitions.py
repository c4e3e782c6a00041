"""Do the Feast definitions that a pipeline names hold what it asks for, and nothing that no stage would follow?

They are read as text, never run. `features.readable` refuses the same in the objects themselves, before a stage
computes anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from components.platform.errors import did_you_mean
from components.platform.settings import ROOT
from features.ground.yaml_text import KeyPath, quoted
from features.services.service_text import keys_unlike_recipe, keys_without_field
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft

SERVICE, DEFINITIONS = "feature_service", "definitions"
"""Keys of stages that read definitions."""
_SHIPPED = ROOT / "features" / "definitions"

_CALLS = {
    "with_join_key_map": "with_join_key_map is not read: write a view of its own with its own entity and recipe",
    "with_name": "with_name is not read: write a view of its own with its own recipe",
    "with_projection": "with_projection is not read: choose features with view[['feature']]",
    "OnDemandFeatureView": "on-demand views are not read: compute the column at ingestion",
    "on_demand_feature_view": "on-demand views are not read: compute the column at ingestion",
    "StreamFeatureView": "stream views are not read: write a FeatureView over a source with a recipe",
    "stream_feature_view": "stream views are not read: write a FeatureView over a source with a recipe",
    "BatchFeatureView": "batch views are not read: write a FeatureView over a source with a recipe",
    "batch_feature_view": "batch views are not read: write a FeatureView over a source with a recipe",
    "PushSource": "push sources are not read: give the view a FileSource with a recipe",
    "KafkaSource": "streams are not read: give the view a FileSource with a recipe",
    "KinesisSource": "streams are not read: give the view a FileSource with a recipe",
}
_KEYWORDS = {
    ("FileSource", "field_mapping"): "field_mapping is not read: give the recipe's columns the names of the fields",
    ("FeatureService", "precompute_online"): "precompute_online is not read: leave it out",
}
_NAMES = {"Bytes": "dtype Bytes is not read: use another, or leave the field out"}


def feature_services_exist(draft: PipelineDraft) -> Iterator[Finding]:
    """`feature_service:` names a service of the definitions, as far as their text tells."""
    # Which definitions are meant is not known where two stages disagree.
    doubtful = {finding.where[1] for finding in definitions_agree(draft)}
    for name, stage, component in draft.stages():
        service, own = stage.with_.get(SERVICE), stage.with_.get(DEFINITIONS)
        if name in doubtful or not isinstance(service, str) or "${" in service:
            continue
        if SERVICE not in component.config.model_fields:
            continue
        path = draft.path.parent / own if isinstance(own, str) else None
        services = _services((path,)) if path is not None else _services(tuple(sorted(_SHIPPED.glob("*.py"))))
        if services is not None and service not in services:
            place = own if path is not None else "features/definitions/"
            hint = did_you_mean(service, services) if services else ""
            yield Finding(("stages", name, "with", SERVICE), f"{place} has no feature service {quoted(service)}{hint}")


def definitions_agree(draft: PipelineDraft) -> Iterator[Finding]:
    """Feature tables are joined with the definitions and the service that they were made with."""
    for wire in draft.wires():
        made, read = draft.component(wire.producer), draft.component(wire.stage)
        if made is None or read is None or wire.producer not in draft.spec.stages:
            continue
        for key in (DEFINITIONS, SERVICE):
            if key not in made.config.model_fields or key not in read.config.model_fields:
                continue
            theirs, ours = (draft.spec.stages[stage].with_.get(key) for stage in (wire.producer, wire.stage))
            if theirs != ours and (key == DEFINITIONS or (theirs and ours)):
                where: KeyPath = ("stages", wire.stage, "with", key)
                where = where if ours is not None else where[:3]
                said = f"{key}: {theirs}" if theirs is not None else f"no {key}"
                yield Finding(where, f"stage {quoted(wire.producer)}, which this one reads, has {said}: write the same")


def unread(path: Path) -> tuple[int, str] | None:
    """Return line and words of the first thing in a file of definitions that is not read, or None."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    return next(iter(sorted([*_unread(tree), *_left_out(tree), *_keyless(path)])), None)


def _keyless(path: Path) -> Iterator[tuple[int, str]]:
    for line, view, key in keys_without_field(path):
        yield line, f"view {view!r} has no Field for its key {key!r}: add Field(name={key!r}, dtype=...) to its schema"
    yield from keys_unlike_recipe(path)


def _unread(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Name) and decorator.id in _CALLS:
                    yield decorator.lineno, _CALLS[decorator.id]
        if isinstance(node, ast.Call):
            for value in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(value, ast.Name) and value.id in _NAMES:
                    yield value.lineno, _NAMES[value.id]
            called = _called(node)
            if called in _CALLS:
                yield node.lineno, _CALLS[called]
            for keyword in node.keywords:
                if said := _KEYWORDS.get((called, str(keyword.arg))):
                    yield keyword.value.lineno, said
            if called == "FileSource":
                yield from _other_times(node)


def _other_times(node: ast.Call) -> Iterator[tuple[int, str]]:
    for keyword in node.keywords:
        expected = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created_timestamp"}
        value = keyword.value
        if isinstance(value, ast.Constant) and value.value != expected.get(str(keyword.arg), value.value):
            name = expected[str(keyword.arg)]
            yield value.lineno, f"{keyword.arg} is {value.value!r}, recipes write {name!r}: write that"


def _left_out(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield views that a service names and DEFINITIONS does not, where both are plain names."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    lists = [
        keyword.value
        for node in calls
        if _called(node) == "Definitions"
        for keyword in node.keywords
        if keyword.arg == "views"
    ]
    held = [element for listing in lists if isinstance(listing, ast.Tuple | ast.List) for element in listing.elts]
    names = {element.id for element in held if isinstance(element, ast.Name)}
    if not all(isinstance(listing, ast.Tuple | ast.List) for listing in lists) or len(names) != len(held) or not held:
        return  # the text does not tell
    for node in calls:
        if _called(node) != "FeatureService":
            continue
        for keyword in node.keywords:
            if keyword.arg != "features" or not isinstance(keyword.value, ast.Tuple | ast.List):
                continue
            for element in keyword.value.elts:
                if isinstance(element, ast.Constant) and isinstance(element.value, str):
                    said = f"a service names {element.value!r} by text, which is not read: name the view"
                    yield element.lineno, said
                view = element.value if isinstance(element, ast.Subscript) else element
                if isinstance(view, ast.Name) and view.id not in names:
                    hint = did_you_mean(view.id, names)
                    yield view.lineno, f"view {view.id} of a service is not among the views of DEFINITIONS{hint}"


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "id", getattr(node.func, "attr", "")))


def _services(paths: tuple[Path, ...]) -> frozenset[str] | None:
    """Return the names of the feature services that files define, or None when the text does not tell all of them."""
    names: set[str] = set()
    for path in paths:
        try:
            services = _services_of(path.read_bytes())
        except OSError:
            return None
        if services is None:
            return None
        names |= services
    return frozenset(names)


@cache
def _services_of(text: bytes) -> frozenset[str] | None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "FeatureService":
            given = [keyword.value for keyword in node.keywords if keyword.arg == "name"] or node.args[:1]
            if len(given) != 1 or not isinstance(given[0], ast.Constant) or not isinstance(given[0].value, str):
                return None
            names.append(given[0].value)
    return frozenset(names)
