"""What may an editor complete in a pipeline file? One JSON Schema, generated from the models that check the file.

`stages.*` is completed by its `uses:`: the keys of `with:` are those of the component's config, the
keys of `in:` its inputs. A value inside `with:` may also be `${params.NAME}`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from components.platform.settings import ROOT
from components.rankers.config import ranker_names
from pipelines.language.spec import Defaults, PipelineSpec

SCHEMA_FILE = ROOT / "pipelines" / "schema" / "pipeline.schema.json"
"""Where editors find the schema; `# yaml-language-server: $schema=schema/pipeline.schema.json` names it."""

_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8}.+)*)", re.MULTILINE)
_NESTED = ("anyOf", "oneOf", "allOf")

Node = dict[str, Any]


def pipeline_schema() -> Node:
    """Return the JSON Schema (draft 7, which every editor knows) of a pipeline file."""
    root = model_schema(PipelineSpec)
    definitions: Node = root.pop("$defs")
    definitions["ParamReference"] = {
        "type": "string",
        "pattern": r"^\$\{params\.[a-z][a-z0-9_]*\}$",
        # No description: an editor would show it instead of the key's own.
        "$comment": "Replaced by the value of the parameter, keeping its type.",
    }
    # Pydantic writes durations of defaults in ISO 8601, which the language does not read.
    usual = Defaults().model_dump(mode="json")
    root["properties"]["defaults"]["default"] = usual
    definitions["Defaults"]["properties"]["retry_delay"]["default"] = usual["retry_delay"]
    stage = definitions["StageSpec"]
    stage["properties"]["uses"] |= {
        "enum": list(catalog()),
        "markdownEnumDescriptions": [spec.summary for spec in catalog().values()],
    }
    stage["allOf"] = []
    for spec in catalog().values():
        config, inner = component_schema(spec)
        definitions[spec.name] = config
        definitions |= inner
        stage["allOf"].append(_stage_of(spec, config))
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **root,
        "$defs": definitions,
    }


def component_schema(spec: ComponentSpec) -> tuple[Node, Node]:
    """Return the schema of a component's `with:` block and the definitions that it refers to, by their full name."""
    config = model_schema(spec.config)
    inner: Node = config.pop("$defs", {})
    prefix = f"{spec.name}."

    def rename(node: Node) -> None:
        if "$ref" in node:
            node["$ref"] = f"#/$defs/{prefix}{node['$ref'].rpartition('/')[2]}"

    for node in (config, *inner.values()):
        walk(node, rename)
        _allow_references(node)
    return config, {f"{prefix}{name}": node for name, node in inner.items()}


def model_schema(model: type[BaseModel]) -> Node:
    """Return Pydantic's schema of a model with descriptions for every key, names checked and titles left out."""
    schema = copy.deepcopy(model.model_json_schema(by_alias=True))
    definitions = schema.get("$defs", {})
    for node in (schema, *definitions.values()):
        walk(node, _tidy)

    def inherit(node: Node) -> None:
        """Pydantic leaves a description out that says the same as the block's own."""
        for field in node.get("properties", {}).values():
            block = field.get("allOf", [{}])[0].get("$ref") or field.get("$ref")
            if block and "description" not in field:
                field["description"] = definitions[block.rpartition("/")[2]].get("description", "")

    for node in (schema, *definitions.values()):
        walk(node, inherit)
    ranker = definitions.get("RankerConfig")
    if ranker is not None:
        name = ranker["properties"]["name"]
        name.pop("pattern", None)
        name["enum"] = ranker_names()
    return schema


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(pipeline_schema(), indent=2, ensure_ascii=False) + "\n"


def schema_is_fresh(path: Path = SCHEMA_FILE) -> bool:
    """Return whether the schema file holds what the models say."""
    return path.exists() and path.read_text(encoding="utf-8") == schema_text()


def walk(node: Node, visit: Callable[[Node], None]) -> None:
    """Call `visit` for a schema and every schema inside it."""
    visit(node)
    for key in ("properties", "patternProperties"):
        for inner in node.get(key, {}).values():
            walk(inner, visit)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            walk(node[key], visit)
    for key in _NESTED:
        for inner in node.get(key, []):
            walk(inner, visit)


def _tidy(node: Node) -> None:
    node.pop("title", None)
    if "patternProperties" in node:
        node.setdefault("additionalProperties", False)
    description = node.get("description", "")
    for name, text in _ATTRIBUTE.findall(description.partition("Attributes:")[2]):
        if name in node.get("properties", {}):
            words = re.sub(r"\s+", " ", text)
            node["properties"][name].setdefault("description", words[0].upper() + words[1:])
    if description:
        node["description"] = re.sub(r"\s+", " ", description.partition("\n\n")[0])
    # Draft 7 ignores what stands beside a $ref.
    if "$ref" in node and len(node) > 1:
        node["allOf"] = [{"$ref": node.pop("$ref")}]


def _allow_references(node: Node) -> None:
    """Let every value inside a config be a reference to a parameter as well."""

    def visit(outer: Node) -> None:
        for key in ("properties", "patternProperties"):
            outer |= {key: {name: _or_reference(value) for name, value in outer[key].items()}} if key in outer else {}
        for key in ("items", "additionalProperties"):
            if isinstance(outer.get(key), dict):
                outer[key] = _or_reference(outer[key])

    # Inner schemas first: what is added must not be visited itself.
    found: list[Node] = []
    walk(node, found.append)
    for inner in reversed(found):
        visit(inner)


def _or_reference(node: Node) -> Node:
    if node.get("type") == "string" and not {"pattern", "enum", "const", "format"} & {*node}:
        return node
    said: Node = {key: node[key] for key in ("description", "default") if key in node}
    rest = {key: value for key, value in node.items() if key not in said}
    choices = rest["anyOf"] if set(rest) == {"anyOf"} else rest["allOf"] if set(rest) == {"allOf"} else [rest]
    return {**said, "anyOf": [*choices, {"$ref": "#/$defs/ParamReference"}]}


def _stage_of(spec: ComponentSpec, config: Node) -> Node:
    ports = {
        name: {
            "type": "string",
            "pattern": r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$",
            "description": f"`stage.output` that is {kind.kind}. {kind.describe()}",
        }
        for name, kind in spec.input_types.items()
    }
    then: Node = {
        "properties": {
            "with": {"$ref": f"#/$defs/{spec.name}"},
            "in": {"type": "object", "properties": ports, "required": [*ports], "additionalProperties": False},
        },
        "required": [*(["in"] if ports else []), *(["with"] if config.get("required") else [])],
    }
    return {"if": {"properties": {"uses": {"const": spec.name}}, "required": ["uses"]}, "then": then}
