"""How is a file of any size read in little memory? As a lazy scan; CSV is put into a Parquet file of texts first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from components.csv_table import reason
from components.errors import BadInputError, did_you_mean
from components.ingest_table.files import Source

_HEADER_BYTES = 1 << 20
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Scan:
    """A file whose columns are there.

    Attributes:
        shown: what a reader of an error would open.
        rows: its rows, lazily; in a CSV file every field is a text, empty where it is missing.
        schema: type of each column.
    """

    shown: str
    rows: pl.LazyFrame
    schema: pl.Schema


def scan(source: Source, columns: Iterable[str], delimiter: str, scratch: Path) -> Scan:
    """Return a scan of the named columns of a file.

    Args:
        source: the file.
        columns: names that it must have; others are not read.
        delimiter: between the fields of a CSV file.
        scratch: folder for copies.

    Raises:
        BadInputError: a column is missing or occurs twice, a line has another number of fields, or the file is no
            CSV or Parquet file.
    """
    path = source.local(scratch / "fetched")
    wanted = list(dict.fromkeys(columns))
    if source.is_text:
        path = _texts(path, source, wanted, delimiter, scratch / "texts" / f"{source.name}.parquet")
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.ComputeError, OSError) as error:
        raise BadInputError(f"{source.shown} is no Parquet file ({_first(error)}); write it again") from None
    _require(wanted, schema.names(), source)
    rows = pl.scan_parquet(path, glob=False).select(wanted)
    return Scan(source.shown, rows, pl.Schema({name: schema[name] for name in wanted}))


def _texts(path: Path, source: Source, wanted: list[str], delimiter: str, target: Path) -> Path:
    """Write the wanted columns of a CSV file as texts, block by block, and return the file."""
    header = _header(path, source, delimiter)
    _require(wanted, header, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([(name, pa.string()) for name in wanted])
    try:
        reader = pyarrow.csv.open_csv(
            path,
            # One thread, so that a wrong line is reported with its number.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=schema, include_columns=wanted, strings_can_be_null=False, check_utf8=True
            ),
        )
        with pq.ParquetWriter(target, schema, compression="lz4") as writer:
            for batch in reader:
                writer.write_batch(batch)
    except pa.ArrowInvalid as error:
        raise BadInputError(_told(source, str(error), len(header))) from None
    except OSError as error:
        raise BadInputError(f"{source.shown} cannot be read to its end ({_first(error)}); write it again") from None
    return target


def _header(path: Path, source: Source, delimiter: str) -> list[str]:
    """Return the names in the first line of a CSV file."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            first = stream.read(_HEADER_BYTES).partition(b"\n")[0]
        names = pyarrow.csv.open_csv(
            pa.BufferReader(first + b"\n"), parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter)
        ).schema.names
    except pa.ArrowInvalid:
        raise BadInputError(f"{source.shown} is empty: its first line names the columns; write it again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{source.shown} is no CSV file ({_first(error)}); write it again") from None
    return list(names)


def _require(wanted: list[str], names: list[str], source: Source) -> None:
    for name in wanted:
        if name not in names:
            raise BadInputError(
                f"{source.shown} has no column {name!r}{did_you_mean(name, names)}: correct the file or the pipeline"
            )
        if names.count(name) > 1:
            raise BadInputError(f"{source.shown} has column {name!r} twice: remove one")


def _told(source: Source, error: str, wanted: int) -> str:
    if line := re.search(r"Row #(\d+): Expected \d+ columns, got (\d+)", error):
        return f"{source.shown}, row {int(line[1]) - 1}: {line[2]} fields, expected {wanted}; correct the file"
    return reason(Path(source.shown), error.splitlines()[0], wanted)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
