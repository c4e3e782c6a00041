"""Why did this row get this answer? What does the logit of the served graph lose without a group of its inputs?

Groups are parts of the input that a reader knows: the events of one stream, or those with one value
(purchases in one department); histories without times; the user's, the item's and the request's fields;
vectors. A group is taken away as if it had never been there: indices become padding, times "no event",
numbers their training mean, vectors zero, and of single events the rest moves up. The effect of a group is
``logit(all) − logit(without)``, so a positive one raised the probability; groups that act together are told by their
Shapley values, which share what leaving out one counts twice or not at all. It speaks of the graph: a Platt
curve multiplies all effects of a stage in one domain by its slope, and the error memory is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from itertools import takewhile
from typing import Any

import numpy as np
import pyarrow as pa

from features.declaration import FIRST, PADDING, FieldSpec, RankerSchema
from features.encoding.encoder import Encoder
from features.ground.errors import BadInputError, did_you_mean
from registry.serving.answers.shapley import Orders, shared, subsets
from registry.serving.incoming import check_columns
from registry.serving.model.contract import sequence_axes
from registry.serving.model.served_model import CHUNK, Batch, ServedModel
from registry.serving.scores.calibration import logit

NOTHING = 1e-5
"""Effects up to this size are rounding of float32 probabilities: no reason is given for them."""
MOST_VALUES = 64
"""Values of one attribute that get a group each; one more pass of the graph per group."""
NO_EVENT = -1.0
Floats = np.ndarray[Any, np.dtype[np.float64]]
_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Group:
    """A part of the input that is taken away as one."""

    name: str
    fields: tuple[str, ...]
    """Graph inputs that it consists of, or, with an `attribute`, that its events consist of."""
    attribute: str | None = None
    """Field of one stream whose value chooses the events; None for all of `fields`."""
    values: tuple[int, ...] = ()
    """Indices of the attribute that belong to the group."""


@dataclass(frozen=True)
class Effects:
    """What each group did to one task."""

    task: str
    groups: tuple[str, ...]
    logit: Floats
    """float64 ``[B]``, the graph's answer to the whole rows."""
    delta: Floats
    """float64 ``[B, G]``, logit with everything minus logit without the group, or the group's Shapley value; exactly 0
    where the row has nothing of the group."""
    reference: Floats | None = None
    """float64 ``[B]``, the graph's answer without any group, which Shapley values start from; None of others."""


def groups_of(schema: RankerSchema) -> tuple[Group, ...]:
    """Return the groups that partition a ranker's inputs: streams, histories, vectors, user, item, request.

    Where the schema does not say which side a field describes, as in models made before it did, each attribute is a
    group of its own.
    """
    fields = schema.fields
    streams = {times: [f.name for f in fields if times in (f.name, f.timed_by)] for times in _timings(fields)}
    titles = {times: f"{_common(names)} events" for times, names in streams.items()}
    shared = [title for title in titles.values() if list(titles.values()).count(title) > 1]
    groups = [
        Group(f"{title} ({times})" if title in shared else title, tuple(streams[times]))
        for times, title in titles.items()
    ]
    for on_axis in sequence_axes(fields).values():
        untimed = [f.name for f in on_axis if f.kind == "sequence" and f.timed_by is None and not f.pooled]
        if untimed:
            groups.append(Group(f"history of {', '.join(untimed)}", tuple(untimed)))
    groups += [Group(f"vector {f.name}", (f.name,)) for f in fields if f.kind == "vector"]
    rest = [f.name for f in fields if f.kind in ("categorical", "numeric") or (f.kind == "sequence" and f.pooled)]
    if not schema.sides:
        return (*groups, *(Group(name, (name,)) for name in rest))
    for title, side in (("user attributes", "user"), ("item attributes", "item"), ("request context", None)):
        own = tuple(name for name in rest if schema.sides.get(name) == side)
        if own:
            groups.append(Group(title, own))
    return tuple(groups)


def features_of(schema: RankerSchema) -> tuple[Group, ...]:
    """Return one group per feature."""
    return tuple(Group(field.name, (field.name,)) for field in schema.fields)


