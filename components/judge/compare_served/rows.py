"""Which rows of a log compare two versions? Those that both answered, or that either answered while both might have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from components.ingest.ingest_served.answers import ROLE, SHADOW
from components.platform.errors import BadInputError, MissingError
from registry.gate.arms import Served
from registry.gate.decide import PairedPredictions
from registry.gate.paired import codes_of, domains_of, paired
from registry.serving.log.segments import ANSWER, BASE, SERVED

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration

Array = NDArray[Any]
WHAT = "the log"
REMEDY = "name it in ingest_served, and not in drop of the service's log"
_VERSION, _DIGEST, _REQUEST = f"{SERVED}version", f"{SERVED}digest", f"{SERVED}request"


@dataclass(frozen=True)
class Side:
    """One version as the log names it."""

    version: int
    digest: str
    """Digest of its files."""


@dataclass(frozen=True)
class Compared:
    """Rows that compare two versions, in the order of the log."""

    champion: Side
    challenger: Side
    rows: pa.Table
    """Raw rows with labels."""
    answers: pa.Table
    """What was answered to them, as `ingest_served` keeps it."""
    others: int
    """Rows of the log that other pairs of versions answered, or that compare nothing."""


def of_shadow(rows: pa.Table, answers: pa.Table) -> Compared:
    """Return the rows that the newest pair of champion and shadow answered both.

    Raises:
        MissingError: there are none.
    """
    names = (f"{SHADOW}version", f"{SHADOW}digest")
    if names[1] not in answers.column_names:
        raise _nothing("shadow")
    both = ~_equal(answers, ROLE, "canary") & ~_same(answers, names[1], _DIGEST)
    place = _latest(answers, both, "shadow")
    challenger, champion = _side(answers, place, *names), _side(answers, place, _VERSION, _DIGEST)
    kept = both & _equal(answers, names[1], challenger.digest) & _equal(answers, _DIGEST, champion.digest)
    return _taken(rows, answers, kept, champion, challenger)


def of_canary(rows: pa.Table, answers: pa.Table) -> Compared:
    """Return the rows of the newest canary, and those of the champion's users while both versions answered.

    A row of the champion from before there was a canary, or after it was given up, says nothing about one; nor does one
    that the champion answered for a canary that failed.

    Raises:
        MissingError: there are none of either.
    """
    drawn = (_propensity(answers) < 1) & ~_fell_back(answers)
    canary = drawn & _equal(answers, ROLE, "canary")
    challenger = _side(answers, _latest(answers, canary, "canary"), _VERSION, _DIGEST)
    canary &= _equal(answers, _DIGEST, challenger.digest)
    others = drawn & ~_equal(answers, ROLE, "canary") & ~_equal(answers, _DIGEST, challenger.digest)
    champion = _side(answers, _latest(answers, others, "canary"), _VERSION, _DIGEST)
    others &= _equal(answers, _DIGEST, champion.digest)
    at = _moments(answers)
    together = at >= max(at[canary].min(), at[others].min())
    return _taken(rows, answers, (canary | others) & together, champion, challenger)


def pair_of(compared: Compared, roles: Declaration, tasks: tuple[str, ...], answers: str) -> PairedPredictions:
    """Return what both versions answered to the same rows.

    Args:
        compared: rows of a shadow.
        roles: columns of the challenger's training set.
        tasks: what the challenger predicts.
        answers: ``base`` or ``served``.

    Raises:
        BadInputError: a column is not there.
    """
    prefix = BASE if answers == "base" else ANSWER
    new = {task: _answers(compared.answers, f"{SHADOW}{prefix}{task}") for task in tasks}
    names = compared.answers.column_names
    known = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    # A log of several versions has columns that this champion leaves empty.
    old = {
        task: _answers(compared.answers, f"{prefix}{task}")
        for task in known
        if task != "expected_value" and not compared.answers[f"{prefix}{task}"].null_count
    }
    # One question is one request.
    plain = roles.model_copy(update={"request": None})
    pair = paired(compared.rows, plain, new, old, WHAT, REMEDY)
    request = codes_of(compared.answers, _REQUEST) if roles.request is not None else None
    return replace(pair, request=request, weights={})


def arms_of(compared: Compared, roles: Declaration, answers: str) -> tuple[Served, Served]:
    """Return what the challenger answered to its users, and the champion to its own.

    Raises:
        BadInputError: a column is not there.
    """
    canary = _equal(compared.answers, ROLE, "canary")
    prefix = BASE if answers == "base" else ANSWER
    for name in (*roles.feedback, roles.user, *([roles.domain] if roles.domain else [])):
        if name not in compared.rows.column_names:
            raise BadInputError(f"{WHAT} has no column {name!r}: {REMEDY}")
    labels = {name: compared.rows[name].to_numpy().astype(np.float64) for name in roles.feedback}
    given = {name: _answers(compared.answers, f"{prefix}{name}") for name in roles.feedback}
    user, domain = codes_of(compared.rows, roles.user), domains_of(compared.rows, roles)
    propensity = _propensity(compared.answers)
    request = codes_of(compared.answers, _REQUEST)

    def arm(kept: Array) -> Served:
        return Served(
            labels={name: values[kept] for name, values in labels.items()},
            answers={name: values[kept] for name, values in given.items()},
            user=user[kept],
            domain=domain[kept],
            propensity=propensity[kept],
            request=request[kept],
        )

    return arm(canary), arm(~canary)


def _taken(rows: pa.Table, answers: pa.Table, kept: Array, champion: Side, challenger: Side) -> Compared:
    import pyarrow as pa

    places = pa.array(np.flatnonzero(kept))
    return Compared(champion, challenger, rows.take(places), answers.take(places), int((~kept).sum()))


def _side(answers: pa.Table, place: int, version: str, digest: str) -> Side:
    return Side(int(answers[version][place].as_py()), str(answers[digest][place].as_py()))


def _latest(answers: pa.Table, kept: Array, way: str) -> int:
    """Return the place of the latest of some rows."""
    if not kept.any():
        raise _nothing(way)
    places = np.flatnonzero(kept)
    return int(places[np.argmax(_moments(answers)[places])])


def _nothing(way: str) -> MissingError:
    return MissingError(
        f"no row of the log compares the champion with a {way}: give the service a {way}, let it answer, or move the "
        "window"
    )


def _propensity(answers: pa.Table) -> Array:
    """Return the chance of each row's arm; 1 in logs of a release that knew no canary."""
    import pyarrow.compute as pc

    name = f"{SERVED}propensity"
    if name not in answers.column_names:
        return np.ones(answers.num_rows)
    return np.asarray(pc.fill_null(answers[name], 1.0).to_numpy())


