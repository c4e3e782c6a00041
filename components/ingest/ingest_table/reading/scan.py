"""How is a file of any size read in little memory? As a lazy scan; CSV is put into a Parquet file of texts first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from components.ingest.ingest_table.place import Explode, Table
from components.ingest.ingest_table.reading import csv_text
from components.ingest.ingest_table.reading.csv_text import first_line
from components.ingest.ingest_table.reading.files import Source
from components.ingest.ingest_table.reading.lists import PLACE, ROW, exploded
from components.platform.errors import BadInputError, no_columns
from features.ground.yaml_text import stripped

_THERE = pl.col(PLACE).is_not_null()


@dataclass(frozen=True)
class Scan:
    """A file whose columns are there."""

    shown: str
    """What a reader of an error would open."""
    rows: pl.LazyFrame
    """Its rows, lazily; texts are without white space at their ends. In a CSV file every field is a text, empty where
    it is missing."""
    schema: pl.Schema
    absent: frozenset[str] = frozenset()
    """Optional columns that the file lacks; here they are texts, all null."""
    nulls: frozenset[str] = frozenset()
    """Texts that mean missing; fields that are one of them are missing already, elements in a text not yet."""
    elements: pl.LazyFrame | None = None
    """Where lists became rows: these with their `ROW` of the file, and rows in which `PLACE` is null for those whose
    lists are empty."""

    def numbered(self, *made: pl.Expr) -> pl.LazyFrame:
        """Return what is made of its rows behind the number of their row in the file, from 0."""
        if self.elements is None:
            return self.rows.select(*made).with_row_index(ROW)
        return self.elements.filter(_THERE).select(ROW, *made)

    @property
    def empty(self) -> pl.LazyFrame | None:
        """Rows whose lists are empty, which `rows` lacks; None where no lists became rows."""
        return None if self.elements is None else self.elements.filter(~_THERE)

    def column(self, name: str) -> pl.Expr:
        """Return the column of exactly this name; `pl.col` would take `*` and `^p.*$` for patterns."""
        return cs.by_name(name).as_expr()

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """Return what is made of `rows`.

        Raises:
            BadInputError: a part of the file that only now is read is damaged.
        """
        return collected(self.shown, rows)


def collected(shown: str, rows: pl.LazyFrame) -> pl.DataFrame:
    """Return what is made of rows of a file; see `Scan.collect`."""
    try:
        return rows.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise BadInputError(f"{shown} is damaged ({first_line(error)}); write it again") from None


def scan(
    source: Source,
    columns: Iterable[str],
    table: Table,
    scratch: Path,
    optional: Collection[str] = (),
    explode: Explode | None = None,
) -> Scan:
    """Return a scan of the named columns of a file.

    Args:
        source: the file; a column that it lacks may stand in its path, as Hive writes it.
        columns: names that it must have; others are not read.
        table: how its texts are written.
        scratch: folder for copies.
        optional: which of the columns may be absent.
        explode: lists that become rows; none when None.

    Raises:
        BadInputError: a column is missing or occurs twice, a line has another number of fields or leaves a quote
            open, or the file is no CSV or Parquet file.
    """
    path = source.local(scratch / "fetched")
    wanted = list(dict.fromkeys(columns))
    if source.is_text:
        csv_text.check(path, source, table)
    header = csv_text.header(path, source, table) if source.is_text else _parquet_names(path, source)
    names = csv_text.short(header, table) if source.is_text else header
    partitions = source.partitions
    absent = frozenset(name for name in optional if name not in names and name not in partitions)
    _require([name for name in wanted if name not in absent], names, source, table.unquoted)
    read = [name for name in wanted if name in names]
    if both := [name for name in source.parts if name in read]:
        raise BadInputError(
            f"{source.shown} has column {both[0]!r}, and so has its path: give {{{both[0]}}} in files another name"
        )
    if not read:
        raise BadInputError(f"{source.shown} holds none of the pipeline's columns, only its path does: correct either")
    if source.is_text:
        path = csv_text.texts(
            path,
            source,
            dict(zip(names, header, strict=True)),
            read,
            table,
            scratch / "texts" / f"{source.name}.parquet",
        )
    else:
        _check_pages(path, source, read)
    try:
        if not source.is_text:
            path = _with_known_zones(path, read, scratch / "zones" / source.name)
        lazy = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(cs.by_name(*read))
        schema = lazy.collect_schema()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        raise BadInputError(f"{source.shown} is no Parquet file ({first_line(error)}); write it again") from None
    nulls = frozenset(table.null_values or ())

    def plain(columns: Iterable[str]) -> list[pl.Expr]:
        others = ((name, table.values.get(name, {})) for name in columns if name in schema)
        return [_plain(name, schema[name], nulls, other, source.is_text) for name, other in others]

    if explode is not None:
        # Before they become rows, so that rows outside the window need not.
        lazy = lazy.with_columns(plain(name for name in read if name not in explode.columns))
        lazy = _exploded(source, lazy, explode, [*names, *partitions], nulls)
        schema = lazy.collect_schema()
        read += [explode.position] if explode.position is not None else []
        wanted = [*dict.fromkeys([*wanted, *read])]
    for name in table.values:
        if name in read and schema[name] not in (pl.String, pl.Categorical, pl.Enum):
            raise BadInputError(
                f"{source.shown}: column {name!r} is {str(schema[name]).lower()}, and values changes texts alone"
            )
    added = [
        pl.lit(_partition(partitions.get(name), nulls, table.values.get(name, {})), pl.String).alias(name)
        for name in wanted
        if name not in read
    ]
    if explode is None:
        rows, elements = lazy.select(plain(read)).with_columns(added).select(cs.by_name(*wanted)), None
    else:
        elements = lazy.with_columns(plain(explode.columns)).with_columns(added)
        rows = elements.filter(_THERE).select(cs.by_name(*wanted))
    return Scan(source.shown, rows, rows.collect_schema(), absent, nulls, elements)


def _exploded(
    source: Source, rows: pl.LazyFrame, explode: Explode, names: Collection[str], nulls: Collection[str]
) -> pl.LazyFrame:
    """Return a file's rows with one per element of their lists."""
    if explode.position in names:
        raise BadInputError(
            f"{source.shown} has column {explode.position!r}, and explode makes one of that name: give position another"
        )
    given = rows.collect_schema()
    if path := next((name for name in explode.columns if name in source.partitions and name not in given), None):
        raise BadInputError(f"{source.shown} has {path!r} in its path, which is no list: leave it out of explode")
    if not (lists := [name for name in explode.columns if name in given]):
        raise BadInputError(f"{source.shown} has no column that explode names: correct the file or the pipeline")
    apart = exploded(rows, lists, explode, nulls, source.shown, lambda some: collected(source.shown, some))
    return apart if explode.position is None else apart.with_columns(pl.col(PLACE).alias(explode.position))


