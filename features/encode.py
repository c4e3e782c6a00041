"""How does a raw feature value become a model input? One code path for training, evaluation and serving.

An `Encoder` is fitted on the training split only, saved as JSON beside every model, and applied to
Arrow tables. Index 0 is padding or missing, 1 is a value the training split never held, known values
follow from 2 in sorted order.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from features.casts import FLOATS, INTEGERS, as_dtype
from features.declaration import (
    FIRST,
    MISSING_ELEMENT,
    ORDERED,
    PADDING,
    UNKNOWN,
    FieldEncoding,
    FieldSpec,
    Frozen,
    Name,
)
from features.ground.errors import BadInputError, did_you_mean
from features.moments import moments

Kind = Literal["vocabulary", "hash", "number", "normalise", "bin", "sequence", "bag", "elapsed", "vector"]
LISTS = ("sequence", "bag", "elapsed", "vector")
"""Kinds of features with several values per row."""
NUMBERS = ("number", "normalise", "bin")
"""Kinds of features with one number per row."""
KNOTS = 257
"""Training quantiles between which `number` interpolates, the ends included."""
OUTERMOST = 0.001
"""Share of the training rows that the least and the largest score stand for: a normal score of ±3.09."""
LARGEST = 10.0
"""Normalised values are clipped to ±LARGEST standard deviations, so that one outlier cannot rule a batch."""


class FittedField(Frozen):
    """How one feature is encoded, with what was learned from the training split."""

    name: Name
    """Feature and column name."""
    kind: Kind
    """See `features.declaration.FieldEncoding`."""
    dtype: str
    """Feast dtype of the column, such as ``int64``, ``float32`` or ``array<string>``."""
    table: Name | None = None
    """Feature whose vocabulary, and so whose embedding table, is used; None for numbers."""
    buckets: int = 0
    """Rows of a hash encoding."""
    length: int = 0
    """Longest history kept; width of a vector."""
    order: Literal["newest_first", "oldest_first"] = "newest_first"
    """How the column lists a history, see `features.declaration.FieldEncoding`."""
    timed_by: Name | None = None
    """Feature with the times of this history."""
    request_time: Name | None = None
    """Column with the time of the request, of which an elapsed time is counted back."""
    mean: float = 0.0
    """Training mean of a normalised number, without values far from the others: see `features.moments`."""
    scale: float = 1.0
    """Training standard deviation of the same, 1 where it is constant."""
    edges: tuple[float, ...] = ()
    """Inner edges of a binned number; of a `number` the training quantiles, ascending."""
    scores: tuple[float, ...] = Field((), exclude_if=lambda scores: not scores)
    """Normal scores of the `edges` of a `number`."""
    misses: bool = Field(False, exclude_if=lambda misses: not misses)
    """Whether the training split misses values of a `number`; where it does not, nothing was learned of them."""
    time: bool = False
    """Whether the column held times, which are read as seconds since 1970 UTC."""


class Encoder(Frozen):
    """The fitted encoding of every feature of a ranker."""

    fitted: tuple[FittedField, ...]
    """One entry per feature, sorted by name."""
    vocabularies: dict[Name, tuple[int, ...] | tuple[str, ...]]
    """Known values by table, sorted; value i has index i + 2."""

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
        plans = {name: _kind(name, dtypes[name], overrides.get(name)) for name in sorted(dtypes)}
        owners = {name: _owner(name, plans, overrides) for name in plans}
        _check_times(plans, overrides)
        seen: dict[str, list[pa.Array]] = {}
        fitted = []
        for name, kind in plans.items():
            option = overrides.get(name, FieldEncoding())
            column = _column(table, name, dtypes[name])
            field = FittedField(name=name, kind=kind, dtype=dtypes[name], time=pa.types.is_timestamp(column.type))
            if kind in LISTS:
                read = {"length": option.length, "timed_by": option.timed_by, "order": option.order}
                field = field.model_copy(update=read)
            owner = owners[name]
            if owner is not None:
                field = field.model_copy(update={"table": owner})
                if kind in LISTS:
                    column = _elements(column, dtypes[name])
                if plans[owner] == "hash":
                    owner_option = overrides.get(owner, FieldEncoding())
                    field = field.model_copy(update={"buckets": owner_option.buckets})
                else:
                    seen.setdefault(owner, []).append(_vocabulary_values(column))
            elif kind == "elapsed":
                field = field.model_copy(update={"request_time": request_time})
            elif kind == "vector":
                _check_width(name, column, option.length)
            elif kind in ("number", "normalise"):
                numbers = _numbers(column)
                mean, scale = moments(numbers)
                field = field.model_copy(update={"mean": mean, "scale": scale})
                if kind == "number":
                    edges, scores = _normal_scores(numbers)
                    misses = not bool(np.isfinite(numbers).all())
                    field = field.model_copy(update={"edges": edges, "scores": scores, "misses": misses})
            else:
                edges = _quantiles(_numbers(column), option.buckets)
                field = field.model_copy(update={"edges": edges, "table": name})
            fitted.append(field)
        vocabularies = {
            owner: _vocabulary(owner, arrays, overrides.get(owner, FieldEncoding()).min_count)
            for owner, arrays in sorted(seen.items())
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
            )
        return FieldSpec(name=field.name, kind="categorical", size=size, table=field.table)

    def encode(self, table: pa.Table) -> dict[str, np.ndarray[Any, Any]]:
        """Return the model inputs of raw rows.

        Args:
            table: raw rows; columns that are not features are ignored.

        Returns:
            By field: int64 ``[rows]`` for categorical, float32 ``[rows]`` or ``[rows, length]`` for numeric, int64
            ``[rows, length]`` for sequences, the newest values first and padded at the end with 0, float32
            ``[rows, length]`` for elapsed times, padded with −1, and for vectors; see `FieldSpec`.

        Raises:
            BadInputError: a column is missing or cannot be read as its dtype, or a vector has another width.
        """
        made = {field.name: self._encode(field, _raw(field, table), table) for field in self.fitted}
        for field in self.fitted:
            if field.timed_by is not None:  # an event after the request is not there, whoever reads the history
                made[field.name] = np.where(made[field.timed_by] < 0, PADDING, made[field.name])
        return made

    def _encode(self, field: FittedField, column: pa.Array, table: pa.Table) -> np.ndarray[Any, Any]:
        if field.kind == "elapsed":
            return _elapsed(column, _request_times(table, str(field.request_time), field.name), field.length)
        if field.kind == "vector":
            _check_width(field.name, column, field.length)
            flat = _flatten(column).to_numpy(zero_copy_only=False)
            return _pad(column, np.where(np.isfinite(flat), flat, 0.0).astype(np.float32), field.length, 0.0)
        if field.kind == "normalise":
            return _scaled(field, _numbers(column)).astype(np.float32)
        if field.kind == "number":
            values = _numbers(column)
            flags = ~np.isfinite(values) & field.misses
            return np.column_stack((_scored(field, values), _scaled(field, values), flags)).astype(np.float32)
        if field.kind == "bin":
            values = _numbers(column)
            bins = np.searchsorted(np.asarray(field.edges), np.where(np.isfinite(values), values, 0.0), side="right")
            return np.where(np.isfinite(values), bins + FIRST, PADDING).astype(np.int64)
        if field.kind in ("sequence", "bag"):
            return _pad(column, self._indices(field, _elements(column, field.dtype)), field.length, PADDING)
        return self._indices(field, column)

    def with_vocabulary(self, field: FittedField) -> bool:
        """Return whether values that training never held can be told: a hash sends them where known ones are."""
        return field.kind in ("vocabulary", "sequence", "bag") and str(field.table) in self.vocabularies

    def _indices(self, field: FittedField, column: pa.Array) -> np.ndarray[Any, Any]:
        values = _vocabulary_values(column)
        missing = pc.is_null(values).to_numpy(zero_copy_only=False)
        if field.buckets:
            known = FIRST + (_hash(values) % np.uint64(field.buckets)).astype(np.int64)
        else:
            vocabulary = pa.array(self.vocabularies[str(field.table)], type=values.type)
            found = pc.fill_null(pc.index_in(values, value_set=vocabulary), UNKNOWN - FIRST)
            known = found.to_numpy(zero_copy_only=False).astype(np.int64) + FIRST
        return np.where(missing, PADDING, known).astype(np.int64)


def _kind(name: str, dtype: str, option: FieldEncoding | None) -> Kind:
    array = dtype.startswith("array<")
    default: Kind | None = None
    if array and dtype[6:-1] in (*INTEGERS, "string"):
        default = "sequence"
    elif array and dtype[6:-1] in FLOATS:
        default = "vector"
    elif dtype in INTEGERS or dtype == "string":
        default = "vocabulary"
    elif dtype in FLOATS:
        default = "number"
    if default is None:
        raise BadInputError(f"feature {name!r} has dtype {dtype!r}, which has no encoding: drop it or change its dtype")
    kind = option.kind if option is not None and option.kind is not None else default
    real = array and dtype[6:-1] in FLOATS
    fits = array == (kind in LISTS) and not (kind in NUMBERS and dtype == "string")
    if option is not None and option.order == "oldest_first" and kind not in ORDERED:
        raise BadInputError(f"encode: {name!r} is {dtype}, of which order says nothing: leave it out")
    if not fits or real != (kind == "vector") or (kind == "elapsed" and dtype != "array<int64>"):
        raise BadInputError(f"encode: {name!r} is {dtype} and cannot be encoded as {kind!r}")
    if kind == "vocabulary" and dtype in FLOATS:
        raise BadInputError(f"encode: {name!r} is {dtype} and has no vocabulary: use 'number' or 'bin'")
    return kind


def _owner(name: str, plans: Mapping[str, Kind], overrides: Mapping[str, FieldEncoding]) -> str | None:
    if plans[name] in (*NUMBERS, "elapsed", "vector"):
        return None
    owner = overrides[name].shares if name in overrides else None
    if owner is None:
        return name
    if plans.get(owner) not in ("vocabulary", "hash"):
        raise BadInputError(f"encode: {name!r} shares {owner!r}, which is not a feature with a vocabulary or hash")
    return owner


def _check_times(plans: Mapping[str, Kind], overrides: Mapping[str, FieldEncoding]) -> None:
    """Check that every history with times names a feature that holds times, of the same length."""
    for name in plans:
        option = overrides.get(name)
        if option is None or option.timed_by is None:
            continue
        times = option.timed_by
        if plans[name] != "sequence" or plans.get(times) != "elapsed":
            raise BadInputError(
                f"encode: {name!r} is timed by {times!r}: timed_by goes from a sequence to a feature encoded as "
                "'elapsed'; name one or leave it out"
            )
        if (other := overrides[times].length) != option.length:
            raise BadInputError(
                f"encode: {name!r} keeps {option.length} events and its times {times!r} keep {other}: give both "
                "the same length"
            )
        if (order := overrides[times].order) != option.order:
            raise BadInputError(
                f"encode: {name!r} is read {option.order} and its times {times!r} {order}: give both the same order"
            )


def _check_width(name: str, column: pa.Array, width: int) -> None:
    lengths = pc.list_value_length(column)
    wrong = pc.unique(lengths.filter(pc.not_equal(lengths, width)))
    if len(wrong):
        raise BadInputError(
            f"feature {name!r} holds vectors of width {wrong[0]}, its encoding says {width}: correct the vectors, or "
            "set length to their width"
        )


def _request_times(table: pa.Table, name: str, wanted_by: str) -> np.ndarray[Any, Any]:
    """Return the requests' times as int64 µs since 1970 UTC."""
    if name not in table.column_names:
        raise BadInputError(f"column {name!r} is missing from the rows: {wanted_by!r} counts back from it, add it")
    column = table.column(name)
    if not pa.types.is_timestamp(column.type) or column.null_count:
        what = f"{column.null_count} nulls" if pa.types.is_timestamp(column.type) else str(column.type)
        raise BadInputError(f"column {name!r} holds {what}: {wanted_by!r} counts back from it, give every row a time")
    micros = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    return np.asarray(micros.to_numpy())


