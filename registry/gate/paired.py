"""Which rows does the gate judge, and what did two models answer to them? Columns of a table as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from features.declaration import weight_name
from features.ground.errors import BadInputError
from registry.evaluation import ALL
from registry.gate.decide import UNKNOWN_DOMAIN, PairedPredictions

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration

Array = NDArray[Any]


def judged_columns(roles: Declaration) -> set[str]:
    """Return the columns that `paired` reads."""
    named = {roles.user, *filter(None, (roles.domain, roles.request))}
    return {*named, *roles.feedback, *(weight_name(name) for name in roles.feedback)}


def paired(
    rows: pa.Table,
    roles: Declaration,
    challenger: Mapping[str, Array],
    champion: Mapping[str, Array] | None,
    what: str,
    remedy: str,
) -> PairedPredictions:
    """Return the answers of two models to labelled rows as the gate takes them.

    Args:
        rows: with a column per role and feedback.
        roles: which columns those are.
        challenger: by task, float64 ``[rows]``.
        champion: the same of the champion, None without one.
        what: the rows, for the sentence that says what they lack.
        remedy: what to do about it.

    Raises:
        BadInputError: a column is not there.
    """
    for name in (*roles.feedback, roles.user, *filter(None, (roles.domain, roles.request))):
        if name not in rows.column_names:
            raise BadInputError(f"{what} has no column {name!r}: {remedy}")
    return PairedPredictions(
        feedback=roles.feedback,
        labels={name: rows.column(name).to_numpy().astype(np.float64) for name in roles.feedback},
        challenger=challenger,
        champion=champion,
        user=codes_of(rows, roles.user),
        domain=domains_of(rows, roles),
        request=codes_of(rows, roles.request) if roles.request else None,
        weights={
            name: rows.column(column).to_numpy()
            for name in roles.feedback
            if (column := weight_name(name)) in rows.column_names
        },
        judge_by=roles.judge_by,
    )


def codes_of(rows: pa.Table, column: str) -> Array:
    """Return int64 ``[rows]``, equal for rows of equal values."""
    values = rows.column(column).to_numpy()
    return np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)[1]


def domains_of(rows: pa.Table, roles: Declaration) -> Array:
    """Return the domain of each row as a string, `ALL` where rows have none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if roles.domain is None:
        return np.full(rows.num_rows, ALL)
    named = pc.fill_null(pc.cast(rows.column(roles.domain), pa.string()), UNKNOWN_DOMAIN)
    return np.asarray(named.to_numpy().astype(str))
