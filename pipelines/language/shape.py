"""Does a value have the shape of a model? Pydantic's errors as sentences, each with the key it belongs to.

A value is checked as strictly as JSON (`"3"` is no number), and everything wrong with it is found
in one pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from components.platform.errors import did_you_mean, nearest
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.problems import Finding, listed

MOST_ERRORS = 200
"""Errors of one model that are looked at; nobody reads more."""

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "date_type": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "date_from_datetime_inexact": "a date such as 2026-01-31",
    "none_required": "null",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
}
_PATTERNS = {
    r"^[a-z][a-z0-9_]{0,62}$": "a name (a-z, then a-z, 0-9 and _, at most 63)",
    r"^[a-z0-9][a-z0-9_]{0,62}$": "a name of a-z, 0-9 and _, at most 63",
    r"^\$\{params\.[a-z][a-z0-9_]*\}$": "${params.NAME}",
    r"^(\$\{params\.[a-z][a-z0-9_]*\}|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$": "${params.NAME} or stage.output",
    r"^[A-Za-z0-9_.:/-]{1,250}$": "a name of letters, digits and _.:/- without spaces, at most 250 of them",
    r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$": "stage.output",
    r"^[^\s@,;:<>\"]+@[^\s@,;:<>\"]+$": "an address such as team@example.com",
    r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$": "pipeline.stage.output",
}
_SWITCHES = {"on", "off", "yes", "no", "y", "n"}


def fit(model: type[Model], value: Any, block: str = "") -> tuple[Model | None, list[Finding]]:
    """Return `value` as a `model`, or None and everything that is wrong with it.

    Args:
        model: the shape.
        value: plain value as `pipelines.language.load` gives it.
        block: what the value is called in sentences; empty for a whole file.

    Returns:
        The model (None when there are findings) and the findings, with paths below `value`.
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=True), []
    except ValidationError as error:
        return None, _findings(model, value, error, block)


def prune(value: Any, paths: Iterable[KeyPath]) -> Any:
    """Return a copy of `value` without what stands at `paths`; the whole value when a path is empty is None."""
    broken = set(paths)

    def copy(part: Any, where: KeyPath) -> Any:
        if isinstance(part, dict):
            return {k: copy(v, (*where, k)) for k, v in part.items() if (*where, k) not in broken}
        if isinstance(part, list):
            return [copy(v, (*where, i)) for i, v in enumerate(part) if (*where, i) not in broken]
        return part

    return None if () in broken else copy(value, ())


def salvage(model: type[Model], value: Any, stand_ins: dict[str, Any]) -> tuple[Any, Model | None, list[Finding]]:
    """Return a file's content without its malformed parts, as value and as `model`, and what was malformed."""
    fitted, findings = fit(model, value)
    broken = findings.copy()
    # Leaving out one part can leave its block without a key that it needs, so a few rounds may be needed.
    while fitted is None and isinstance(value, dict):
        value = prune(value, [finding.where for finding in broken if finding.where])
        fitted, broken = fit(model, stand_ins | value)
        if any(not finding.where for finding in broken):
            break
    return value, fitted, findings


def _findings(model: type[BaseModel], value: Any, error: ValidationError, block: str) -> list[Finding]:
    wrong: dict[tuple[KeyPath, bool], list[str]] = {}
    findings: list[Finding] = []
    missing: list[KeyPath] = []
    unknown: list[KeyPath] = []
    for item in error.errors(include_url=False)[:MOST_ERRORS]:
        kind, loc, context = item["type"], item["loc"], item.get("ctx", {})
        where, at_key = _locate(value, loc)
        if kind == "missing":
            missing.append((*where, str(loc[-1])))
        elif kind == "extra_forbidden":
            unknown.append(where)
        elif kind == "union_tag_not_found":
            # Which shape a block has is told by one of its keys; a misspelt one is both unknown and missing.
            missing.append((*where, context["discriminator"].strip("'")))
            unknown += [(*where, key) for key in _at(value, where) if key not in valid_keys(model, where)]
        elif kind == "union_tag_invalid":
            tag = (*where, context["discriminator"].strip("'"))
            expected = {"expected": context["expected_tags"]}
            wrong.setdefault((tag, False), []).append(_expected("literal_error", "", expected, _at(value, tag)))
        elif kind in ("value_error", "assertion_error"):
            said = _said_by_validator(where, str(context.get("error", item["msg"])), _at(value, where))
            findings.append(replace(said, at="key") if at_key else said)
        else:
            wrong.setdefault((where, at_key), []).append(_expected(kind, item["msg"], context, _at(value, where)))
    findings += _keys(model, value, missing, unknown, block)
    # A block that failed inside was not meant to be the text or number which the field could be as well.
    deeper = {f.where[:end] for f in findings for end in range(len(f.where) + 1)}
    deeper |= {where[:end] for where, _ in wrong for end in range(len(where))}
    for (where, at_key), words in wrong.items():
        if at_key:
            findings.append(Finding(where, f"key {quoted(where[-1])} must be {listed(dict.fromkeys(words))}", "key"))
        elif where not in deeper or not isinstance(_at(value, where), dict | list):
            findings.append(Finding(where, _must_be(where, list(dict.fromkeys(words)), _at(value, where))))
    return findings


