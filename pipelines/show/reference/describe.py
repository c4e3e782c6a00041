"""What does a component take and give, in words? Its config as rows and a YAML example, generated from its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.platform.contract import ComponentSpec
from components.rankers.config import PARAMETER
from pipelines.show.reference.schema import Node, model_schema

OWN = object()
"""Default of a key that depends on another key, as a ranker's does on its name."""


@dataclass(frozen=True)
class ConfigRow:
    """One key of a config."""

    key: str
    """Dotted path inside `with:`."""
    type: str
    """What it takes, in words."""
    default: str | None
    """Its default as YAML; None when the key must be given."""
    description: str


def config_rows(spec: ComponentSpec) -> tuple[ConfigRow, ...]:
    """Return every key of a component's `with:` block; the keys of nested blocks follow their block."""
    schema = model_schema(spec.config)
    return tuple(_rows(schema, schema, ""))


def _rows(root: Node, node: Node, prefix: str) -> Iterator[ConfigRow]:
    for name, field in _properties(node).items():
        default = _default(field["default"], "by name") if "default" in field else None
        block = _block(root, field)
        if block is not None and name not in node.get("required", []):
            default = "its own defaults"
        elif name not in node.get("required", []) and default is None:
            default = "empty"
        yield ConfigRow(f"{prefix}{name}", type_words(root, field), default, field.get("description", ""))
        for inside, part in _blocks(root, field):
            yield from _rows(root, part, f"{prefix}{name}.{inside}")


def _properties(node: Node) -> Node:
    """Return every key that a block may have, also those that only some of its forms read; `OWN` where those differ."""
    found: Node = {}
    forms = (_properties(form["then"]) for form in node.get("allOf", []) if "then" in form)
    for properties in (node.get("properties", {}), *forms):
        for name, field in properties.items():
            known = found.setdefault(name, dict(field) if isinstance(field, dict) else {})
            if "default" in known and field.get("default", known["default"]) != known["default"]:
                known["default"] = OWN
    return found


def _default(value: object, own: str = "…") -> str:
    return own if value is OWN else json.dumps(value)


def _resolve(root: Node, node: Node) -> Node:
    while True:
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rpartition("/")[2]]
        elif len(node.get("allOf", [])) == 1:
            node = node["allOf"][0]
        else:
            return node


def _blocks(root: Node, node: Node) -> Iterator[tuple[str, Node]]:
    """Yield the nested block that a key may hold, be it one of several forms or the value of each name of a map.

    A key that may hold one of several blocks is described by its component's page.
    """
    choices = [_resolve(root, choice) for choice in _resolve(root, node).get("anyOf", [node])]
    found = [("", choice) for choice in choices if _block(root, choice) is not None]
    for choice in choices:
        for value in _resolve(root, choice).get("patternProperties", {}).values():
            found += [(f"NAME.{inside}", part) for inside, part in _blocks(root, value)]
    if len(found) == 1:
        yield found[0][0], _resolve(root, found[0][1])


def _block(root: Node, node: Node) -> Node | None:
    """Return the schema of a nested block with keys of its own."""
    found = _resolve(root, node)
    return found if "properties" in found else None


def type_words(root: Node, node: Node) -> str:
    """Return what a schema takes, in words."""
    node = _resolve(root, node)
    if "anyOf" in node:
        return " or ".join(
            dict.fromkeys(type_words(root, choice) for choice in node["anyOf"] if choice.get("pattern") != PARAMETER)
        )
    if "enum" in node or "const" in node:
        return ", ".join(map(str, node.get("enum", [node.get("const")])))
    kind = node.get("type", "anything")
    if kind == "array":
        return f"list of {type_words(root, node.get('items', {}))}"
    if kind == "object":
        values = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
        return f"name: {type_words(root, values)}" if isinstance(values, dict) else "block"
    words = {"integer": "whole number", "number": "number", "boolean": "true or false", "null": "null"}
    limits = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = ", ".join(f"{sign} {node[key]:g}" for key, sign in limits if key in node)
    text = words.get(str(kind), "name" if "pattern" in node else "text")
    return f"{text} {bounds}" if bounds else text


def reads_and_makes(spec: ComponentSpec) -> tuple[str, str]:
    """Return the kinds of a component's inputs and of its outputs, which inputs it can do without, which take many."""
    needed = spec.needed_inputs
    many = spec.many_inputs
    reads = [
        kind.kind + (" (many)" if name in many else "" if name in needed else " (if any)")
        for name, kind in spec.input_types.items()
    ]
    return ", ".join(reads), ", ".join(kind.kind for kind in spec.output_types.values())


def sample_yaml(spec: ComponentSpec) -> str:
    """Return a stage that uses the component: what must be given, and the rest as comments with its defaults."""
    lines = [f"{spec.name.partition('_')[0]}:", f"  uses: {spec.name}"]
    if spec.input_types:
        lines.append("  in:")
        lines += [
            f"    {'' if name in spec.needed_inputs else '# '}{name}: "
            + (f"[STAGE.{kind.kind}, OTHER.{kind.kind}]" if name in spec.many_inputs else f"STAGE.{kind.kind}")
            for name, kind in spec.input_types.items()
        ]
    schema = model_schema(spec.config)
    if schema.get("properties"):
        lines.append("  with:" if schema.get("required") else "  # with:")
        lines += _sample_block(schema, schema, "    ")
    return "\n".join(lines) + "\n"


def _sample_block(root: Node, node: Node, indent: str) -> list[str]:
    lines = []
    for name, field in _properties(node).items():
        note = f"  # {field['description']}" if field.get("description") else ""
        block = _block(root, field)
        required = name in node.get("required", [])
        if block is not None and required:
            lines += [f"{indent}{name}:{note}", *_sample_block(root, block, indent + "  ")]
        elif required:
            lines.append(f"{indent}{name}: {json.dumps(_placeholder(root, field, name))}{note}")
        elif block is not None:
            lines.append(f"{indent}# {name}: {{…}}{note}")
        else:
            lines.append(f"{indent}# {name}: {_default(field.get('default', {}))}{note}")
    return lines


def _placeholder(root: Node, node: Node, name: str) -> Any:
    node = _resolve(root, node)
    node = _resolve(root, node["anyOf"][0]) if "anyOf" in node else node
    if "examples" in node:
        return node["examples"][0]
    if "enum" in node or "const" in node:
        return node.get("enum", [node.get("const")])[0]
    if "properties" in node:
        return {key: _placeholder(root, node["properties"][key], key) for key in node.get("required", [])}
    kind = node.get("type")
    if kind == "object" and node.get("minProperties"):
        return {f"my_{name}": _placeholder(root, next(iter(node["patternProperties"].values())), f"column_of_{name}")}
    if kind == "array":
        return [_placeholder(root, node.get("items", {}), name)]
    if kind in ("integer", "number"):
        return node.get("minimum", node.get("exclusiveMinimum", 0) + 1)
    return {"boolean": True, "object": {}}.get(str(kind), f"my_{name}")