def _partition(text: str | None, nulls: Collection[str], others: Mapping[str, str]) -> str | None:
    """Return what a path says of a column, read as a field is."""
    bare = None if text is None else stripped(text)
    bare = others.get(bare, bare) if bare is not None else None
    return None if bare in nulls else bare


def _plain(name: str, dtype: pl.DataType, nulls: Collection[str], others: Mapping[str, str], is_text: bool) -> pl.Expr:
    """Return a column; texts without white space at their ends, as `others`, and missing where they are of `nulls`.

    Of a list the elements that are one of `nulls` are left out, as empty ones of a text are.
    """
    column = cs.by_name(name).as_expr()
    if isinstance(dtype, pl.List) and dtype.inner == pl.String:
        element = pl.element().str.strip_chars()
        return column.list.eval(element.filter(~element.is_in(list(nulls)).fill_null(False)) if nulls else element)
    if dtype not in (pl.String, pl.Categorical, pl.Enum):
        return column
    text = column.cast(pl.String).str.strip_chars()
    if others:
        text = text.replace(dict(others))
    if not nulls:
        return text
    missing = pl.lit("" if is_text else None, pl.String)
    return pl.when(text.is_in(list(nulls))).then(missing).otherwise(text).alias(name)


def _parquet_names(path: Path, source: Source) -> list[str]:
    """Return the names of a Parquet file's columns.

    Raises:
        BadInputError: it is none, or one name occurs twice, which makes every column ambiguous.
    """
    try:
        names = list(pq.read_schema(path, memory_map=False).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{source.shown} is no Parquet file ({first_line(error)}); write it again") from None
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInputError(f"{source.shown} has column {twice!r} twice: remove one")
    return names


def _check_pages(path: Path, source: Source, columns: list[str]) -> None:
    """Check that every page of some columns of a Parquet file can be read.

    polars takes the lengths in a damaged page for true and ends the process when it cannot get that much memory;
    Arrow checks them first.

    Raises:
        BadInputError: a page is damaged.
    """
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            schema = file.schema_arrow
            fixed = [name for name in columns if pa.types.is_fixed_size_list(schema.field(name).type)]
            for part in ([name for name in columns if name not in fixed], *([name] for name in fixed)):
                _read_through(file, part)
    except pa.ArrowNotImplementedError:
        return  # a type that Arrow does not know; polars may
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        raise BadInputError(f"{source.shown} is damaged ({first_line(error)}); write it again") from None


def _read_through(file: pq.ParquetFile, columns: list[str]) -> None:
    try:
        for _ in file.iter_batches(columns=columns, use_threads=False) if columns else ():
            pass
    except pa.ArrowInvalid as error:
        # Arrow writes a fixed-size list that is missing and cannot read it; polars can.
        if "Expected all lists to be of size" not in str(error):
            raise


def _with_known_zones(path: Path, columns: list[str], target: Path) -> Path:
    """Return a Parquet file in which every time zone has a name.

    pandas writes +05:30 as the zone of times that were parsed with their offset; polars stops at it, even when the
    column is not asked for.

    Args:
        path: the file.
        columns: the names that are read.
        target: where a copy of these columns goes when one is needed.

    Raises:
        pyarrow.ArrowException: the file is damaged.
        OSError: it cannot be read.
    """
    with pq.ParquetFile(path) as file:
        given = file.schema_arrow
        if all(_known_zone(field.type) == field.type for field in given):
            return path
        wanted = pa.schema([pa.field(name, _known_zone(given.field(name).type)) for name in columns])
        target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(target, wanted, compression="lz4") as writer:
            for batch in file.iter_batches(columns=columns):
                writer.write_table(pa.Table.from_batches([batch]).select(columns).cast(wanted))
    return target


def _known_zone(dtype: pa.DataType) -> pa.DataType:
    """Return a type in which times of a zone without a name are in UTC."""
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        return dtype if dtype.tz in available_timezones() else pa.timestamp(dtype.unit, "UTC")
    if pa.types.is_list(dtype):
        return pa.list_(dtype.value_field.with_type(_known_zone(dtype.value_type)))
    if pa.types.is_large_list(dtype):
        return pa.large_list(dtype.value_field.with_type(_known_zone(dtype.value_type)))
    if pa.types.is_fixed_size_list(dtype):
        return pa.list_(dtype.value_field.with_type(_known_zone(dtype.value_type)), dtype.list_size)
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(_known_zone(field.type)) for field in dtype])
    return dtype


def _require(wanted: list[str], names: list[str], source: Source, unquoted: Collection[str]) -> None:
    known = [*names, *source.partitions]
    if absent := [name for name in wanted if name not in known]:
        text = next((one for one in absent if one in unquoted), None)
        quotes = "" if text is None else f"; {text} is read as a column: write {text!r} in quotes for the text"
        raise BadInputError(f"{source.shown} has {no_columns(absent, known)}: correct the file or the pipeline{quotes}")
    for name in wanted:
        if names.count(name) > 1:
            raise BadInputError(f"{source.shown} has column {name!r} twice: remove one")
