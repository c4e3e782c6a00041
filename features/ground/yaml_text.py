"""What does a YAML file of ours say, and where does each key and value stand? YAML 1.2 text → value and positions.

The value is built straight from the parser's events, so that nothing of YAML 1.1 (`on`, `12:30`,
dates) and no tag can creep in: plain scalars are null, booleans, numbers or texts as the YAML 1.2
core schema says; keys are always texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of the file to a value, e.g. ``("stages", "train", "with", "epochs")``."""

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
BLANKS = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
"""White space as the engine strips it from the ends of every text of a file."""


@dataclass(frozen=True)
class Span:
    """Where something stands in a file, counted from 1, and how many characters of its line it takes."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True)
class Mistake:
    """What is wrong at a place of a file, in one sentence."""

    span: Span
    message: str


@dataclass(frozen=True)
class Words:
    """What the sentences about one kind of file say."""

    file: str
    """What one file holds, such as ``pipeline``."""
    twice: str = "key {key} is here twice, first in line {line}: keep one"
    """About a key that stands twice; ``{line}`` is where ``{key}`` stood first."""
    advice: Callable[[str], str | None] = lambda line: None
    """The likely cause of broken syntax, from its line; None where the line does not tell."""


@dataclass(eq=False)
class YamlText:
    """A parsed file."""

    lines: tuple[str, ...]
    value: Any = None
    """Nested dicts, lists, texts, numbers, booleans and None; None when nothing could be read."""
    keys: dict[KeyPath, Span] = field(default_factory=dict)
    """Where each key stands, by key path."""
    values: dict[KeyPath, Span] = field(default_factory=dict)
    """Where each value stands, by key path; empty when the file holds nothing."""
    mistakes: list[Mistake] = field(default_factory=list)
    """What was wrong already while reading."""
    doubtful: list[KeyPath] = field(default_factory=list)
    """Paths whose value was refused while reading; later complaints about them are noise."""

    def span(self, where: KeyPath, *, key: bool = False) -> Span:
        """Return the place of a value or of its key; of the nearest block around it where it has none."""
        for end in range(len(where), -1, -1):
            here = where[:end]
            if key and here in self.keys:
                return self.keys[here]
            if here in self.values:
                return self.values[here]
        return Span(1, 1)

    def inside(self, span: Span) -> Span:
        """Return `span` within the file: what is missing behind the end stands at the end."""
        line = min(span.line, len(self.lines))
        end = len(self.lines[line - 1]) + 1
        return Span(line, min(span.column, end) if line == span.line else end, span.width)


class _UnreadableError(Exception):
    """Reading cannot go on behind this point."""

    def __init__(self, span: Span, message: str) -> None:
        self.mistake = Mistake(span, message)
        super().__init__(message)


def quoted(text: object, most: int = 60) -> str:
    """Return `text` in quotes, cut when it is long."""
    words = str(text)
    return repr(words if len(words) <= most else f"{words[: most - 1]}…")


def parse(data: bytes, words: Words) -> YamlText:
    """Parse the bytes of a file; what is wrong with them stands in `YamlText.mistakes`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", errors="replace")
        found = YamlText(tuple(_BREAK.split(data.decode("utf-8-sig", errors="replace"))))
        found.mistakes.append(Mistake(_span_at(before), "this is not UTF-8: save the file as UTF-8"))
        return found
    found = YamlText(tuple(_BREAK.split(text)))
    try:
        found.value = _Builder(found, words, yaml.parse(text, Loader=_PARSER)).build()
    except _UnreadableError as error:
        found.mistakes.append(error.mistake)
    except yaml.YAMLError as error:
        found.mistakes.append(_syntax_mistake(found.lines, text, error, words))
    return found


def _span_at(before: str) -> Span:
    lines = _BREAK.split(before)
    return Span(len(lines), len(lines[-1]) + 1)


def _syntax_mistake(lines: tuple[str, ...], text: str, error: yaml.YAMLError, words: Words) -> Mistake:
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error)
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is not None and context is not None and context.line < mark.line and said.startswith(_UNCLOSED):
        mark = context
    if mark is None:
        character = getattr(error, "character", None)
        found = text.find(chr(character)) if isinstance(character, int) else -1
        span = _span_at(text[: max(found, 0)])
    else:
        span = Span(mark.line + 1, mark.column + 1)
    source = lines[span.line - 1] if span.line <= len(lines) else ""
    message = next((plain for start, plain in _PLAIN_WORDS if said.startswith(start)), None)
    message = words.advice(source) or message
    if source[span.column - 1 : span.column] == "\t":
        message = "a tab cannot indent: use spaces"
    if message is None and context is not None:
        message = f"this is not valid YAML ({said}, in what starts in line {context.line + 1})"
    return Mistake(span, message or f"this is not valid YAML ({said})")


class _Builder:
    """Turns parser events into values, noting where each stands and refusing what the language leaves out."""

    def __init__(self, found: YamlText, words: Words, events: Iterator[Any]) -> None:
        self.found = found
        self.words = words
        self.events = events

    def build(self) -> Any:
        value: Any = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _UnreadableError(
                        _span(event), f"a second document starts here: one file holds one {self.words.file}"
                    )
                value = self.node(next(self.events), ())
        return value

    def node(self, event: Any, where: KeyPath) -> Any:
        span = _span(event)
        self.found.values[where] = span
        if len(where) > DEEPEST:
            raise _UnreadableError(span, f"blocks are nested more than {DEEPEST} deep: flatten them")
        if isinstance(event, yaml.AliasEvent):
            self.refuse(where, span, f"aliases are not part of the language: write out what &{event.anchor} stands for")
            return None
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.refuse(where, span, f"remove the tag {quoted(tag)}: a {self.words.file} file holds plain values only")
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
                first = self.found.keys[(*where, key)].line
                message = self.words.twice.format(key=quoted(key), line=first)
                self.found.mistakes.append(Mistake(span, message))
                # Read on below a path that no key can have, so that the first value keeps its place.
                self.node(next(self.events), (*where, -1))
                continue
            here = (*where, key)
            self.found.keys[here] = span
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
        self.found.mistakes.append(Mistake(span, message))
        self.found.doubtful.append(where)


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Span(start.line + 1, start.column + 1, max(1, width))


def stripped(text: str) -> str:
    """Return a text of a YAML file as a text of a data file is read: without white space at its ends."""
    return text.strip(BLANKS)
