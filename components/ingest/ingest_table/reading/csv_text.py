"""How is a CSV file read? Block by block into a Parquet file of texts, once every line closes its quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from components.ingest.ingest_table.place import Table
from components.ingest.ingest_table.reading.files import Source
from components.platform.errors import BadInputError

_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20
_OTHER_CODES = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""What a file that begins so is written in; the longer beginnings first."""


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


class _Text:
    """A CSV file's bytes, which hold no zero byte."""

    def __init__(self, stream: pa.NativeFile, shown: str) -> None:
        self._stream, self._shown = stream, shown

    def read(self, size: int, /) -> bytes:
        block = bytes(self._stream.read(size))
        if b"\0" in block:
            raise BadInputError(f"{self._shown} holds a zero byte, as no text in UTF-8 does; write it again as UTF-8")
        return block


def check(path: Path, source: Source, table: Table) -> None:
    """Check that a CSV file is no UTF-16 and leaves no quote open.

    Raises:
        BadInputError: it does, and the rows below the quote would be swallowed.
    """
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            start = stream.read(4)
        for mark, code in _OTHER_CODES.items():
            if start.startswith(mark):
                raise BadInputError(f"{source.shown} is {code}; write it again as UTF-8")
        with pa.input_stream(str(path), compression="detect") as stream:
            found = open_quote(_Text(stream, source.shown), table.field_delimiter, multiline=table.multiline)
    except OSError as error:
        raise BadInputError(f"{source.shown} cannot be read to its end ({first_line(error)}); write it again") from None
    if found is None:
        return
    row = found.row + 1 if table.names else found.row
    where = f"{source.shown}, {f'row {row}' if row else 'header'}"
    if not found.closed:
        raise BadInputError(f"{where}: a quote is opened and never closed; close it, or double it where it is a letter")
    raise BadInputError(
        f"{where}: a quote is opened and not closed in its line; close it, or set multiline: true where texts have "
        "line breaks"
    )


def header(path: Path, source: Source, table: Table) -> list[str]:
    """Return the names in the first line of a CSV file that is not empty, or those that the config gives."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            start = stream.read(_HEADER_BYTES)
        if table.names:
            return list(table.names)
        first = header_lines(start, table.field_delimiter)
        names = pyarrow.csv.open_csv(
            pa.BufferReader(first + b"\n"),
            parse_options=pyarrow.csv.ParseOptions(delimiter=table.field_delimiter, newlines_in_values=True),
        ).schema.names
    except pa.ArrowInvalid:
        raise BadInputError(f"{source.shown} is empty: its first line names the columns; write it again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{source.shown} is no CSV file ({first_line(error)}); write it again") from None
    if not any(name.strip() for name in names):
        raise BadInputError(f"{source.shown}: the first line is blank and names no column; remove it")
    return list(names)


def short(names: list[str], table: Table) -> list[str]:
    """Return the names without what the config says ends them."""
    return [name.partition(table.names_end_at)[0] for name in names] if table.names_end_at else names


def texts(path: Path, source: Source, header: dict[str, str], wanted: list[str], table: Table, target: Path) -> Path:
    """Write the wanted columns of a CSV file as texts, block by block, and return the file.

    `header` says by a column's name how the file writes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.string()) for name in wanted])
    given = {header[name]: pa.string() for name in wanted}
    try:
        reader = pyarrow.csv.open_csv(
            path,
            # One thread, so that a wrong line is reported with its number.
            read_options=pyarrow.csv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=table.names and list(table.names)
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=table.field_delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=given, include_columns=list(given), strings_can_be_null=False, check_utf8=True
            ),
        )
        with pq.ParquetWriter(target, schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(pa.record_batch(batch.columns, schema=schema))
    except pa.ArrowInvalid as error:
        raise BadInputError(_told(source, str(error), len(header), 0 if table.names else 1)) from None
    except OSError as error:
        raise BadInputError(f"{source.shown} cannot be read to its end ({first_line(error)}); write it again") from None
    return target


def _told(source: Source, error: str, wanted: int, header: int) -> str:
    if line := re.search(r"Row #(\d+): Expected \d+ columns, got (\d+)", error):
        return f"{source.shown}, row {int(line[1]) - header}: {line[2]} fields, expected {wanted}; correct the file"
    if "Empty CSV" in error:
        return f"{source.shown} holds no rows, only a header; fetch the file again"
    if "UTF8" in error or "UTF-8" in error:
        return f"{source.shown} is not UTF-8; save the file as UTF-8 and run again"
    return f"{source.shown} is no valid CSV ({error.splitlines()[0]}); fetch the file again"


def first_line(error: BaseException) -> str:
    """Return what an error says first."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
