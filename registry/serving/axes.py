"""What are the dynamic axes of a ranker's graph called, and which inputs share one?

Rows share ``batch``. Ordered histories of the same declared length share an axis, because rankers may
read them in parallel (items and their ratings): ``history``, or ``history_<length>`` where lengths
differ. The events of one stream, their attributes and their times, share ``events_<times>``. A bag has nothing
to be parallel to and has its own axis: ``bag_<field>``. The axis of a vector is its width, a number.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from features.declaration import FieldSpec

BATCH = "batch"
HISTORY = "history"
BAG = "bag"
EVENTS = "events"


def axes_of(fields: Iterable[FieldSpec], once: Collection[str] = ()) -> dict[str, tuple[str | int, ...]]:
    """Return the axes of each graph input, in the fields' order: one for a value per row, two for several.

    Args:
        fields: inputs.
        once: those that come in one row, whatever the number of rows of the others: a request's.
    """
    fields = tuple(fields)
    untimed = [f for f in fields if f.kind == "sequence" and not f.pooled and f.timed_by is None]
    lengths = {field.length for field in untimed}

    def second(field: FieldSpec) -> tuple[str | int, ...]:
        if not field.wide:
            return ()
        if field.kind == "vector":
            return (field.length,)
        if field.kind == "elapsed" or field.timed_by is not None:
            return (f"{EVENTS}_{field.timed_by or field.name}",)
        if field.pooled:
            return (f"{BAG}_{field.name}",)
        return (HISTORY if len(lengths) == 1 else f"{HISTORY}_{field.length}",)

    return {field.name: (1 if field.name in once else BATCH, *second(field)) for field in fields}


def sequence_axes(fields: Iterable[FieldSpec]) -> dict[str, tuple[FieldSpec, ...]]:
    """Return the fields that lie on each dynamic axis after ``batch``."""
    fields = tuple(fields)
    axes: dict[str, tuple[FieldSpec, ...]] = {}
    for field in fields:
        names = axes_of(fields)[field.name]
        if len(names) == 2 and isinstance(names[1], str):
            axes[names[1]] = (*axes.get(names[1], ()), field)
    return axes
