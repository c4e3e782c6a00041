"""Does every line of a CSV file close the quotes that it opens? One left open swallows the rows below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

_BLOCK_BYTES = 4 << 20


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


@dataclass(frozen=True)
class OpenQuote:
    """A quote that its line does not close."""

    row: int
    """Number of the row that it is in: 0 is the header, lines without text do not count."""
    closed: bool
    """Whether a later line closes it."""


@dataclass(frozen=True)
class Quoting:
    """How quotes stand in lines; within a field that does not begin with one they are letters, as Arrow reads them."""

    all_whole: re.Pattern[bytes]
    """Matches many lines that close every quote, each its own."""
    whole: re.Pattern[bytes]
    """Matches a line that closes every quote."""
    closes: re.Pattern[bytes]
    """Matches a line that closes the quote of a line above, whatever follows."""
    ends: re.Pattern[bytes]
    """Matches one that closes every quote of its own as well."""

    @classmethod
    def of(cls, delimiter: str) -> Quoting:
        """Return the patterns for fields between `delimiter`, one ASCII character."""
        sign = re.escape(delimiter.encode("ascii"))
        rest = rb'(?:[^"]|"")*+"'
        more, whole = _fields(sign, rest, b"")
        one_line = _fields(sign, rb'(?:[^"\r\n]|"")*+"', rb"\r\n")[1]
        return cls(
            all_whole=re.compile(rb"(?:" + one_line + rb"[\r\n]++)*+(?:" + one_line + rb")"),
            whole=re.compile(whole + rb"\Z"),
            closes=re.compile(rest),
            ends=re.compile(rest + rb"[^" + sign + rb"]*+" + more + rb"\Z"),
        )


def _fields(sign: bytes, rest: bytes, breaks: bytes) -> tuple[bytes, bytes]:
    """Return the patterns of further fields and of a whole line; `rest` goes to a field's end, `breaks` end a line."""
    field = rb'(?:"' + rest + rb"[^" + sign + breaks + rb']*+|[^"' + sign + breaks + rb"][^" + sign + breaks + rb"]*+|)"
    more = rb"(?:" + sign + field + rb")*+"
    return more, field + more


def open_quote(stream: Readable, delimiter: str, *, multiline: bool = False) -> OpenQuote | None:
    """Return the first quote that is left open, or None.

    Args:
        stream: a CSV file, read to its end or to the quote that closes the one that was found.
        delimiter: between fields, one ASCII character.
        multiline: whether a field in quotes may go on in the next line; then only a quote that nothing closes is found.
    """
    quoting = Quoting.of(delimiter)
    row, opened = -1, None
    for lines in _whole_lines(stream):
        if opened is None and (b'"' not in lines or quoting.all_whole.fullmatch(lines)):
            row += _count(lines)
            continue
        for line in _with_text(lines):
            if opened is None:
                row += 1
                opened = None if b'"' not in line or quoting.whole.match(line) else row
            elif not multiline:
                if quoting.closes.match(line):
                    return OpenQuote(opened, closed=True)
            elif quoting.ends.match(line):
                opened = None
    return None if opened is None else OpenQuote(opened, closed=False)


def header_lines(start: bytes, delimiter: str) -> bytes:
    """Return the first row of a CSV file that begins with `start`: one line, or more where a name has a line break."""
    quoting = Quoting.of(delimiter)
    taken: list[bytes] = []
    for line in start.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        if not taken and not bare:
            continue
        whole = (quoting.ends if taken else quoting.whole).match(bare)
        taken.append(line)
        if whole:
            break
    return b"".join(taken)


def _whole_lines(stream: Readable) -> Iterator[bytes]:
    """Yield a stream in parts of many whole lines."""
    rest = b""
    while block := stream.read(_BLOCK_BYTES):
        whole, line_break, begun = block.rpartition(b"\n")
        if line_break:
            yield rest + whole + line_break
            rest = begun
        else:
            rest += block
    yield rest


def _with_text(lines: bytes) -> list[bytes]:
    return [line for line in lines.splitlines() if line]


def _count(lines: bytes) -> int:
    if b"\r" in lines or b"\n\n" in lines or lines.startswith(b"\n"):
        return len(_with_text(lines))
    return lines.count(b"\n") + (not lines.endswith(b"\n") and bool(lines))