def grouped(groups: Sequence[Group], schema: RankerSchema, named: Mapping[str, Sequence[str]]) -> tuple[Group, ...]:
    """Return groups of somebody's own, by name their features, and what is left of the others.

    Raises:
        BadInputError: a feature is not known or in two of them, or a name is taken.
    """
    known = [field.name for field in schema.fields]
    counts = Counter(field for fields in named.values() for field in fields)
    for field, count in counts.items():
        if field not in known:
            raise BadInputError(f"the model reads no feature {field!r}{did_you_mean(field, known)}")
        if count > 1:
            raise BadInputError(f"feature {field!r} is grouped {count} times: each belongs to one group")
    rest = [replace(group, fields=tuple(name for name in group.fields if name not in counts)) for group in groups]
    rest = [group for group in rest if group.fields]
    if taken := sorted(named.keys() & {group.name for group in rest}):
        raise BadInputError(f"there is a group {taken[0]!r} already: give yours another name")
    return (*(Group(name, tuple(fields)) for name, fields in named.items()), *rest)


def split_stream(
    groups: Sequence[Group], schema: RankerSchema, encoder: Encoder, attribute: str, values: Sequence[str] = ()
) -> tuple[Group, ...]:
    """Return the groups with one stream divided by the value of one of its attributes.

    Args:
        groups: groups that hold the stream as a whole.
        schema: the ranker's fields.
        encoder: names the values.
        attribute: field of the stream.
        values: values that get a group each, as text; empty for all of them. The other events are one more group.

    Raises:
        BadInputError: the field is no attribute of a stream that is still whole, its values have no names or are too
            many, or a value is not known.
    """
    timed = {f.name: f for f in schema.fields if f.timed_by is not None}
    stream = {f.name for f in schema.fields if attribute in timed and timed[attribute].timed_by in (f.name, f.timed_by)}
    whole = next((g for g in groups if stream and g.attribute is None and {*g.fields} == stream), None)
    if whole is None:
        hint = did_you_mean(attribute, timed) if timed else ": this model reads no events with times"
        raise BadInputError(f"{attribute!r} is no attribute of an event stream that can still be divided{hint}")
    fitted = next(f for f in encoder.fitted if f.name == attribute)
    if fitted.buckets:
        raise BadInputError(f"{attribute!r} is hashed, so its values have no names: divide by another attribute")
    known = [str(value) for value in encoder.vocabularies[str(fitted.table)]]
    for value in values:
        if value not in known:
            raise BadInputError(f"{attribute!r} never had the value {value!r} in training{did_you_mean(value, known)}")
    chosen = sorted(set(values)) or known
    if len(chosen) > MOST_VALUES:
        raise BadInputError(
            f"{attribute!r} has {len(chosen)} values and each costs a pass of the graph: name at most {MOST_VALUES} of "
            f"them, such as {attribute}={chosen[0]}"
        )
    index = {value: FIRST + place for place, value in enumerate(known)}
    others = tuple(i for i in range(timed[attribute].size) if i not in {index[value] for value in chosen})
    parts = [Group(f"{whole.name}: {attribute} {value}", whole.fields, attribute, (index[value],)) for value in chosen]
    parts.append(Group(f"{whole.name}: any other {attribute}", whole.fields, attribute, others))
    place = list(groups).index(whole)
    return (*groups[:place], *parts, *groups[place + 1 :])


def without(batch: Batch, group: Group, fields: Sequence[FieldSpec]) -> dict[str, _Array]:
    """Return an encoded batch without a group; what is left of a stream moves up, as if nothing had been there."""
    by_name = {field.name: field for field in fields}
    taken = dict(batch)
    if group.attribute is None:
        for name in group.fields:
            taken[name] = np.full_like(batch[name], _blank(by_name[name]))
        return taken
    stream = [by_name[name] for name in group.fields]
    times = next((field.name for field in stream if field.kind == "elapsed"), group.attribute)
    event = (batch[times] > NO_EVENT) | (batch[group.attribute] != PADDING)
    gone = event & np.isin(batch[group.attribute], group.values)
    order = np.argsort(gone, axis=1, kind="stable")
    for field in stream:
        blanked = np.where(gone, _blank(field), batch[field.name]).astype(batch[field.name].dtype)
        taken[field.name] = np.take_along_axis(blanked, order, axis=1)
    return taken


