"""What did a model see and say when it was judged? What later days are compared with, to tell that something drifted.

A version carries it as `baseline.json`: how the values of each feature are spread, how scores are in each domain, and
where the representation lies. The same rows in another order give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from features.declaration import Frozen, Window
from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import pyarrow as pa

    from features.joins.row_file import RowFile
    from registry.serving.answers.by_block import Said
    from registry.serving.model.served_model import Probabilities, ServedModel

BASELINE = "baseline.json"
BINS = 20
"""Bins of numbers and of scores, with about as many rows each."""
TOP = 100
"""Values of a category that are counted by themselves, the commonest."""
LONGEST = 64
"""Characters of such a value."""
PROJECTIONS = 8
"""Random directions in which the representation is looked at."""
SEED = 20
"""Of these directions: the same for every model of one width, so that versions can be compared."""
MOST_BYTES = 256 << 10
EVERYWHERE = "all"
"""Domain of all rows together."""


class Numbers(Frozen):
    """How a number is spread; times are numbers of seconds since 1970 UTC."""

    kind: Literal["number"] = "number"
    missing: float
    """Share of the rows without a value."""
    edges: tuple[float, ...]
    """Inner edges of bins, ascending: a value on an edge is above it."""
    shares: tuple[float, ...]
    """Of the values there are, in each bin; one more than edges."""


class Categories(Frozen):
    """How often each value of a category comes."""

    kind: Literal["category"] = "category"
    missing: float
    """Share of the rows without a value."""
    values: tuple[str, ...]
    """The commonest as texts, of equally common ones the smaller first."""
    shares: tuple[float, ...]
    """Theirs, of the values there are."""
    rest: float
    """Share of all other values."""
    unknown: float | None
    """Share of the rows with a value that training never held; None where nobody can tell."""


class Lists(Frozen):
    """How long lists are."""

    kind: Literal["list"] = "list"
    missing: float
    """Share of the rows without a list; an empty one is there."""
    edges: tuple[float, ...]
    """Inner edges of bins of lengths, ascending."""
    shares: tuple[float, ...]
    """Of the lists there are, in each bin."""
    unknown: float | None
    """Share of the rows whose list holds a value that training never held; None where nobody can tell."""


Spread = Annotated[Numbers | Categories | Lists, Field(discriminator="kind")]


class Scores(Frozen):
    """How the answers to one task lie in one domain, before an error memory."""

    task: str
    domain: str
    """`EVERYWHERE`, or one of the declaration's."""
    rows: int
    mean: float
    edges: tuple[float, ...]
    """Inner edges of bins of probabilities, ascending."""
    shares: tuple[float, ...]


class Directions(Frozen):
    """Where the representation lies, in random directions of length 1 that `directions` gives."""

    width: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Baseline(Frozen):
    """What `baseline.json` holds."""

    rows: int
    window: Window
    """Times of the rows."""
    users: int
    days: int
    """Days of UTC with rows."""
    fields: dict[str, Spread]
    """By column that the model reads."""
    scores: tuple[Scores, ...]
    hidden: Directions


def baseline_of(model: ServedModel, rows: pa.Table | RowFile, said: Said) -> Baseline:
    """Return what a model saw and said.

    Args:
        model: the model.
        rows: raw rows, at least one, with the declaration's roles; columns of a file are read one after the other.
        said: what it says about them, the representation in these `directions` included.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    declaration = model.contract.schema_.declaration
    micros = rows.column(declaration.time).cast(pa.timestamp("us", "UTC"))
    bounds = pc.min_max(micros).as_py()
    days = pc.count_distinct(pc.floor_temporal(micros, unit="day")).as_py()
    tellable = [field.name for field in model.encoder.fitted if model.encoder.with_vocabulary(field)]
    unknown = {name: said.unknown[name] / rows.num_rows for name in tellable}  # sums of counts leave zeros out
    columns = [name for name in model.encoder.columns if name in rows.column_names and name != declaration.time]
    domains = None if declaration.domain is None else rows.column(declaration.domain).cast(pa.string())
    found = Baseline(
        rows=rows.num_rows,
        window=Window(start=bounds["min"], end=bounds["max"] + timedelta(microseconds=1)),
        users=pc.count_distinct(rows.column(declaration.user)).as_py(),
        days=int(days),
        fields={name: _spread(rows.column(name), unknown.get(name)) for name in columns},
        scores=_all_scores(said.base, domains, model.contract.schema_.domains),
        hidden=_directions(model.contract.hidden, said.seen),
    )
    top = TOP
    while len(found.model_dump_json()) > MOST_BYTES and top:  # very many fields
        top //= 2
        found = found.model_copy(update={"fields": {name: _fewer(one, top) for name, one in found.fields.items()}})
    return found


def read_baseline(directory: Path, called: str) -> Baseline | None:
    """Return the baseline of a model's folder, None where it was judged before there was one.

    Raises:
        BadInputError: the file cannot be read.
    """
    path = directory / BASELINE
    if not path.is_file():
        return None
    try:
        return Baseline.model_validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise BadInputError(f"{BASELINE} of {called} cannot be read ({reason}): register the model again") from error


def directions(width: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return float64 ``[width, PROJECTIONS]``, columns of length 1, the same for every caller."""
    drawn = np.random.default_rng([SEED, width]).normal(size=(width, PROJECTIONS))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=0))


