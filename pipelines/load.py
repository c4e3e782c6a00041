"""What does a pipeline file hold, and where does each key and value stand? YAML 1.2 text → value and positions.

The value is built straight from the parser's events, so that nothing of YAML 1.1 (`on`, `12:30`,
dates) and no tag can creep in: plain scalars are null, booleans, numbers or texts as the YAML 1.2
core schema says; keys are always texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from components.errors import BadInputError, MissingError
from components.settings import ROOT
from pipelines.problems import KeyPath, PipelineError, Problem, Span, quoted

LARGEST_FILE = 1 << 20
"""Bytes; a pipeline file is written by people."""
DEEPEST = 32
"""Nested blocks."""
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_UNCLOSED = ("found unexpected end of stream", "did not find expected ',' or")
"""What libyaml says far behind the bracket or quote that is the mistake."""
_PLAIN_WORDS = (
    ("found unexpected end of stream", "a quoted text is not closed: add the closing quote"),
    ("mapping values are not allowed", "no key can stand here: put a text with ': ' in quotes, or fix the indentation"),
    ("did not find expected ',' or", "a bracket is not closed: add a comma, } or ], or put a text in quotes"),
    ("did not find expected node content", "a value or a closing bracket is missing here: add it"),
    ("did not find expected key", "this line does not belong to the block above it: fix its indentation"),
    ("did not find expected '-'", "this line does not belong to the list above it: fix its indentation"),
    ("could not find expected ':'", "a key needs ': ' and a value after it"),
    ("block sequence entries are not allowed", "a list cannot start in this place: put its '- ' in a new line"),
    ("control characters are not allowed", "there is a control character in the text: remove it"),
)  # fmt: skip
"""What libyaml says, and what it means to the person who wrote the file."""


@dataclass
class Document:
    """A parsed file.

    Attributes:
        path: the file.
        lines: its lines.
        value: nested dicts, lists, texts, numbers, booleans and None; None when nothing could be read.
        keys: where each key stands, by key path.
        values: where each value stands, by key path.
        problems: what was wrong already while reading.
        doubtful: paths whose value was refused while reading; later complaints about them are noise.
    """

    path: Path
    lines: tuple[str, ...]
    value: Any = None
    keys: dict[KeyPath, Span] = field(default_factory=dict)
    values: dict[KeyPath, Span] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    doubtful: list[KeyPath] = field(default_factory=list)

    def span(self, where: KeyPath, *, key: bool = False) -> Span:
        """Return the place of a value or of its key; of the nearest block around it where it has none."""
        for end in range(len(where), -1, -1):
            here = where[:end]
            if key and here in self.keys:
                return self.keys[here]
            if here in self.values:
                return self.values[here]
        return Span(1, 1)

    def problem(self, span: Span, message: str) -> Problem:
        """Return a problem at `span`, with its line; what is missing behind the end stands at the end."""
        line = min(span.line, len(self.lines))
        source = self.lines[line - 1]
        column = min(span.column, len(source) + 1) if line == span.line else len(source) + 1
        return Problem(shown(self.path), line, column, message, source, span.width)


class _UnreadableError(Exception):
    """Reading cannot go on behind this point."""

    def __init__(self, span: Span, message: str) -> None:
        self.span = span
        self.message = message
        super().__init__(message)


def shown(path: Path) -> str:
    """Return a path as errors show it: relative to the application's root where it lies below it."""
    absolute = path.absolute()
    return (absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else path).as_posix()


