"""Which texts of a `with:` block are files beside the pipeline, and where do they lie?

A pipeline file may lie in any folder, and what it names by a relative path lies beside it. A component marks
such a key with `Beside`; compiling the pipeline makes the path absolute, so that a stage finds the file wherever
it runs from.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, PlainSerializer

from features.ground.files import sha256_file


@dataclass(frozen=True)
class Beside:
    """Marks a text of a config as a path that is relative to the pipeline's file."""

    strict: bool
    """Whether the file must exist in that folder or below it; otherwise the path may also be absolute, a pattern or a
    URL, and need not exist before the stage runs."""
    suffix: str = ""
    """End of the texts that are paths; others are names of something else. Every text is one when empty."""


@dataclass(frozen=True)
class Marked:
    """A marked text of a block."""

    where: tuple[str | int, ...]
    """Its path of keys below the block."""
    text: str
    mark: Beside


def rooted(model: type[BaseModel], block: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a copy of a `with:` block with its relative paths made absolute.

    Parts that do not fit the model are left alone.
    """
    copy: dict[str, Any] = _copied(block)
    for found in marked(model, block):
        if "://" not in found.text and not found.text.startswith("${"):
            inner: Any = copy
            for part in found.where[:-1]:
                inner = inner[part]
            inner[found.where[-1]] = str(folder.resolve() / found.text)
    return copy


def marked(model: type[BaseModel], block: Mapping[str, Any]) -> Iterator[Marked]:
    """Yield every text of a `with:` block that its model marks with `Beside`."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in block:
            marks = [mark for mark in field.metadata if isinstance(mark, Beside)]
            yield from _found(field.annotation, marks, block[key], (key,))


def _found(annotation: Any, marks: list[Beside], value: Any, where: tuple[str | int, ...]) -> Iterator[Marked]:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _found(inside[0], [*marks, *(m for m in inside[1:] if isinstance(m, Beside))], value, where)
    elif origin in (Union, types.UnionType):
        for choice in inside:
            yield from _found(choice, marks, value, where)
    elif isinstance(value, str):
        if annotation is str and marks and value.endswith(marks[0].suffix):
            yield Marked(where, value, marks[0])
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, Mapping):
        yield from (Marked((*where, *m.where), m.text, m.mark) for m in marked(annotation, value))
    elif origin is dict and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _found(inside[1], marks, inner, (*where, key))
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _found(inside[0], marks, inner, (*where, index))


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_python(path: str) -> str:
    if not path.endswith(".py"):
        raise ValueError("must be a Python file beside the pipeline, such as shop_features.py")
    return path


def content_name(path: str) -> str:
    """Return what stands for a file in a cache key: its name and the sha256 of its bytes, wherever it lies."""
    file = Path(path)
    return f"{file.name}@{sha256_file(file)[:16] if file.is_file() else 'absent'}"


DefinitionsFile = Annotated[
    str,
    Beside(strict=True),
    AfterValidator(_is_python),
    PlainSerializer(content_name, return_type=str, when_used="json"),
]
"""A file of Feast definitions beside the pipeline; a cache key holds its content."""
DataFiles = Annotated[str, Beside(strict=False)]
"""A path, a pattern such as ``impressions/*.csv`` or a URL; what is relative is relative to the pipeline's file."""
