"""What may an editor complete in a pipeline or profile file? JSON Schemas, generated from the models that check it.

What a file must say is asked only of one that extends no other, for a parent may say it. `stages.*` is completed by its
`uses:`: the keys of `with:` are those of the component's config, the keys of `in:` its inputs. A value inside `with:`
may also be `${params.NAME}` or `${matrix.AXIS}`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from components.platform.settings import ROOT
from components.rankers.config import PARAMETER
from pipelines.language.profile_spec import ProfileSpec
from pipelines.language.spec import Defaults, FolderSpec, PipelineSpec
from registry.serving.wire.config import ServingConfig

SCHEMA_FILE = ROOT / "pipelines" / "schema" / "pipeline.schema.json"
"""Where editors find the schema; `# yaml-language-server: $schema=schema/pipeline.schema.json` names it."""

PROFILE_SCHEMA_FILE = SCHEMA_FILE.with_name("profile.schema.json")
"""The same for profiles: `# yaml-language-server: $schema=../schema/profile.schema.json`."""
SERVING_SCHEMA_FILE = SCHEMA_FILE.with_name("serving.schema.json")
"""The same for services: `# yaml-language-server: $schema=../schema/serving.schema.json`."""
FOLDER_SCHEMA_FILE = SCHEMA_FILE.with_name("defaults.schema.json")
"""The same for a folder's `defaults.yaml`: `# yaml-language-server: $schema=schema/defaults.schema.json`."""
DRAFT = "http://json-schema.org/draft-07/schema#"

Node = dict[str, Any]
_ALONE: Node = {"then": {}}
"""Of a part that a file's first line may name: an editor puts the root's own condition beside it, and asks nothing."""