def shares_in(values: np.ndarray[Any, Any], edges: tuple[float, ...]) -> tuple[float, ...]:
    """Return the share of values in each bin, of edges as a baseline has them; zeros without values."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return tuple((counts / max(len(values), 1)).tolist())


def _spread(column: pa.ChunkedArray, unknown: float | None) -> Spread:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, rows = column.type, max(len(column), 1)
    if pa.types.is_nested(kind):
        lengths = pc.list_value_length(column).drop_null().to_numpy().astype(np.float64)
        edges = _edges(lengths)
        return Lists(missing=column.null_count / rows, edges=edges, shares=shares_in(lengths, edges), unknown=unknown)
    if pa.types.is_floating(kind) or pa.types.is_timestamp(kind):
        numbers = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if pa.types.is_timestamp(kind) else column
        floats = numbers.cast(pa.float64(), safe=False).drop_null().to_numpy()
        floats = floats / 1e6 if pa.types.is_timestamp(kind) else floats
        finite = floats[np.isfinite(floats)]
        edges = _edges(finite)
        return Numbers(missing=1 - len(finite) / rows, edges=edges, shares=shares_in(finite, edges))
    counts = column.cast(pa.string()).drop_null().value_counts()
    texts, numbers_of = counts.field("values").to_pylist(), counts.field("counts").to_pylist()
    order = sorted(zip(numbers_of, texts, strict=True), key=lambda one: (-one[0], one[1]))
    held = max(sum(numbers_of), 1)
    return Categories(
        missing=column.null_count / rows,
        values=tuple(text[:LONGEST] for _, text in order[:TOP]),
        shares=tuple(count / held for count, _ in order[:TOP]),
        rest=sum(count for count, _ in order[TOP:]) / held,
        unknown=unknown,
    )


def _fewer(one: Spread, top: int) -> Spread:
    if not isinstance(one, Categories):
        return one
    rest = one.rest + sum(one.shares[top:])
    return one.model_copy(update={"values": one.values[:top], "shares": one.shares[:top], "rest": rest})


def _edges(values: np.ndarray[Any, Any]) -> tuple[float, ...]:
    """Return the inner edges of `BINS` bins with about as many values each; fewer where values repeat."""
    if not len(values):
        return ()
    inner = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="lower")
    return tuple(np.unique(inner).tolist())


def _all_scores(
    tasks: Mapping[str, Probabilities], domains: pa.ChunkedArray | None, known: tuple[str, ...]
) -> tuple[Scores, ...]:
    found = []
    for task, values in tasks.items():
        found.append(_scores(task, EVERYWHERE, values))
        if domains is not None:
            names = np.asarray(domains.fill_null("").to_numpy(), dtype=str)
            parts = ((name, values[names == name]) for name in known)
            found += [_scores(task, name, some) for name, some in parts if len(some)]
    return tuple(found)


def _scores(task: str, domain: str, values: Probabilities) -> Scores:
    edges = _edges(values)
    return Scores(
        task=task, domain=domain, rows=len(values), mean=_mean(values), edges=edges, shares=shares_in(values, edges)
    )


def _directions(width: int, seen: np.ndarray[Any, Any] | None) -> Directions:
    if seen is None:
        raise ValueError("a baseline is made of a representation that was looked at")
    means = [_mean(column) for column in seen.T]
    spread = [float(np.sqrt(_mean((column - mean) ** 2))) for column, mean in zip(seen.T, means, strict=True)]
    return Directions(width=width, mean=tuple(means), deviation=tuple(spread))


def _mean(values: np.ndarray[Any, Any]) -> float:
    """Return the mean, the same to the bit in whatever order the values come."""
    return float(np.sort(values).mean())