def _elapsed(column: pa.Array, requests: np.ndarray[Any, Any], length: int) -> np.ndarray[Any, Any]:
    """Return float32 ``[rows, length]`` seconds from each event to its row's request, −1 where there is none."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    flat = _elements(column, "array<int64>")
    missing = pc.is_null(flat).to_numpy(zero_copy_only=False)
    # Subtracted as whole microseconds: a float32 holds no time since 1970 to the second.
    since = np.repeat(requests, lengths) - flat.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    # Whatever lies after the request, however little, stays visibly below zero.
    seconds = np.where(missing | (since < 0), -1.0, since / 1e6).astype(np.float32)
    return _pad(column, seconds, length, -1.0)


def _column(table: pa.Table, name: str, dtype: str, time: bool = False) -> pa.Array:
    if name not in table.column_names:
        raise BadInputError(f"feature {name!r} is missing from the rows: add the column ({dtype})")
    return as_dtype(table.column(name), name, dtype, time)


def _raw(field: FittedField, table: pa.Table) -> pa.Array:
    """Return a field's column, its lists with their newest value first whatever their order in the rows."""
    column = _column(table, field.name, field.dtype, field.time)
    if field.order == "newest_first":
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    # Value i of all lists of a row lies as far from the row's end as it lay from its beginning.
    mirrored = np.repeat(offsets[:-1] + offsets[1:] - 1, lengths) - np.arange(offsets[-1])
    values = _flatten(column).take(pa.array(mirrored))
    missing = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=column.type, mask=missing)


