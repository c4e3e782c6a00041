"""What are the dynamic axes of a ranker's graph called, and which inputs share one?

Rows share ``batch``. Ordered histories of the same declared length share an axis, because rankers may
read them in parallel (items and their ratings): ``history``, or ``history_<length>`` where lengths
differ. A bag has nothing to be parallel to and has its own axis: ``bag_<field>``.
"""

from __future__ import annotations

from collections.abc import Iterable

from features.declaration import FieldSpec

BATCH = "batch"
HISTORY = "history"
BAG = "bag"


def axes_of(fields: Iterable[FieldSpec]) -> dict[str, tuple[str, ...]]:
    """Return the axis names of each graph input, in the fields' order: one for a value per row, two for a sequence."""
    fields = tuple(fields)
    lengths = {field.length for field in fields if field.kind == "sequence" and not field.pooled}

    def second(field: FieldSpec) -> tuple[str, ...]:
        if field.kind != "sequence":
            return ()
        if field.pooled:
            return (f"{BAG}_{field.name}",)
        return (HISTORY if len(lengths) == 1 else f"{HISTORY}_{field.length}",)

    return {field.name: (BATCH, *second(field)) for field in fields}


def sequence_axes(fields: Iterable[FieldSpec]) -> dict[str, tuple[FieldSpec, ...]]:
    """Return the sequence fields that lie on each axis after ``batch``."""
    fields = tuple(fields)
    axes: dict[str, tuple[FieldSpec, ...]] = {}
    for field in fields:
        names = axes_of(fields)[field.name]
        if len(names) == 2:
            axes[names[1]] = (*axes.get(names[1], ()), field)
    return axes