def _locate(value: Any, loc: tuple[str | int, ...]) -> tuple[KeyPath, bool]:
    """Return the key path of a Pydantic location, which also names union members, and whether it means the key."""
    where: KeyPath = ()
    for part in loc:
        inside = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if part in inside:
            where, value = (*where, part), value[part]
        elif part == "[key]":
            return where, True
    return where, False


def _at(value: Any, where: KeyPath) -> Any:
    for part in where:
        value = value[part]
    return value


def _keys(
    model: type[BaseModel], value: Any, missing: list[KeyPath], unknown: list[KeyPath], block: str
) -> list[Finding]:
    """Report unknown and missing keys; a misspelt required key is one mistake, not two."""
    findings, meant = [], set()
    for where in unknown:
        valid = valid_keys(model, where[:-1])
        name = str(where[-1])
        near = nearest(name, valid)
        meant.add((*where[:-1], near))
        message = f"unknown key {quoted(name)}{did_you_mean(name, valid)}"
        if near is None and " " in name and _at(value, where) is None:
            message = f"unknown key {quoted(name)}: put a text that contains a comma in quotes"
        findings.append(Finding(where, message, "key"))
    for where in missing:
        if where not in meant:
            inside = quoted(where[-2]) if len(where) > 1 else block
            place = f" in {inside}" if inside else ""
            findings.append(Finding(where[:-1], f"key {quoted(where[-1])} is missing{place}: add it", "key"))
    return findings


def _said_by_validator(where: KeyPath, words: str, value: Any) -> Finding:
    if words.startswith("must be "):
        return Finding(where, _must_be(where, [words.removeprefix("must be ")], value))
    return Finding(where, words)


def _expected(kind: str, message: str, context: dict[str, Any], value: Any) -> str:
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**context)
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"])
        near = did_you_mean(value, re.findall(r"'([^']*)'", expected)) if isinstance(value, str) else ""
        return expected + (near if "did you mean" in near else "")
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"a text like {context['pattern']}")
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = context["min_length" if least else "max_length"]
        return f"{'at least' if least else 'at most'} {count} {'entry' if count == 1 else 'entries'} long"
    return re.sub(r"^Input should (be )?", "", message)


def _must_be(where: KeyPath, words: list[str], value: Any) -> str:
    label = next((str(part) for part in reversed(where) if isinstance(part, str)), "the file")
    if where and isinstance(where[-1], int):
        label = f"{label}[{where[-1]}]"
    hint = ""
    if words == ["a text"] and isinstance(value, bool | int | float):
        hint = ": put it in quotes"
    elif words == ["true or false"] and isinstance(value, str) and value.lower() in _SWITCHES:
        hint = ": YAML 1.2 knows no on, off, yes and no"
    return f"{label} must be {' or '.join(words)}, not {describe(value)}{hint}"


def describe(value: Any) -> str:
    """Return a value from a file in words."""
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return quoted(value)
    return json.dumps(value, default=str) if value is not None else "nothing"


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a block."""
    return model.model_json_schema(by_alias=True)


def valid_keys(model: type[BaseModel], where: KeyPath) -> set[str]:
    """Return the keys that a block at `where` may have, over every shape it could take there."""
    root = schema_of(model)
    nodes = _variants(root, root)
    for part in where:
        inner = []
        for node in nodes:
            if isinstance(part, int):
                inner.append(node.get("items"))
            else:
                inner += [node.get("properties", {}).get(part, node.get("additionalProperties"))]
                inner += node.get("patternProperties", {}).values()
        nodes = [variant for node in inner if isinstance(node, dict) for variant in _variants(root, node)]
    return {key for node in nodes for key in node.get("properties", {})}


def _variants(root: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    if "$ref" in node:
        return _variants(root, root["$defs"][node["$ref"].rpartition("/")[2]])
    choices = [*node.get("anyOf", []), *node.get("oneOf", []), *node.get("allOf", [])]
    choices += [node[key] for key in ("then",) if key in node]
    return [node, *(variant for choice in choices for variant in _variants(root, choice))]