def _numbers(column: pa.Array) -> np.ndarray[Any, Any]:
    """Return float64 values, NaN for missing; times as seconds since 1970 UTC."""
    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64())
        return micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def _vocabulary_values(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else column.cast(pa.int64())


def _flatten(column: pa.Array) -> pa.Array:
    return column.flatten()


def _elements(column: pa.Array, dtype: str) -> pa.Array:
    """Return what the lists hold, one after the other; what stands for a missing element is null again."""
    flat = _flatten(column)
    missing = MISSING_ELEMENT.get(dtype[6:-1])
    if missing is None or isinstance(missing, float):  # a vector reads NaN as it reads null
        return flat
    return pc.if_else(pc.equal(flat, pa.scalar(missing, flat.type)), pa.scalar(None, flat.type), flat)


def _vocabulary(owner: str, arrays: list[pa.Array], min_count: int) -> tuple[int, ...] | tuple[str, ...]:
    values = pa.concat_arrays([array.drop_null() for array in arrays])
    counts = values.value_counts()
    kept = counts.field("values").filter(pc.greater_equal(counts.field("counts"), min_count))
    if len(kept) == 0:
        raise BadInputError(
            f"feature {owner!r} has no value in the training split that occurs {min_count} times: drop it"
        )
    return tuple(sorted(kept.to_pylist()))


def _quantiles(values: np.ndarray[Any, Any], buckets: int) -> tuple[float, ...]:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return ()
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, buckets + 1)[1:-1], method="lower"))
    return tuple(float(edge) for edge in edges)