def effects_of(
    model: ServedModel,
    table: pa.Table,
    task: str,
    groups: Sequence[Group],
    chunk: int = CHUNK,
    orders: Orders = (),
) -> Effects:
    """Return what each group did to one task's logit, `chunk` rows at a time.

    Without `orders` each group is left out alone; with orders of the groups, see `registry.serving.answers.shapley`,
    effects are Shapley values. `passes` says how often the graph answers each row.

    Raises:
        BadInputError: the model has no such task, or the rows do not fit it.
    """
    if task not in model.contract.tasks:
        raise BadInputError(f"the model predicts no {task!r}{did_you_mean(task, model.contract.tasks)}")
    check_columns(table, model.needs(table.column_names), model.called)
    inputs = model.rows(table)
    fields = model.contract.fields
    logits, deltas, references = [np.zeros(0)], [np.zeros((0, len(groups)))], [np.zeros(0)]
    for start in range(0, inputs.num_rows, chunk):
        batch = model.encoder.encode(inputs.slice(start, chunk))

        @cache
        def answered(away: frozenset[int], batch: Batch = batch) -> Floats:
            less = reduce(lambda rows, gone: without(rows, gone, fields), [groups[at] for at in sorted(away)], batch)
            return logit(model.run(less)[task])

        whole = answered(frozenset())
        # Rows without the group are the same rows: rounding must not give them a reason.
        present = np.stack([_holds(batch, group, fields, whole.size) for group in groups], axis=1)
        if orders:
            delta, bare = shared(answered, present, orders)
            references.append(bare)
        else:
            alone = [whole - answered(frozenset((place,))) for place in range(len(groups))]
            delta = np.where(present, np.stack(alone, axis=1), 0.0)
        logits.append(whole)
        deltas.append(delta)
    names, reference = tuple(group.name for group in groups), np.concatenate(references) if orders else None
    return Effects(task, names, np.concatenate(logits), np.concatenate(deltas), reference)


def passes(groups: int, orders: Orders = ()) -> int:
    """Return how often the graph answers each row to explain it."""
    return len(subsets(orders)) if orders else groups + 1


def top_reasons(effects: Effects, top: int) -> pa.Table:
    """Return ``reason_1``, ``effect_1``, … of each row: the groups with the largest effects of either sign, in order.

    A row with fewer groups that matter has nulls at the end; of equal effects the earlier group is first.
    """
    top = min(top, len(effects.groups))
    size = np.abs(effects.delta)
    order = np.argsort(-size, axis=1, kind="stable")[:, :top]
    columns: dict[str, pa.Array] = {}
    names = pa.array(effects.groups, pa.string())
    for place in range(top):
        chosen = order[:, place : place + 1]
        nothing = np.take_along_axis(size, chosen, axis=1)[:, 0] <= NOTHING
        columns[f"reason_{place + 1}"] = names.take(pa.array(chosen[:, 0], mask=nothing))
        columns[f"effect_{place + 1}"] = pa.array(np.take_along_axis(effects.delta, chosen, axis=1)[:, 0], mask=nothing)
    return pa.table(columns)


def importance(effects: Effects) -> dict[str, float]:
    """Return the mean size of each group's effect over all rows, by name; 0 without rows."""
    sizes = np.abs(effects.delta).sum(axis=0) / max(1, len(effects.delta))
    return dict(zip(effects.groups, sizes.tolist(), strict=True))


def stability(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """Return Spearman's rank correlation of two importances, e.g. of the same ranker trained with two seeds.

    Returns:
        −1 to 1, ties with their mean rank; None when all groups of one side are equally important.

    Raises:
        BadInputError: the groups differ.
    """
    if one.keys() != other.keys():
        differing = sorted(one.keys() ^ other.keys())
        raise BadInputError(f"importances of other groups cannot be compared ({differing[0]!r}): use the same groups")
    a, b = (_ranks(np.array([side[name] for name in one])) for side in (one, other))
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _holds(batch: Batch, group: Group, fields: Sequence[FieldSpec], rows: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return bool ``[rows]``: whether there is anything of a group to take away."""
    less = without(batch, group, fields)
    changed = [(less[name] != batch[name]).reshape(rows, -1).any(axis=1) for name in group.fields]
    return np.logical_or.reduce(changed)


def _ranks(values: Floats) -> Floats:
    """Return 1-based ranks; equal values share the mean of theirs."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[codes], dtype=np.float64)


def _timings(fields: Sequence[FieldSpec]) -> list[str]:
    """Return the fields that say when the events of a stream happened, one per stream."""
    return [field.name for field in fields if field.kind == "elapsed"]


def _common(names: Sequence[str]) -> str:
    """Return what the names of a stream's fields begin with, in whole words; the first name without any."""
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*(name.split("_") for name in names), strict=False))
    return " ".join(words[0] for words in shared) or names[0]


def _blank(field: FieldSpec) -> float:
    """Return the value of a field that holds nothing."""
    return NO_EVENT if field.kind == "elapsed" else float(PADDING)