def read(path: Path) -> Document:
    """Read and parse a pipeline file.

    Raises:
        MissingError: there is no such file.
        BadInputError: it cannot be read.
        PipelineError: it is larger than a pipeline file may be.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise MissingError(f"there is no pipeline file {shown(path)}: write it or name another") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInputError(f"pipeline file {shown(path)} cannot be read ({reason}): fix the file") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Document:
    """Parse the bytes of a pipeline file; what is wrong with them stands in `Document.problems`.

    Raises:
        PipelineError: the text is larger than a pipeline file may be.
    """
    if len(data) > LARGEST_FILE:
        raise PipelineError(
            [Problem(shown(path), 1, 1, "the file is larger than 1 MiB: a pipeline file holds no data")]
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        document = Document(path, tuple(_BREAK.split(data.decode("utf-8-sig", errors="replace"))))
        document.problems.append(document.problem(_span_at(before), "this is not UTF-8: save the file as UTF-8"))
        return document
    document = Document(path, tuple(_BREAK.split(text)))
    try:
        document.value = _Builder(document, yaml.parse(text, Loader=_PARSER)).build()
    except _UnreadableError as error:
        document.problems.append(document.problem(error.span, error.message))
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(document, text, error))
    return document


def _span_at(before: str) -> Span:
    lines = _BREAK.split(before)
    return Span(len(lines), len(lines[-1]) + 1)


def _syntax_problem(document: Document, text: str, error: yaml.YAMLError) -> Problem:
    words = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is not None and context is not None and context.line < mark.line and words.startswith(_UNCLOSED):
        mark = context
    if mark is None:
        character = getattr(error, "character", None)
        found = text.find(chr(character)) if isinstance(character, int) else -1
        span = _span_at(text[: max(found, 0)])
    else:
        span = Span(mark.line + 1, mark.column + 1)
    source = document.lines[span.line - 1] if span.line <= len(document.lines) else ""
    message = next((plain for start, plain in _PLAIN_WORDS if words.startswith(start)), None)
    if source[span.column - 1 : span.column] == "\t":
        message = "a tab cannot indent: use spaces"
    elif "${" in source and "'" not in source and '"' not in source:
        message = "${params.NAME} must be in quotes inside { } and [ ]"
    if message is None and context is not None:
        message = f"this is not valid YAML ({words}, in what starts in line {context.line + 1})"
    return document.problem(span, message or f"this is not valid YAML ({words})")


class _Builder:
    """Turns parser events into values, noting where each stands and refusing what the language leaves out."""

    def __init__(self, document: Document, events: Iterator[Any]) -> None:
        self.document = document
        self.events = events

    def build(self) -> Any:
        value: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _UnreadableError(_span(event), "a second document starts here: one file holds one pipeline")
                value = self.node(next(self.events), ())
        if documents == 0:
            raise _UnreadableError(Span(1, 1), "the file is empty: a pipeline starts with its name")
        return value

    def node(self, event: Any, where: KeyPath) -> Any:
        span = _span(event)
        self.document.values[where] = span
        if len(where) > DEEPEST:
            raise _UnreadableError(span, f"blocks are nested more than {DEEPEST} deep: flatten them")
        if isinstance(event, yaml.AliasEvent):
            self.refuse(where, span, f"aliases are not part of the language: write out what &{event.anchor} stands for")
            return None
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(where, span, f"remove the tag {quoted(tag)}: a pipeline file holds plain values only")
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(where)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(where)
        return self.scalar(event, where, span) if event.implicit[0] else event.value

    def mapping(self, where: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            span = _span(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _UnreadableError(span, "a key must be a plain word: a block, list or alias cannot be one")
            if event.tag is not None:
                self.refuse(where, span, f"remove the tag {quoted(event.tag)}: keys are plain words")
            key = event.value
            if key in found:
                first = self.document.keys[(*where, key)].line
                self.document.problems.append(
                    self.document.problem(span, f"key {quoted(key)} is here twice, first in line {first}: keep one")
                )
                # Read on below a path that no key can have, so that the first value keeps its place.
                self.node(next(self.events), (*where, -1))
                continue
            here = (*where, key)
            self.document.keys[here] = span
            found[key] = self.node(next(self.events), here)
        return found

    def sequence(self, where: KeyPath) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self.node(event, (*where, len(found))))
        return found

    def scalar(self, event: Any, where: KeyPath, span: Span) -> Any:
        text: str = event.value
        if _NULL.fullmatch(text):
            return None
        if _BOOLEAN.fullmatch(text):
            return text.lower() == "true"
        if _INTEGER.fullmatch(text):
            # More digits than these are not even converted: 64 bits hold 19.
            number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= 24 else 1 << 64
            if -(1 << 63) <= number < 1 << 63:
                return number
            self.refuse(where, span, f"{quoted(text, 24)} does not fit 64 bits: write a smaller number")
            return 0
        if _FLOAT.fullmatch(text):
            value = float(text) if text[-1].isdigit() or text[-1] == "." else math.nan
            if math.isfinite(value):
                return value
            self.refuse(where, span, f"{quoted(text, 24)} is not a finite number: write one")
            return 0.0
        return text

    def refuse(self, where: KeyPath, span: Span, message: str) -> None:
        self.document.problems.append(self.document.problem(span, message))
        self.document.doubtful.append(where)


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Span(start.line + 1, start.column + 1, max(1, width))
