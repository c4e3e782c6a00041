"""Is a raw file the CSV that its official header promises? Plain or gzip text in, columns of text out."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv

from components.ingest.csv_lines import open_quote
from components.ingest.fields import RawTable
from components.platform.errors import BadInputError, MissingError, did_you_mean

AGAIN = "fetch the file again"


def read(path: Path, columns: tuple[str, ...]) -> RawTable:
    """Read a comma-separated file whose first line names at least `columns`, in any order.

    Args:
        path: file; a name that ends in ``.gz`` is read as gzip.
        columns: names that must be there; others are read as well.

    Raises:
        MissingError: there is no file.
        BadInputError: it is no whole gzip file, not UTF-8, lacks a column, has no rows, a line with another
            number of fields, or a last line without its line break, which is how a truncated file ends.
    """
    body = _bytes(path)
    first = body.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r").removeprefix("\ufeff")
    header = first.split(",")
    for name in columns:
        if name not in header:
            raise BadInputError(f"{path}:1: column {name!r} is missing{did_you_mean(name, header)}; {AGAIN}")
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise BadInputError(f"{path}:1: column {twice!r} occurs twice; remove one")
    if not body.endswith(b"\n"):
        raise BadInputError(f"{path}: the last line has no line break: the file is truncated, {AGAIN}")
    return RawTable(path, _parse(path, body, header))


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError:
        raise MissingError(f"{path} is missing: put the file there") from None
    except EOFError:
        raise BadInputError(f"{path} ends within its compressed data: it is truncated, {AGAIN}") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadInputError(f"{path} is no valid gzip file ({error}); {AGAIN}") from None


def _parse(path: Path, body: bytes, header: list[str]) -> pl.DataFrame:
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False, check_utf8=True
    )
    if found := open_quote(io.BytesIO(body), ","):
        raise BadInputError(f"{path}, row {found.row}: a quote is opened and not closed in its line; {AGAIN}")
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(body),
            # One thread, so that a wrong line is reported with its number.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=header, skip_rows=1),
            parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=options,
        )
    except pa.ArrowInvalid as error:
        raise BadInputError(reason(path, str(error).splitlines()[0], len(header))) from None
    if not table.num_rows:
        raise BadInputError(f"{path} holds no rows, only a header; {AGAIN}")
    return pl.DataFrame(table)


def reason(path: Path, error: str, wanted: int) -> str:
    """Return what Arrow says about a CSV file with `wanted` columns as one sentence."""
    if "Empty CSV" in error:
        return f"{path} holds no rows, only a header; {AGAIN}"
    if line := re.search(r"Row #(\d+): Expected \d+ columns, got (\d+)", error):
        return f"{path}:{line[1]}: {line[2]} fields, expected {wanted}; correct the line, or {AGAIN}"
    if "UTF8" in error or "UTF-8" in error:
        return f"{path} is not UTF-8; save the file as UTF-8 and run again"
    return f"{path} is no valid CSV ({error}); {AGAIN}"