def _normal_scores(values: np.ndarray[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the quantiles of the finite values, each once, and the normal score of the middle of its ranks."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (), ()
    ranks = np.linspace(0, 1, KNOTS)
    quantiles = np.quantile(finite, ranks)
    edges = np.unique(quantiles)
    first, last = (np.searchsorted(quantiles, edges, side=side) for side in ("left", "right"))
    middle = np.clip((ranks[first] + ranks[last - 1]) / 2, OUTERMOST, 1 - OUTERMOST)
    return tuple(edges.tolist()), tuple(NormalDist().inv_cdf(share) for share in middle.tolist())


def _scored(field: FittedField, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float64 ``[rows]`` normal scores, 0 where the value is missing."""
    known = np.isfinite(values)
    scores = np.zeros(len(values))
    if field.edges:
        scores[known] = np.interp(values[known], field.edges, field.scores)
    return scores


def _scaled(field: FittedField, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float64 ``[rows]`` standard deviations from the mean, 0 where the value is missing."""
    scaled = (values - field.mean) / field.scale
    return np.clip(np.where(np.isfinite(scaled), scaled, 0.0), -LARGEST, LARGEST)


def _pad(column: pa.Array, values: np.ndarray[Any, Any], length: int, padding: float) -> np.ndarray[Any, Any]:
    """Lay flattened list elements out as ``[rows, length]`` of the same dtype, the first `length` of each row."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])) if len(lengths) else np.zeros(0, dtype=np.int64)
    positions = np.arange(len(rows)) - np.repeat(starts, lengths)
    kept = positions < length
    padded = np.full((len(lengths), length), padding, dtype=values.dtype)
    padded[rows[kept], positions[kept]] = values[kept]
    return padded


def _hash(values: pa.Array) -> np.ndarray[Any, Any]:
    """Return uint64 hashes that are the same on every machine and in every version."""
    if pa.types.is_string(values.type):
        from pandas.util import hash_array

        return np.asarray(hash_array(values.fill_null("").to_numpy(zero_copy_only=False), categorize=True))
    x = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
    with np.errstate(over="ignore"):  # the finaliser of SplitMix64 works modulo 2^64
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
