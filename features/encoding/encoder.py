"""How does a raw feature value become a model input? One code path for training, evaluation and serving.

An `Encoder` is fitted on the training split only, saved beside every model (`features.encoding.files`), and applied to
Arrow tables. Index 0 is padding or missing, 1 is a value the training split never held, known values
follow from 2 in sorted order.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from features.declaration import FIRST, PADDING, FieldEncoding, FieldSpec
from features.encoding.fitted import LISTS, ORDERED_OR_BAG, FittedField
from features.encoding.kinds import check_times, kind_of, owner_of
from features.encoding.lists import (
    check_width,
    column_of,
    elapsed,
    elements,
    lists_column,
    pad,
    raw_column,
    referenced,
    request_times,
    shares_values,
    values_of,
)
from features.encoding.numbers import Knots, binned, normal_scores, numbers_of, quantiles, scaled, scored
from features.encoding.slices import NO_TIME, Slices, narrow, slices_of, stream
from features.encoding.vocabularies import Vocabulary, hashed, vocabulary_of
from features.ground.errors import BadInputError, did_you_mean
from features.moments import moments


@dataclass(frozen=True)
class Encoder:
    """The fitted encoding of every feature of a ranker."""

    fitted: tuple[FittedField, ...]
    """One entry per feature, sorted by name."""
    vocabularies: Mapping[str, Vocabulary]
    """Known values by table; value i has index i + 2."""

    @classmethod
    def fit(
        cls,
        table: pa.Table,
        dtypes: Mapping[str, str],
        overrides: Mapping[str, FieldEncoding] | None = None,
        request_time: str = "event_timestamp",
    ) -> Encoder:
        """Learn vocabularies, bins and scales.

        Args:
            table: rows of the training split, one column per feature.
            dtypes: Feast dtype by feature; its keys are the features.
            overrides: encodings that replace the default of a feature's dtype.
            request_time: column with the time of the request; needed by `elapsed` only.

        Raises:
            BadInputError: a feature has no column, a dtype has no encoding, or an override does not fit.
        """
        overrides = overrides or {}
        for name in overrides:
            if name not in dtypes:
                raise BadInputError(f"encode: {name!r} is not a feature{did_you_mean(name, dtypes)}")
        plans = {name: kind_of(name, dtypes[name], overrides.get(name)) for name in sorted(dtypes)}
        owners = {name: owner_of(name, plans, overrides) for name in plans}
        check_times(plans, overrides)
        seen: dict[str, list[pa.StructArray]] = {}
        fitted = []
        for name, kind in plans.items():
            option = overrides.get(name, FieldEncoding())
            shared = kind in LISTS and shares_values(table, name)
            column = table.column(name) if shared else column_of(table, name, dtypes[name])
            field = FittedField(name=name, kind=kind, dtype=dtypes[name], time=pa.types.is_timestamp(column.type))
            if kind in LISTS:
                read = {"length": option.length, "timed_by": option.timed_by, "order": option.order}
                field = field.model_copy(update=read)
            owner = owners[name]
            if owner is not None:
                field = field.model_copy(update={"table": owner})
                if kind in LISTS:
                    least = overrides.get(owner, FieldEncoding()).min_count
                    flat = referenced(lists_column(field, table), least) if shared else column.flatten()
                    column = values_of(flat, dtypes[name])
                if plans[owner] == "hash":
                    owner_option = overrides.get(owner, FieldEncoding())
                    field = field.model_copy(update={"buckets": owner_option.buckets})
                else:
                    seen.setdefault(owner, []).append(column.value_counts())
            elif kind == "elapsed":
                field = field.model_copy(update={"request_time": request_time})
            elif kind == "vector":
                check_width(name, column, option.length)
            elif kind in ("number", "normalise"):
                numbers = numbers_of(column)
                mean, scale = moments(numbers)
                field = field.model_copy(update={"mean": mean, "scale": scale})
                if kind == "number":
                    edges, scores = normal_scores(numbers)
                    misses = not bool(np.isfinite(numbers).all())
                    field = field.model_copy(update={"edges": edges, "scores": scores, "misses": misses})
            else:
                edges = quantiles(numbers_of(column), option.buckets)
                field = field.model_copy(update={"edges": edges, "table": name})
            fitted.append(field)
        vocabularies = {
            owner: vocabulary_of(owner, counts, overrides.get(owner, FieldEncoding()).min_count)
            for owner, counts in sorted(seen.items())
        }
        return cls(fitted=tuple(fitted), vocabularies=vocabularies)

    @property
    def fields(self) -> tuple[FieldSpec, ...]:
        """Model inputs that `encode` produces, sorted by name."""
        return tuple(self._spec(field) for field in self.fitted)

    @property
    def columns(self) -> list[str]:
        """Columns that raw rows need, sorted."""
        return sorted({f.name for f in self.fitted} | {f.request_time for f in self.fitted if f.request_time})

    @cached_property
    def _knots(self) -> dict[str, Knots]:
        return {f.name: (np.array(f.edges), np.array(f.scores)) for f in self.fitted}

    def _spec(self, field: FittedField) -> FieldSpec:
        if field.kind == "normalise":
            return FieldSpec(name=field.name, kind="numeric")
        if field.kind == "number":
            return FieldSpec(name=field.name, kind="numeric", length=3)
        if field.kind in ("elapsed", "vector"):
            return FieldSpec(name=field.name, kind=field.kind, length=field.length)
        if field.kind == "bin":
            size = FIRST + len(field.edges) + 1
        elif field.buckets:
            size = FIRST + field.buckets
        else:
            size = FIRST + len(self.vocabularies[str(field.table)])
        if field.kind in ("sequence", "bag"):
            return FieldSpec(
                name=field.name,
                kind="sequence",
                size=size,
                table=field.table,
                length=field.length,
                pooled=field.kind == "bag",
                timed_by=field.timed_by,
                content=field.content,
            )
        return FieldSpec(name=field.name, kind="categorical", size=size, table=field.table, content=field.content)

    def made_of(self, columns: Collection[str]) -> frozenset[str]:
        """Return the fields that are made of these columns alone."""
        own = {f.name for f in self.fitted if {f.name, f.request_time or f.name} <= {*columns}}
        return frozenset(f.name for f in self.fitted if {f.name, f.timed_by or f.name} <= own)

    def encode(self, table: pa.Table, once: Collection[str] = ()) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model inputs of raw rows.

        Args:
            table: raw rows; columns that are not features are ignored.
            once: fields of which all rows hold the same; they come in one row.

        Returns:
            By field: int64 ``[rows]`` for categorical, float32 ``[rows]`` or ``[rows, length]`` for numeric, int64
            ``[rows, length]`` for sequences, the newest values first and padded at the end with 0, float32
            ``[rows, length]`` for elapsed times, padded with −1, and for vectors; see `FieldSpec`.

        Raises:
            BadInputError: a column is missing or cannot be read as its dtype, or a vector has another width.
        """
        first = table.slice(0, 1) if once else table
        made = {}
        for field in self.fitted:
            rows = first if field.name in once else table
            made[field.name] = self._encode(field, raw_column(field, rows), rows)
        for field in self.fitted:
            if field.timed_by is not None:  # an event after the request is not there, whoever reads the history
                made[field.name] = np.where(made[field.timed_by] < 0, PADDING, made[field.name])
        return made

    def encode_slices(self, table: pa.Table) -> dict[str, np.ndarray[Any, Any] | Slices]:
        """Return the model inputs of many rows, as small as they can be: `encode` gives the same, padded.

        Returns:
            By field: indices ``[rows]`` in the smallest integer type that holds them, float32 as `encode` gives them,
            and `Slices` of histories, bags and times. Rows whose lists are views of the same values share them.

        Raises:
            BadInputError: as `encode`.
        """
        plain = {
            field.name: self.encode_plain(field, table) for field in self.fitted if field.kind not in ORDERED_OR_BAG
        }
        return plain | self.encode_lists(table)

    def encode_plain(self, field: FittedField, table: pa.Table) -> np.ndarray[Any, Any]:
        """Return the input that a field without lists of its own length makes of rows, as `encode_slices` gives it."""
        values = self._encode(field, raw_column(field, table), table)
        return narrow(values, size) if (size := self._sizes[field.name]) else values

    def encode_lists(self, table: pa.Table) -> dict[str, Slices]:
        """Return the histories, bags and times of rows, as `encode_slices` gives them."""
        made: dict[str, Slices] = {}
        for field in self.fitted:
            if field.kind not in ORDERED_OR_BAG:
                continue
            lists, starts, counts = slices_of(lists_column(field, table), field.length)
            if field.kind == "elapsed":
                times = lists.fill_null(NO_TIME).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
                requests = request_times(table, str(field.request_time), field.name)
                made[field.name] = Slices(times, starts, counts, field.length, requests)
            else:
                values = values_of(lists, field.dtype)
                del lists
                made[field.name] = Slices(self._narrow_indices(field, values), starts, counts, field.length)
        for name, times in [(name, each) for name, each in made.items() if each.timed]:
            timed = {field.name: made[field.name] for field in self.fitted if field.timed_by == name}
            made[name], attributes = stream(times, timed)
            made |= attributes
        return made

    def at_once(self, field: FittedField) -> int:
        """Return how many values of a field are worth encoding at once: its vocabulary is hashed anew every time."""
        return max(1 << 20, 4 * len(self.vocabularies.get(str(field.table), ())))

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {spec.name: spec.size for spec in self.fields}

    def _narrow_indices(self, field: FittedField, values: pa.Array) -> np.ndarray[Any, Any]:
        """Return the indices of many values, a part of them after the other."""
        size, step = self._sizes[field.name], self.at_once(field)
        parts = (values.slice(at, step) for at in range(0, max(1, len(values)), step))
        return np.concatenate([narrow(self._indices(field, part), size) for part in parts])

    def _encode(self, field: FittedField, column: pa.Array, table: pa.Table) -> np.ndarray[Any, Any]:
        if field.kind == "elapsed":
            return elapsed(column, request_times(table, str(field.request_time), field.name), field.length)
        if field.kind == "vector":
            check_width(field.name, column, field.length)
            flat = column.flatten().to_numpy(zero_copy_only=False)
            return pad(column, np.where(np.isfinite(flat), flat, 0.0).astype(np.float32), field.length, 0.0)
        if field.kind == "normalise":
            return scaled(field, numbers_of(column)).astype(np.float32)
        if field.kind == "number":
            return scored(field, self._knots[field.name], numbers_of(column))
        if field.kind == "bin":
            return binned(self._knots[field.name], numbers_of(column))
        if field.kind in ("sequence", "bag"):
            return pad(column, self._indices(field, elements(column, field.dtype)), field.length, PADDING)
        return self._indices(field, column)

    def with_vocabulary(self, field: FittedField) -> bool:
        """Return whether values that training never held can be told: a hash sends them where known ones are."""
        return field.kind in ("vocabulary", "sequence", "bag") and str(field.table) in self.vocabularies

    def _indices(self, field: FittedField, column: pa.Array) -> np.ndarray[Any, Any]:
        if field.buckets:
            known = FIRST + (hashed(column) % np.uint64(field.buckets)).astype(np.int64)
        else:
            # Of an absent one this is UNKNOWN.
            known = FIRST + self.vocabularies[str(field.table)].places(column)
        if column.null_count:
            known[column.is_null().to_numpy(zero_copy_only=False)] = PADDING
        return known
