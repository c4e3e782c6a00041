"""Which rows may teach the error memory? Labelled impressions the champion was neither fitted nor chosen on."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.data.training_set import read_labelled
from components.platform.errors import BadInputError, MissingError
from features.declaration import Declaration
from registry.serving.log.segments import hashed_in

ROW_ID = "row_id"
MICROSECONDS = pa.timestamp("us", tz="UTC")


def read_stream(directory: Path, declaration: Declaration, trained_until: datetime | None) -> pa.Table:
    """Return the rows at or after the champion's training cut, sorted by time and row id.

    All splits are read: how this training set was cut says nothing about the champion, which may come
    from another one.

    Raises:
        BadInputError: a role or feedback column is missing, or the champion does not say until when it was
            trained.
        MissingError: no row is late enough.
    """
    if trained_until is None:
        raise BadInputError(
            "the champion's contract does not say until when it was trained, so no row is known to be new to it: "
            "train and promote it again"
        )
    table = read_labelled(directory)
    for name in (ROW_ID, declaration.time, declaration.user, *declaration.feedback):
        if name not in table.column_names:
            raise BadInputError(
                f"the rows have no column {name!r}, which the champion's declaration names: build the training set "
                f"with feedback [{', '.join(declaration.feedback)}] as the champion's was"
            )
    moments = table.column(declaration.time).cast(MICROSECONDS)
    new = table.filter(pc.greater_equal(moments, pa.scalar(trained_until, MICROSECONDS)))
    if new.num_rows == 0:
        newest = pc.max(moments).as_py()
        held = f"the newest of {table.num_rows} rows is of {newest:%Y-%m-%dT%H:%M:%SZ}" if newest else "there are none"
        raise MissingError(
            f"no labelled row is at or after {trained_until:%Y-%m-%dT%H:%M:%SZ}, until when the champion was trained: "
            f"{held}; move the window's end forward or wait for newer labels"
        )
    return new.sort_by([(declaration.time, "ascending"), (ROW_ID, "ascending")]).combine_chunks()


def check_readable(directory: Path, needed: Collection[str]) -> None:
    """Check that what the champion and its memory read is there by value.

    Raises:
        BadInputError: the log of a service keeps a hash of it.
    """
    import pyarrow.parquet as pq

    whole = directory / "raw" / "rows.parquet"
    hashed = {*hashed_in(pq.read_schema(whole))} if whole.exists() else set()
    if found := sorted(hashed & {*needed}):
        raise BadInputError(
            f"the log keeps {', '.join(map(repr, found))} hashed, and the champion or its memory reads it by value: "
            "take it out of log.hash"
        )


def microseconds(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a time column as int64 microseconds since 1970 UTC."""
    return table.column(column).cast(MICROSECONDS).cast(pa.int64()).to_numpy()


def user_groups(table: pa.Table, column: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return an int64 code per row that is equal for rows of one user; a missing user has −1."""
    indices = table.column(column).combine_chunks().dictionary_encode().indices
    return pc.fill_null(indices, -1).cast(pa.int64()).to_numpy(zero_copy_only=False)


def labels(table: pa.Table, feedback: tuple[str, ...]) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the labels by feedback as float64, NaN where a label is missing."""
    return {name: table.column(name).cast(pa.float64()).to_numpy() for name in feedback}
