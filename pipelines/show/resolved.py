"""What does a pipeline say in the end? One file with what it takes from others, and where each value comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from features.ground import yaml_text
from features.ground.yaml_text import KeyPath, Words
from pipelines.language.document import Document
from pipelines.language.spec import PipelineSpec

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@+-]*")
_WORDS = Words("pipeline")
ODD = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""Characters that stand escaped: YAML has no other way for them, or a reader would take them for the end of a line."""


def resolved(document: Document) -> str:
    """Return a pipeline as one file that means the same, each line with the file and line that it comes from.

    Stages' `from:` is left out, for its keys stand in `with:`.
    """
    order = [*PipelineSpec.model_fields]
    keys = sorted(document.value, key=lambda key: order.index(key) if key in order else len(order))
    whole = {key: document.value[key] for key in keys}
    return "".join(f"{line}\n" for line in _block(document, whole, (), ""))


def _block(document: Document, block: dict[str, Any], where: KeyPath, indent: str) -> Iterator[str]:
    for key, value in block.items():
        if len(where) == 2 and where[0] == "stages" and key == "from":
            continue
        here = (*where, key)
        if isinstance(value, dict) and value:
            yield f"{indent}{scalar(key)}:"
            yield from _block(document, value, here, f"{indent}  ")
        else:
            home, at = document.home(here)
            folder = document.path.parent
            file = home.path.relative_to(folder) if home.path.is_relative_to(folder) else home.path
            yield f"{indent}{scalar(key)}: {flow(value)}  # {file.as_posix()}:{home.span(at, key=True).line}"


def flow(value: Any) -> str:
    """Return a value in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return a text, number, truth value or nothing as YAML 1.2 reads it back."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and yaml_text.parse(value.encode(), _WORDS).value == value:
            return value
        return ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
    return json.dumps(value)
