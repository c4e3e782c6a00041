"""How does Great Expectations compare whole Arrow columns with bounds, where it would take one value after the other?

It has a comparison of whole columns for numpy's types alone; the columns of a table are Arrow's, which keep missing
values and 64-bit ids. Here it gets one for them, which answers where the answer is the same for certain, and leaves
everything else to the engine's own.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from features.suites import Expectation

if TYPE_CHECKING:
    import pandas as pd

    from features.joins.stored_rows import StoredRows

_BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")
EXACT = 2**53
"""Whole numbers up to here are the same as float64."""


@cache
def compare_whole_columns() -> None:
    """Let the engine's rule about bounds look at whole Arrow columns, in this process."""
    try:
        from great_expectations.execution_engine import PandasExecutionEngine
        from great_expectations.expectations.metrics import ColumnValuesBetween
        from great_expectations.expectations.metrics.map_metric_provider import column_condition_partial

        own = inspect.unwrap(ColumnValuesBetween._pandas)
    except (ImportError, AttributeError):  # another version, which takes the time it takes
        return

    registry = logging.getLogger("great_expectations.expectations.registry")
    level = registry.level
    registry.setLevel(logging.ERROR)  # it warns of a metric that is made anew, which is what is wanted
    try:

        class ArrowColumnValuesBetween(ColumnValuesBetween):  # a class is registered under its metric when it is made
            condition_metric_name = "column_values.between"

            @column_condition_partial(engine=PandasExecutionEngine)
            def _pandas(cls: type, column: pd.Series[Any], **arguments: Any) -> Any:  # noqa: N805  # as the engine's
                found = between(column, **{name: arguments.get(name) for name in _BOUNDS})
                return own(cls, column, **arguments) if found is None else found

    finally:
        registry.setLevel(level)


def between(
    column: pd.Series[Any], min_value: Any, max_value: Any, strict_min: Any = None, strict_max: Any = None
) -> pd.Series[Any] | None:
    """Return which values lie within bounds, or None where the engine's own comparison must tell.

    Args:
        column: no value is missing.
        min_value: smallest value, or None.
        max_value: largest value, or None.
        strict_min: whether `min_value` itself is too small.
        strict_max: whether `max_value` itself is too large.
    """
    import pandas as pd
    import pyarrow.compute as pc

    if not isinstance(column.dtype, pd.ArrowDtype) or (min_value is None and max_value is None):
        return None
    array = pa.array(column.array)
    if array.null_count:
        return None
    low, high = (_scalar(bound, array.type) for bound in (min_value, max_value))
    if (low is None) != (min_value is None) or (high is None) != (max_value is None):
        return None
    if low is not None and high is not None and pc.greater(low, high).as_py():
        return None
    inside = np.ones(len(array), dtype=bool)
    if low is not None:
        inside &= _flags((pc.greater if strict_min else pc.greater_equal)(array, low))
    if high is not None:
        inside &= _flags((pc.less if strict_max else pc.less_equal)(array, high))
    return pd.Series(inside, index=column.index)


def _flags(found: pa.Array | pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(found.to_numpy() if isinstance(found, pa.ChunkedArray) else found.to_numpy(zero_copy_only=False))


def _scalar(bound: Any, dtype: pa.DataType) -> pa.Scalar | None:
    """Return a bound as a value of a column's type, or None where that is not the same."""
    whole, real = pa.types.is_integer(dtype), pa.types.is_floating(dtype)
    exact = (
        (whole and type(bound) is int)
        or (real and type(bound) is float)
        or (real and type(bound) is int and abs(bound) <= EXACT)
        or (
            pa.types.is_timestamp(dtype)
            and isinstance(bound, datetime)
            and (bound.tzinfo is None) == (dtype.tz is None)
        )
    )
    if not exact:
        return None
    try:
        made = pa.scalar(bound, dtype)
    except (pa.ArrowInvalid, OverflowError):
        return None
    return made if real or made.as_py() == bound else None


def only_what_is_read(table: pa.Table | StoredRows, rules: Collection[Expectation]) -> pa.Table:
    """Return a table in which columns that no rule names hold nothing: the engine copies all of them for each rule."""
    named = {name for rule in rules for name in [*rule.columns, *_texts(rule.arguments)]}
    nothing = pa.nulls(table.num_rows)
    columns = [table.column(name) if name in named else nothing for name in table.column_names]
    return pa.table(columns, names=table.column_names)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


@contextlib.contextmanager
def no_fingerprint() -> Iterator[None]:
    """Keep the engine from hashing all rows into a mark of the batch that nobody reads."""
    try:
        from great_expectations.execution_engine import pandas_execution_engine as engine

        own = engine.hash_pandas_dataframe
    except (ImportError, AttributeError):
        yield
        return
    engine.hash_pandas_dataframe = lambda frame: ""
    try:
        yield
    finally:
        engine.hash_pandas_dataframe = own