class _Schema(GenerateJsonSchema):
    """Pydantic's schema in draft 7, which every editor knows: every key is described, and nothing has a title."""

    references = False
    """Whether a value may be a reference to a parameter."""

    def generate_inner(self, schema: Any) -> Node:
        """Return the schema of one value; a key is `type: model-field`."""
        node: Node = super().generate_inner(schema)
        if schema["type"] == "model-field":
            if "properties" in node:  # a block says what it is, its key what it is for
                del node["description"]
            if "$ref" in node:  # beside which draft 7 ignores everything
                node["allOf"] = [{"$ref": node.pop("$ref")}]
            node = self._value(node)
        return node

    def model_schema(self, schema: core_schema.ModelSchema) -> Node:
        """Return the schema of a block, described by the first paragraph of its class."""
        node = super().model_schema(schema)
        node.pop("title", None)
        if "description" in node:
            node["description"] = re.sub(r"\s+", " ", node["description"].partition("\n\n")[0])
        return node

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out what only repeats the key."""
        return False

    def list_schema(self, schema: core_schema.ListSchema) -> Node:
        """Return the schema of a list."""
        return self._with_items(super().list_schema(schema))

    def tuple_schema(self, schema: core_schema.TupleSchema) -> Node:
        """Return the schema of a tuple."""
        return self._with_items(super().tuple_schema(schema))

    def dict_schema(self, schema: core_schema.DictSchema) -> Node:
        """Return the schema of a block whose keys are names; any other key is wrong."""
        node = super().dict_schema(schema)
        if "patternProperties" in node:
            node["patternProperties"] = {key: self._value(value) for key, value in node["patternProperties"].items()}
            node.setdefault("additionalProperties", False)
        elif isinstance(node.get("additionalProperties"), dict):
            node["additionalProperties"] = self._value(node["additionalProperties"])
        return node

    def _with_items(self, node: Node) -> Node:
        if isinstance(node.get("items"), dict):
            node["items"] = self._value(node["items"])
        return node

    def _value(self, node: Node) -> Node:
        """Let a value be a reference to a parameter as well."""
        free = node.get("type") == "string" and not {"pattern", "enum", "const", "format"} & {*node}
        if not self.references or free:
            return node
        said: Node = {key: node[key] for key in ("description", "default") if key in node}
        rest = {key: value for key, value in node.items() if key not in said}
        choices = rest["anyOf"] if {*rest} == {"anyOf"} else rest["allOf"] if {*rest} == {"allOf"} else [rest]
        return {**said, "anyOf": [*choices, {"type": "string", "pattern": PARAMETER}]}


class _WithReferences(_Schema):
    references = True


def pipeline_schema() -> Node:
    """Return the JSON Schema of a pipeline file."""
    root = _readable(model_schema(PipelineSpec))
    definitions: Node = root.pop("$defs")
    stage = definitions["StageSpec"]
    whole: Node = {"type": "object", "required": stage.pop("required"), "allOf": []}
    param = {"type": "object", "required": definitions["ParamSpec"].pop("required")}
    for block in (stage, definitions["ParamSpec"]):
        block["type"] = ["object", "null"]  # null removes what a parent has
    stage["properties"]["uses"] |= {
        "enum": list(catalog()),
        "markdownEnumDescriptions": [spec.summary for spec in catalog().values()],
    }
    stage["allOf"] = []
    for spec in catalog().values():
        config = spec.config.model_json_schema(
            ref_template=f"#/$defs/{spec.name}.{{model}}", schema_generator=_WithReferences
        )
        definitions |= {f"{spec.name}.{name}": node for name, node in config.pop("$defs", {}).items()}
        required = config.pop("required", [])  # a file that the stage takes keys `from` may hold them
        definitions[spec.name] = {**config, **_ALONE}
        stage["allOf"].append(_stage_of(spec))
        whole["allOf"].append(_asked(spec, required))
    definitions |= {"WholeStage": whole, "WholeParam": param}
    own = root.pop("required")
    definitions["Parent"] = {**root, **_ALONE, "description": "What pipelines that extend this file have in common."}
    needed: Node = {
        "required": [key for key in own if key != "name"],
        "properties": {
            key: {"additionalProperties": {"$ref": f"#/$defs/{kind}"}}
            for key, kind in (("stages", "WholeStage"), ("params", "WholeParam"))
        },
    }
    alone = {"if": {"not": {"required": ["extends"]}}, "then": needed}
    return {"$schema": DRAFT, **root, "required": ["name"], **alone, "$defs": definitions}


def _readable(schema: Node) -> Node:
    """Write durations of defaults as the language reads them; Pydantic writes them in ISO 8601."""
    usual = Defaults().model_dump(mode="json")
    schema["properties"]["defaults"]["default"] = usual
    schema["$defs"]["Defaults"]["properties"]["retry_delay"]["default"] = usual["retry_delay"]
    return schema


def model_schema(model: type[BaseModel]) -> Node:
    """Return the schema of a model without references to parameters."""
    return model.model_json_schema(schema_generator=_Schema)


def schema_texts() -> dict[Path, str]:
    """Return the schemas as the text of their files, that of pipelines first."""
    schemas = {
        SCHEMA_FILE: pipeline_schema(),
        PROFILE_SCHEMA_FILE: {"$schema": DRAFT, **model_schema(ProfileSpec)},
        SERVING_SCHEMA_FILE: {"$schema": DRAFT, **model_schema(ServingConfig)},
        FOLDER_SCHEMA_FILE: {"$schema": DRAFT, **_readable(model_schema(FolderSpec))},
    }
    return {file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for file, schema in schemas.items()}


def _stage_of(spec: ComponentSpec) -> Node:
    """Return what a stage of a component may say."""
    one: Node = {"type": "string", "pattern": r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"}
    many: Node = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    ports = {
        name: {
            **(many if name in spec.many_inputs else one),
            "description": f"{_may(spec, name)}{_each(spec, name)} that is {kind.kind}. {kind.describe()}",
        }
        for name, kind in spec.input_types.items()
    }
    then: Node = {
        "properties": {
            "with": {"$ref": f"#/$defs/{spec.name}"},
            "in": {"type": "object", "properties": ports, "additionalProperties": False},
        }
    }
    return {"if": _uses(spec), "then": then}


def _may(spec: ComponentSpec, port: str) -> str:
    return "" if port in spec.needed_inputs else "May be left out. "


def _each(spec: ComponentSpec, port: str) -> str:
    return "`stage.output`" + (", or a list of them, each" if port in spec.many_inputs else "")


def _asked(spec: ComponentSpec, required: list[str]) -> Node:
    """Return what a stage of a component must say, but what it may take `from` a file."""
    ports = [*spec.needed_inputs]
    then: Node = {"properties": {"in": {"required": ports}}, "required": ["in"]} if ports else {}
    if required:
        whole = {"properties": {"with": {"required": required}}, "required": ["with"]}
        then |= {"if": {"not": {"required": ["from"]}}, "then": whole}
    return {"if": _uses(spec), "then": then}


def _uses(spec: ComponentSpec) -> Node:
    return {"properties": {"uses": {"const": spec.name}}, "required": ["uses"]}
