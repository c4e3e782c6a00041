"""Which end of a history did its limit cut, and how much of it? Told, because the newest end must stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.declaration import ORDERED
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField
from features.joins.stored_rows import StoredRows

_CONTRARY = 0.5
"""Share of rows whose times run against the order that was declared, above which the declaration is doubted."""


def cut_notes(encoder: Encoder, table: StoredRows) -> Iterator[str]:
    """Yield one line per history that its limit cuts, and a warning per history whose times run the other way."""
    timed = {field.name: field.timed_by for field in encoder.fitted}
    for field in encoder.fitted:
        if field.kind not in ORDERED:
            continue
        if field.kind == "elapsed":
            yield from _contrary(field, table)
        if field.name not in timed.values():  # otherwise its events are cut with those that it times
            yield from _cut(field, table)


def _cut(field: FittedField, table: StoredRows) -> Iterator[str]:
    rows = values = lost = 0
    for lengths in table.list_lengths(field.name):
        over = np.maximum(lengths - field.length, 0)
        rows, values, lost = rows + int((over > 0).sum()), values + int(lengths.sum()), lost + int(over.sum())
    if not lost:
        return
    said = (
        f"{field.name}: {rows / table.num_rows:.1%} of the rows list more than {field.length:,} values and keep "
        f"{field.length:,}, {lost / values:.1%} of all values are cut"
    )
    if field.order == "oldest_first":
        yield f"{said}, at the beginning of the list, which is its oldest end"
    elif field.timed_by or field.kind == "elapsed":  # its times say which end is the newest
        yield f"{said}, at the end of the list, which is its oldest"
    else:
        yield (
            f"{said}, at the end of the list; where that is the newest end, write `encode: {{{field.name}: {{order: "
            "oldest_first}}`"
        )


def _contrary(field: FittedField, table: StoredRows) -> Iterator[str]:
    """Compare the first and the last time of every list."""
    rows = against = 0
    for column in table.lists(field.name):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        several = lengths > 1
        starts = column.offsets.to_numpy()[: len(column)][several]
        first = column.values.take(pa.array(starts))
        last = column.values.take(pa.array(starts + lengths[several] - 1))
        early, late = (first, last) if field.order == "newest_first" else (last, first)
        rows, against = rows + len(starts), against + (pc.less(early, late).true_count)
    if rows and against / rows > _CONTRARY:
        other = "oldest_first" if field.order == "newest_first" else "newest_first"
        yield (
            f"warning: {field.name}: times run {other} in {against / rows:.0%} of the rows with several: write order: "
            f"{other} for it and for the histories that it times"
        )