def _moments(answers: pa.Table) -> Array:
    import pyarrow as pa

    return np.asarray(answers[f"{SERVED}at"].cast(pa.int64()).to_numpy())


def _equal(answers: pa.Table, name: str, value: str) -> Array:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(pc.equal(answers[name], value), False).to_numpy())


def _same(answers: pa.Table, name: str, other: str) -> Array:
    """Return where two columns are equal, or the first is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = (answers[column].cast(pa.string()) for column in (name, other))
    return np.asarray(pc.fill_null(pc.equal(*texts), True).to_numpy())


def _fell_back(answers: pa.Table) -> Array:
    import pyarrow.compute as pc

    found = np.zeros(answers.num_rows, dtype=bool)
    name = f"{SERVED}degraded"
    if name in answers.column_names:
        reasons = answers[name].combine_chunks()
        hit = pc.equal(pc.list_flatten(reasons), "canary").to_numpy(zero_copy_only=False)
        found[pc.list_parent_indices(reasons).to_numpy()[hit]] = True
    return found


def _answers(answers: pa.Table, name: str) -> Array:
    if name not in answers.column_names or answers[name].null_count:
        raise BadInputError(f"the log has no answers {name!r} of every compared row: log them with this release")
    return np.asarray(answers[name].to_numpy(), dtype=np.float64)
