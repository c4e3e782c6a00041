"""Which rows can a policy be learned from? Logged actions, chances and rewards as arrays, and what refuses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.training_set import SplitName, read_raw, read_schema
from components.judge.learn_policy.config import LEAST_PROPENSITY, RARE, Config
from components.judge.policy_files import Floats, features_of, groups_in, reward_of
from components.judge.simulate_policy.estimators import Integers, check_propensities
from components.platform.errors import BadInputError, did_you_mean, no_columns
from features.declaration import FieldSpec, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder


@dataclass(frozen=True)
class Part:
    """n logged rows, ready to learn from."""

    inputs: dict[str, NDArray[Any]]
    """By feature: int64 ``[n]``, or float32 ``[n]`` or ``[n, width]``."""
    group: Integers
    """``[n]``, place in `Log.groups`."""
    chosen: Integers
    """``[n]``, place in `Log.actions`."""
    propensity: Floats
    """``[n]``, in (0, 1]."""
    reward: Floats
    """``[n]``."""
    unit: Integers
    """``[n]``, equal for rows whose rewards depend on each other."""

    @property
    def rows(self) -> int:
        """N."""
        return int(self.chosen.size)


@dataclass(frozen=True)
class Log:
    """The rows that a policy is learned from, and those that it is chosen by."""

    features: tuple[FieldSpec, ...]
    actions: pa.Array
    """Ascending; int64 or text."""
    groups: tuple[str, ...]
    """Values of `candidates_per`, ascending."""
    allowed: NDArray[np.bool_]
    """``[G, A]``, which action the training rows show in which group."""
    train: Part
    validation: Part
    first: Any
    """Time of the earliest row, UTC."""
    last: Any
    """Time of the latest."""


def read_log(directory: Path, config: Config) -> Log:
    """Read the train and validation rows of a training set; the test rows are not opened.

    Raises:
        BadInputError: a column is missing or cannot be what it is named as, a split has no rows, an action is seen in
            validation but not in training, or propensities are no chances or too small to learn from.
    """
    schema, encoder = read_schema(directory), read_encoder(directory)
    declaration = schema.declaration
    if config.unit == "request" and declaration.request is None:
        raise BadInputError(
            "unit: request, but the training set has no requests: declare request in build_training_set"
        )
    roles = [declaration.user, declaration.time, *([declaration.request] if declaration.request else [])]
    fields = _fields(config, schema, encoder)
    tables: dict[SplitName, pa.Table] = {}
    for split in ("train", "validation"):
        tables[split] = read_raw(directory, split)
        _check_columns([*config.columns, *roles], tables[split])
        if not tables[split].num_rows:
            raise BadInputError(f"the {split} split has no rows: one teaches a policy and the other chooses it")
    train = tables["train"]
    if config.unit == "row" and declaration.request is not None:
        _check_whole_requests(train, declaration.request, config.action)
    actions = _actions(train, config)
    groups = sorted(set(groups_in(train, config.candidates_per).drop_null().to_pylist()))
    allowed = np.zeros((len(groups), len(actions)), dtype=bool)
    parts = {}
    for split, table in tables.items():
        part = _part(table, split, config, schema, encoder, fields, actions, groups)
        if split == "train":
            allowed[part.group, part.chosen] = True
            _check_two_each(allowed, groups, config)
        elif not (seen := allowed[part.group, part.chosen]).all():
            at = int(np.flatnonzero(~seen)[0])
            raise BadInputError(
                f"{int((~seen).sum()):,} validation rows choose an {config.action} that no training row of their group "
                f"shows, such as {actions[int(part.chosen[at])].as_py()!r} in {groups[int(part.group[at])]!r}: learn "
                "from more rows, or name the actions to learn in actions"
            )
        parts[split] = part
    _check_support(parts["train"].propensity, config)
    times = pc.min_max(pa.concat_tables([t.select([declaration.time]) for t in tables.values()])[declaration.time])
    first, last = times["min"].as_py(), times["max"].as_py()
    return Log(fields, actions, tuple(groups), allowed, parts["train"], parts["validation"], first, last)


def _fields(config: Config, schema: RankerSchema, encoder: Encoder) -> tuple[FieldSpec, ...]:
    known = {field.name: field for field in encoder.fields}
    for name in config.features:
        if name not in known:
            raise BadInputError(
                f"the training set has no feature {name!r}{did_you_mean(name, known)}: name one of its own"
            )
        if known[name].kind in ("sequence", "elapsed"):
            raise BadInputError(
                f"feature {name!r} is a list of any length: a policy looks at single values and vectors, name others"
            )
        if config.action == schema.declaration.item and schema.sides.get(name) == "item":
            raise BadInputError(
                f"feature {name!r} describes the item, which is what is chosen: name features of the user or request"
            )
    return tuple(known[name] for name in sorted(set(config.features)))


def _check_columns(wanted: Sequence[str], table: pa.Table) -> None:
    if absent := [name for name in dict.fromkeys(wanted) if name not in table.column_names]:
        raise BadInputError(
            f"the training set has {no_columns(absent, table.column_names)}: name it in carry or context of "
            "build_training_set"
        )


def _actions(train: pa.Table, config: Config) -> pa.Array:
    column = train[config.action].combine_chunks()
    if column.null_count:
        raise BadInputError(
            f"{column.null_count:,} training rows have no {config.action!r}: fill or drop them at ingestion"
        )
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise BadInputError(f"action {config.action!r} is {column.type}: publish it as int64 or string")
    whole = pa.types.is_integer(column.type)
    seen = pc.unique(column.cast(pa.int64() if whole else pa.string()))
    if config.actions is not None:
        if isinstance(config.actions[0], int) != whole:
            raise BadInputError(f"action {config.action!r} is {column.type}, but actions names {config.actions[0]!r}")
        seen_values = seen.to_pylist()
        if unseen := [action for action in config.actions if action not in seen_values]:
            raise BadInputError(
                f"action {unseen[0]!r} is never chosen in the training rows"
                f"{did_you_mean(str(unseen[0]), map(str, seen_values))}: nothing can be learned of it, leave it out"
            )
        if others := sorted(set(seen_values) - set(config.actions)):
            raise BadInputError(
                f"the training rows choose {others[0]!r}, which actions leaves out: rows of another choice say nothing "
                "about these, drop them at ingestion or name it"
            )
    return seen.take(pc.sort_indices(seen))


def _part(
    table: pa.Table,
    split: str,
    config: Config,
    schema: RankerSchema,
    encoder: Encoder,
    fields: tuple[FieldSpec, ...],
    actions: pa.Array,
    groups: Sequence[str],
) -> Part:
    propensity = np.array(table[config.propensity].cast(pa.float64()).to_numpy(), dtype=np.float64)
    check_propensities(propensity, config.propensity)
    chosen = pc.index_in(table[config.action].combine_chunks().cast(actions.type), value_set=actions)
    if chosen.null_count:
        strange = table[config.action].filter(pc.is_null(chosen))[0].as_py()
        raise BadInputError(
            f"{chosen.null_count:,} {split} rows choose an {config.action} that no training row shows, such as "
            f"{strange!r}: learn from more rows, or drop these at ingestion"
        )
    group = pc.index_in(groups_in(table, config.candidates_per), value_set=pa.array(groups, pa.string()))
    if group.null_count:
        raise BadInputError(
            f"{group.null_count:,} {split} rows have a {config.candidates_per} that no training row has, or none: "
            "learn from more rows"
        )
    return Part(
        inputs=features_of(encoder, table, fields),
        group=_whole(group),
        chosen=_whole(chosen),
        propensity=propensity,
        reward=reward_of(table, config.reward),
        unit=_units(table, config, schema),
    )


def _units(table: pa.Table, config: Config, schema: RankerSchema) -> Integers:
    if config.unit == "row":
        return np.arange(table.num_rows, dtype=np.int64)
    declaration = schema.declaration
    column = table[str(declaration.request) if config.unit == "request" else declaration.user]
    return _whole(column.combine_chunks().dictionary_encode(null_encoding="encode").indices)


def _check_whole_requests(train: pa.Table, request: str, action: str) -> None:
    """Raise where the rows of a request had different actions, whose rewards depend on each other."""
    found = train.select([request, action]).group_by(request).aggregate([(action, "count_distinct")])
    several = found.filter(pc.greater(found[f"{action}_count_distinct"], 1))
    if several.num_rows:
        raise BadInputError(
            f"{several.num_rows:,} requests hold rows with different actions, such as {several[request][0].as_py()!r}, "
            "whose rewards depend on each other: set unit to request or user"
        )


def _check_two_each(allowed: NDArray[np.bool_], groups: Sequence[str], config: Config) -> None:
    for name, count in zip(groups, allowed.sum(axis=1), strict=True):
        if count < 2:
            raise BadInputError(
                f"the training rows of {name!r} choose one {config.action} only: a log that never tried another cannot "
                "teach a policy"
            )


def _check_support(propensity: Floats, config: Config) -> None:
    small = float((propensity < LEAST_PROPENSITY).mean())
    if config.clip is None and small > RARE:
        raise BadInputError(
            f"{small:.1%} of the training rows have a {config.propensity} below {LEAST_PROPENSITY:g}, so that a few "
            "rows would decide alone: set clip, such as 10"
        )


def _whole(values: pa.Array) -> Integers:
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.int64)
