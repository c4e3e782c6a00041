"""Which rows judge a task? Labels, users and domains of the raw split, and the space of each task."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.platform.errors import BadInputError
from components.rankers.tasks import Task
from features.declaration import Declaration, weight_name
from registry.evaluation import ALL

NO_DOMAIN = "(none)"
"""Domain of rows that name none."""


@dataclass(frozen=True)
class Judged:
    """Everything about the rows that a metric needs besides scores."""

    labels: dict[str, np.ndarray[Any, np.dtype[np.float64]]]
    """By feedback: float64 ``[rows]``, 0 or 1."""
    user: np.ndarray[Any, np.dtype[np.int64]]
    """int64 ``[rows]`` codes."""
    domain: np.ndarray[Any, Any] | None
    """String ``[rows]`` values; None without domains."""
    start: datetime | None
    """Time of the earliest row; None without rows."""
    end: datetime | None
    """One microsecond after the latest row."""
    request: np.ndarray[Any, np.dtype[np.int64]] | None = None
    """int64 ``[rows]`` codes of what was shown together; None where the rows do not tell."""
    group: np.ndarray[Any, Any] | None = None
    """String ``[rows]`` values that a fairness audit asks about; None without them."""
    weights: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = field(default_factory=dict)
    """By feedback that has one: float64 ``[rows]``, how much a row counts in its loss."""

    def space(self, task: Task) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which rows judge `task`: all of them, or those with the feedback it is conditional on."""
        if task.given is None:
            return np.ones(self.user.size, dtype=bool)
        mask: np.ndarray[Any, np.dtype[np.bool_]] = self.labels[task.given] == 1
        return mask

    def parts(self, task: Task, domains: Iterable[str]) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]]:
        """Yield ``ALL`` with the rows that judge `task`, then each domain with those of them that it has."""
        space = self.space(task)
        yield ALL, space
        if self.domain is not None:
            for domain in domains:
                yield domain, space & (self.domain == domain)

    def domains(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """Return the known domain values and those of the rows, sorted."""
        return tuple(sorted({*known, *([] if self.domain is None else np.unique(self.domain).tolist())}))


def describe_space(task: Task) -> str:
    """Return the words of a report for the rows that judge `task`."""
    return "every impression" if task.given is None else f"impressions with {task.given}"


def role_columns(present: Collection[str], declaration: Declaration) -> list[str]:
    """Return the columns that `judged` reads and that name a row, as far as they are present."""
    roles = ["row_id", declaration.user, declaration.time, *declaration.feedback]
    roles += filter(None, (declaration.domain, declaration.request, declaration.group))
    roles += [weight_name(name) for name in declaration.feedback]
    return [name for name in dict.fromkeys(roles) if name in present]


def judged(table: pa.Table, declaration: Declaration) -> Judged:
    """Read the roles of raw rows.

    Raises:
        BadInputError: a column of the declaration is missing, a label is absent or not 0 or 1, or a domain
            has the name that reports give to all of them.
    """
    roles = [*declaration.feedback, declaration.user, declaration.time]
    for name in [*roles, *filter(None, (declaration.domain, declaration.request, declaration.group))]:
        if name not in table.column_names:
            raise BadInputError(
                f"rows have no column {name!r}, which the model's declaration names: wire its own dataset"
            )
    times = pc.min_max(table[declaration.time]).as_py()
    return Judged(
        labels={name: _labels(table, name) for name in declaration.feedback},
        user=_codes(table[declaration.user]),
        domain=_domains(table[declaration.domain]) if declaration.domain else None,
        start=times["min"],
        end=times["max"] + timedelta(microseconds=1) if times["max"] is not None else None,
        request=_codes(table[declaration.request]) if declaration.request else None,
        group=_words(table[declaration.group]) if declaration.group else None,
        weights={
            name: table[column].to_numpy().astype(np.float64)
            for name in declaration.feedback
            if (column := weight_name(name)) in table.column_names
        },
    )


def _labels(table: pa.Table, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    column = table[name].cast(pa.float64())
    values = np.asarray(column.to_numpy(), dtype=np.float64)
    if column.null_count or not np.isin(values, (0.0, 1.0)).all():
        raise BadInputError(f"label {name!r} has rows that are neither 0 nor 1: build the training set again")
    return values


def _codes(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _words(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    return np.asarray(pc.fill_null(column.cast(pa.string()), NO_DOMAIN).to_numpy(), dtype=str)


def _domains(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    values = _words(column)
    if (values == ALL).any():
        raise BadInputError(f"a domain is called {ALL!r}, the word of a report for every domain together: rename it")
    return values
