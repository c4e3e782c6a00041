"""Which time zones of a Parquet file does the engine not know? Their times are UTC anyway, and are told to be."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import available_timezones

import pyarrow as pa
import pyarrow.parquet as pq


def with_known_zones(path: Path, columns: list[str], target: Path) -> Path:
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
        if all(_known(field.type) == field.type for field in given):
            return path
        wanted = pa.schema([pa.field(name, _known(given.field(name).type)) for name in columns])
        target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(target, wanted, compression="lz4") as writer:
            for batch in file.iter_batches(columns=columns):
                writer.write_table(pa.Table.from_batches([batch]).select(columns).cast(wanted))
    return target


def _known(dtype: pa.DataType) -> pa.DataType:
    """Return a type in which times of a zone without a name are in UTC."""
    if pa.types.is_timestamp(dtype) and dtype.tz is not None:
        return dtype if dtype.tz in available_timezones() else pa.timestamp(dtype.unit, "UTC")
    if pa.types.is_list(dtype):
        return pa.list_(dtype.value_field.with_type(_known(dtype.value_type)))
    if pa.types.is_large_list(dtype):
        return pa.large_list(dtype.value_field.with_type(_known(dtype.value_type)))
    if pa.types.is_fixed_size_list(dtype):
        return pa.list_(dtype.value_field.with_type(_known(dtype.value_type)), dtype.list_size)
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(_known(field.type)) for field in dtype])
    return dtype
