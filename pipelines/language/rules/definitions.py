"""Do the Feast definitions beside a pipeline say anything that no stage would follow? Read as text, never run.

`features.readable` refuses the same in the objects themselves, before a stage computes anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from components.platform.errors import did_you_mean
from features.services.service_text import keys_without_field

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


def unread(path: Path) -> tuple[int, str] | None:
    """Return line and words of the first thing in a file of definitions that is not read, or None.

    Args:
        path: Python file; one that is no Python gives None.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    return next(iter(sorted([*_unread(tree), *_left_out(tree), *_keyless(path)])), None)


def _keyless(path: Path) -> Iterator[tuple[int, str]]:
    for line, view, key in keys_without_field(path):
        yield line, f"view {view!r} has no Field for its key {key!r}: add Field(name={key!r}, dtype=...) to its schema"


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
            wanted = expected[str(keyword.arg)]
            yield value.lineno, f"{keyword.arg} is {value.value!r}, recipes write {wanted!r}: write that"


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
    held = [element for found in lists if isinstance(found, ast.Tuple | ast.List) for element in found.elts]
    names = {element.id for element in held if isinstance(element, ast.Name)}
    if not all(isinstance(found, ast.Tuple | ast.List) for found in lists) or len(names) != len(held) or not held:
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
