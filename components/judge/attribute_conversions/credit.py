"""What would the model expect without a channel's events? The served answer with and without them, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.declaration import FieldSpec
from registry.serving.answers.answer import answer
from registry.serving.answers.reasons import NO_EVENT, Group, groups_of, split_stream, without
from registry.serving.model.served_model import CHUNK, ServedModel
from registry.serving.scores.calibration import logit

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
OTHERS = "any other"
"""Name of what has no line of its own, an unknown or missing value included."""


@dataclass(frozen=True)
class Stream:
    """A history of events whose attribute names the channel."""

    attribute: FieldSpec
    whole: Group
    """All of its events."""
    channels: dict[str, Group]
    """Events by channel."""


@dataclass(frozen=True)
class Touches:
    """Who was touched by what, as the model reads it."""

    values: NDArray[np.int64]
    """``[rows, length]`` index of each event's channel in the model's vocabulary, newest first."""
    event: NDArray[np.bool_]
    """``[rows, length]``, where there is one."""

    def of(self, group: Group) -> NDArray[np.bool_]:
        """Return bool ``[rows, length]``, the events of a channel."""
        return np.asarray(self.event & np.isin(self.values, group.values))


@dataclass(frozen=True)
class Effects:
    """What leaving out does to one feedback's probability."""

    whole: Floats
    """``[rows]``, the served answer."""
    lost: dict[str, Floats]
    """By channel ``[rows]``: the answer minus the one without its events; exactly 0 where a row has none."""
    logit: dict[str, Floats]
    """The same of log-odds."""
    together: Floats
    """``[rows]``: the answer minus the one without any event."""


def stream_of(model: ServedModel, attribute: str, channels: Sequence[str]) -> Stream:
    """Return the history that an attribute belongs to, divided by it.

    Raises:
        BadInputError: it is no attribute of a timed history, a channel is not known, or there are too many.
    """
    schema = model.contract.schema_
    groups = groups_of(schema)
    parts = [
        group
        for group in split_stream(groups, schema, model.encoder, attribute, channels)
        if group.attribute is not None
    ]
    field = next(field for field in schema.fields if field.name == attribute)
    whole = next(group for group in groups if attribute in group.fields)
    prefix = f"{whole.name}: {attribute} "
    names = [group.name.removeprefix(prefix) for group in parts[:-1]]
    return Stream(field, whole, dict(zip([*names, OTHERS], parts, strict=True)))


def touches_of(model: ServedModel, rows: pa.Table, stream: Stream) -> Touches:
    """Return the events of some rows as the graph reads them."""
    from features.joins.histories import listed

    values, times = [], []
    inputs = model.rows(rows, as_shown=True)
    for start in range(0, rows.num_rows, CHUNK):
        batch = model.encoder.encode(listed(inputs.slice(start, CHUNK)))
        values.append(batch[stream.attribute.name])
        times.append(batch[str(stream.attribute.timed_by)])
    return Touches(np.concatenate(values), np.concatenate(times) > NO_EVENT)


def effects(model: ServedModel, rows: pa.Table, feedback: str, stream: Stream, touches: Touches) -> Effects:
    """Return what each channel's events do to the answer, calibration included, in the place that each row stood in."""
    whole = answer(model, rows, as_shown=True).base[feedback]
    fields = model.contract.fields

    def left(group: Group, present: NDArray[np.bool_]) -> Floats:
        places = np.flatnonzero(present)
        less = whole.copy()
        if places.size:
            without_it: Any = partial(without, group=group, fields=fields)
            less[places] = answer(model, rows.take(places), lacking=without_it, as_shown=True).base[feedback]
        return less

    answers = {name: left(group, _any(touches.of(group))) for name, group in stream.channels.items()}
    return Effects(
        whole=whole,
        lost={name: whole - less for name, less in answers.items()},
        logit={name: logit(whole) - logit(less) for name, less in answers.items()},
        together=whole - left(stream.whole, _any(touches.event)),
    )


def _any(events: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.logical_or.reduce(events, axis=1)
