"""Which end of a history did its limit cut, and how much of it? Told, because the newest end must stay."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.declaration import ORDERED
from features.encoding.encoder import Encoder
from features.encoding.fitted import FittedField

_CONTRARY = 0.5
"""Share of rows whose times run against the order that was declared, above which the declaration is doubted."""


def cut_notes(encoder: Encoder, table: pa.Table) -> Iterator[str]:
    """Yield one line per history that its limit cuts, and a warning per history whose times run the other way."""
    timed = {field.name: field.timed_by for field in encoder.fitted}
    for field in encoder.fitted:
        if field.kind not in ORDERED:
            continue
        column = table.column(field.name)
        if field.kind == "elapsed":
            yield from _contrary(field, column)
        if field.name not in timed.values():  # otherwise its events are cut with those that it times
            yield from _cut(field, column)


def _cut(field: FittedField, column: pa.ChunkedArray) -> Iterator[str]:
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    lost = np.maximum(lengths - field.length, 0)
    if not lost.any():
        return
    said = (
        f"{field.name}: {np.mean(lost > 0):.1%} of the rows list more than {field.length:,} values and keep "
        f"{field.length:,}, {lost.sum() / lengths.sum():.1%} of all values are cut"
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


def _contrary(field: FittedField, column: pa.ChunkedArray) -> Iterator[str]:
    """Compare the first and the last time of every list."""
    several = column.filter(pc.greater(pc.list_value_length(column), 1)).combine_chunks()
    if not len(several):
        return
    starts = several.offsets.to_numpy()[: len(several)]
    first = several.values.take(pa.array(starts))
    last = several.values.take(pa.array(starts + pc.list_value_length(several).to_numpy() - 1))
    early, late = (first, last) if field.order == "newest_first" else (last, first)
    share = pc.mean(pc.fill_null(pc.less(early, late), False)).as_py()
    if share > _CONTRARY:
        other = "oldest_first" if field.order == "newest_first" else "newest_first"
        yield (
            f"warning: {field.name}: times run {other} in {share:.0%} of the rows with several: write order: {other} "
            "for it and for the histories that it times"
        )
