"""What does one training row hold? The impression's roles and labels, and its features as known just before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.build_training_set.config import ROW, Config
from components.platform.errors import BadInputError, ContractViolationError, MissingError, did_you_mean, no_columns
from features.declaration import Declaration
from features.definitions import Definitions
from features.ground.library_errors import library_in_words
from features.ground.pace import Pace, Report
from features.joins.asof import ASKED_AT
from features.joins.spill import Column, Spill, rows_at_once
from features.joins.store import ENTITY_TIME, arrow_type, historical_on_disk, open_offline
from features.joins.stored_rows import StoredRows
from features.rules.parse import parse
from features.services.served import Freshness
from features.services.service import FeatureSnapshot, ServiceSnapshot
from registry.serving.log.segments import hashed_in

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
"""A row asks for what was known this long before the impression, so that events of the same second stay out."""


def read_impressions(
    path: Path,
    config: Config,
    folder: Path,
    joined: Collection[str] = (),
    keys: Collection[str] = (),
    report: Report | None = None,
) -> StoredRows:
    """Return the impressions with what the config names and the `keys` of features, in a defined order, with `row_id`.

    A group that is a feature, `joined` or made later, is not read here.

    Args:
        path: events.
        config: says which columns.
        folder: where the rows are put in order.
        joined: features.
        keys: columns that features are looked up by.
        report: told how far it is.

    Raises:
        BadInputError: a column is missing, or there is no row.
        ContractViolationError: a role is null, a label is not 0 or 1, the funnel is broken, or a request mixes users.
    """
    declaration = config.declaration()
    found = pl.scan_parquet(path).collect_schema()
    named = _named(config, joined)
    wanted = list(dict.fromkeys([*named, *keys]))
    if absent := [name for name in wanted if name not in found]:
        if served := [name for name in absent if name in joined]:
            raise BadInputError(
                f"the events have {no_columns(served, found.names())}, and features: served takes them from there: "
                "ingest_served keeps what the model read with features: true; drop what it did not read"
            )
        raise BadInputError(f"the events have {no_columns(absent, found.names())}: correct the names, or ingest them")
    if found[declaration.time] != pl.Datetime("us", "UTC"):
        raise BadInputError(f"column {declaration.time!r} is {found[declaration.time]}, must be a timestamp in us, UTC")
    roles = list(dict.fromkeys(_roles(config)))
    rows, *lacking = (
        pl.scan_parquet(path).select(pl.len(), pl.col(roles).null_count().name.prefix("__")).collect().row(0)
    )
    if not rows:
        raise BadInputError("there is no impression to train on: widen the window")
    for name, count in zip(roles, lacking, strict=True):
        if count:
            raise ContractViolationError(
                f"{count} impressions have no {name!r}; add the rule to the suite of validate_data "
                "so that they go to quarantine"
            )
    # Every column takes part in the order, so that a row's id does not depend on the file's order.
    rest = [name for name, dtype in found.items() if name not in named and not dtype.is_nested()]
    order = [declaration.time, config.user, config.item, *config.feedback, *rest]
    labels, spill, count = Labels(declaration), Spill(folder / "impressions.parquet"), 0
    pace = Pace("putting impressions in order", rows, report)
    for block in _in_order(path, order, declaration.time, wanted, rows):
        labels.see(block)
        numbered = block.with_columns(pl.col(list(config.feedback)).cast(pl.Int8, strict=False))
        spill.write(to_arrow(numbered.with_row_index(ROW, count).cast({ROW: pl.Int64})))
        count += len(block)
        pace.done(len(block))
    labels.conclude()
    impressions = spill.close()
    check_requests(pl.scan_parquet(impressions.path), declaration)
    return StoredRows(impressions.columns())


def _in_order(path: Path, order: list[str], time: str, wanted: list[str], rows: int) -> Iterator[pl.DataFrame]:
    """Yield columns of the rows of a file in order, those of a span of time after the other."""
    found, most = pl.scan_parquet(path), rows_at_once()
    spans = [found]
    if rows > most:
        times = pq.read_table(path, columns=[time])[time].cast(pa.int64()).to_numpy()
        if not (times[1:] >= times[:-1]).all():
            times = np.sort(times)
        bounds = [EPOCH + timedelta(microseconds=int(at)) for at in np.unique(times[most::most])]
        at = pl.col(time)
        spans = [
            found.filter(*([at >= first] if first else []), *([at < last] if last else []))
            for first, last in pairwise([None, *bounds, None])
        ]
        del times
    for span in spans:
        yield span.sort(order, nulls_last=True).select(wanted).collect()


def _roles(config: Config) -> list[str]:
    found = [config.user, config.item, config.declaration().time, *filter(None, (config.domain, config.request))]
    return found + ([config.position.column] if config.position else [])


def _named(config: Config, joined: Collection[str]) -> list[str]:
    """Return the columns of the impressions that the config names, each once."""
    weighing = [weight.source for weight in config.weights.values()]
    tested = parse(config.split.test_where).columns if config.split.test_where else ()
    group = [config.group] if config.group and config.group not in {*joined, *config.within} else []
    others = [*group, *config.context, *config.carry, *config.feedback, *weighing, *tested]
    return list(dict.fromkeys([*_roles(config), *others]))


def check_requests(rows: pl.LazyFrame, declaration: Declaration) -> None:
    """Check that the rows of a request are of one user, as what a person was shown together is.

    Raises:
        ContractViolationError: with the first five requests that are not.
    """
    if declaration.request is None:
        return
    users = rows.group_by(declaration.request).agg(pl.col(declaration.user).n_unique())
    mixed = users.filter(pl.col(declaration.user) > 1).collect()[declaration.request].sort()
    if len(mixed):
        raise ContractViolationError(
            f"{len(mixed)} requests in {declaration.request!r} hold rows of several users "
            f"({', '.join(map(repr, mixed.head(5).to_list()))}): a request is what one user was shown together; "
            "name another column in request"
        )


def check_place(rows: StoredRows, config: Config, train: NDArray[np.int64]) -> None:
    """Check that the place which every answer is for is a whole number that some training row stood in.

    Raises:
        BadInputError: it is not, so that nothing would be learned about it.
    """
    if config.position is None:
        return
    column, served = config.position.column, config.position.served
    shown = rows.frame([column])[column]
    if not shown.dtype.is_integer():
        raise BadInputError(f"position {column!r} is {shown.dtype}: publish it as int64")
    places = shown.gather(train).unique().sort()
    if served not in places:
        raise BadInputError(
            f"position.served is {served}, and no training row stood there (places {places[0]} to {places[-1]}): name "
            "one that was shown"
        )


class Labels:
    """Whether labels are 0 or 1 and a deeper one implies the shallower ones, of rows that come in blocks."""

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        self._wrong: dict[tuple[str, ...], tuple[int, pl.DataFrame]] = {}
        """By label, or by two of a funnel: how many rows are wrong, and the first of them."""

    def see(self, frame: pl.DataFrame) -> None:
        """Look at a block of rows, in order."""
        feedback = self._declaration.feedback
        numbers = {name: pl.col(name).cast(pl.Float64, strict=False) for name in feedback}
        for name in feedback:
            self._note((name,), frame, ~numbers[name].is_in([0.0, 1.0]).fill_null(False))
        if self._declaration.funnel:
            for pair in pairwise(feedback):
                self._note(pair, frame, numbers[pair[1]] > numbers[pair[0]])

    def conclude(self) -> None:
        """Raise ContractViolationError with the first five offending rows where there are any."""
        for (name, *deeper), (count, rows) in self._wrong.items():
            told = _examples(rows, self._declaration, [name, *deeper])
            if not deeper:
                raise ContractViolationError(
                    f"label {name!r} of {count} impressions is not 0 or 1: {told}; fix it at ingestion"
                )
            raise ContractViolationError(
                f"{count} impressions have {deeper[0]!r} without {name!r}: {told}; order feedback from shallow to "
                "deep, fix the labels, or set funnel: false"
            )

    def _note(self, labels: tuple[str, ...], frame: pl.DataFrame, is_wrong: pl.Expr) -> None:
        wrong = frame.filter(is_wrong)
        if len(wrong):
            count, rows = self._wrong.get(labels, (0, wrong.clear()))
            self._wrong[labels] = count + len(wrong), pl.concat([rows, wrong.head(5 - len(rows))])


def join_features(
    impressions: StoredRows,
    config: Config,
    snapshot: ServiceSnapshot,
    tables: Path,
    definitions: Definitions,
    folder: Path,
) -> StoredRows:
    """Return the raw rows: `row_id`, roles, context, labels, then the features of the service.

    A key that no role, context or `carry` names is looked up by and left behind. Auxiliary features are joined only
    when the config includes or encodes them.

    A feature is the newest value known 1 µs before the impression: with an event time and a created
    time not later than that, and not older than its view's TTL; otherwise it is null. With `freshness` it is the one
    that the last materialisation before the impression wrote. What is joined is put into `folder`.

    Raises:
        BadInputError: a feature has the name of a role or label, a key column is missing, or the join lost
            or doubled rows.
    """
    if config.features == "served":
        return served_rows(impressions, config, snapshot)
    time = config.declaration().time
    names = {feature.name for feature in snapshot.features}
    wanted = joined_names(config, snapshot)
    kept = impressions.drop_columns([*(snapshot.keys.keys() - {*_named(config, wanted)})])
    taken = sorted(names & {ROW, *kept.column_names})
    if taken:
        raise BadInputError(
            f"{', '.join(map(repr, taken))} is a feature of service {snapshot.service!r} and a column of the "
            "impression: leave it out of context, domain and feedback, or rename the feature"
        )
    for key in snapshot.keys:
        if key not in impressions.column_names:
            raise BadInputError(f"service {snapshot.service!r} is keyed by {key!r}, which the impressions do not have")
    seen, asked = pl.col(time), []
    if config.freshness is not None:
        seen, asked = materialised_until(pl.col(time), config.freshness), [(pl.col(time) - TICK).alias(ASKED_AT)]
    entities = Spill(folder / "entities.parquet")
    for block in impressions.blocks([*dict.fromkeys([*snapshot.keys, time])]):
        asks = pl.DataFrame(block).select(
            *snapshot.keys.keys() - {ENTITY_TIME}, (seen - TICK).alias(ENTITY_TIME), *asked
        )
        entities.write(to_arrow(asks))
    question = entities.close().path
    with library_in_words("join the features", "correct the definitions"), open_offline(tables, definitions) as store:
        joined = historical_on_disk(
            store, question, snapshot.service, definitions, names=wanted, folder=folder / "joined"
        )
    question.unlink()
    return StoredRows({**kept.columns, **joined})


def served_names(config: Config, snapshot: ServiceSnapshot) -> list[str]:
    """Return the features that rows of the log must hold: those that the ranker sees, and what orders them."""
    return [name for name in joined_names(config, snapshot) if name not in config.drop]


def served_rows(impressions: StoredRows, config: Config, snapshot: ServiceSnapshot) -> StoredRows:
    """Return raw rows as `join_features` does, with the features as the log holds them.

    Raises:
        BadInputError: a column holds another type than its feature.
    """
    names = served_names(config, snapshot)
    columns = {name: impressions.columns[name] for name in (ROW, *_named(config, names), *names)}
    for feature in snapshot.features:
        if feature.name in names and columns[feature.name].type != arrow_type(feature.dtype):
            columns[feature.name] = _AsServed(columns[feature.name], feature, snapshot.service)
            for _ in StoredRows({feature.name: columns[feature.name]}).blocks([feature.name]):
                pass  # every value is read as its dtype once, before anything is made of it
    return StoredRows(columns)


@dataclass(frozen=True)
class _AsServed:
    """A column of the log in the dtype of its feature."""

    column: Column
    feature: FeatureSnapshot
    service: str

    @property
    def type(self) -> pa.DataType:
        return arrow_type(self.feature.dtype)

    def __len__(self) -> int:
        return len(self.column)

    def read(self, start: int, stop: int) -> pa.Array:
        try:
            return self.column.read(start, stop).cast(self.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BadInputError(
                f"the log holds {self.feature.name!r} as {self.column.type}, and service {self.service!r} says "
                f"{self.feature.dtype} ({error}): train on rows that were served since it did"
            ) from None


def check_readable(path: Path, config: Config, wanted: Collection[str]) -> None:
    """Check that the ranker reads no column of which the log keeps hashes.

    Raises:
        BadInputError: it does, and no request could be answered by what it learns.
    """
    hashed = {*hashed_in(pq.read_schema(path))} - {*config.drop}
    roles = {config.user, config.item, config.domain, *config.context}
    if found := sorted(hashed & (roles | {*wanted})):
        raise BadInputError(
            f"the log keeps {', '.join(map(repr, found))} hashed, and no request brings a hash: drop it, or "
            "take it out of log.hash"
        )


def materialised_until(time: pl.Expr, freshness: Freshness) -> pl.Expr:
    """Return the end of the last materialisation whose values a request at `time` reads, by the calendar of UTC."""
    every = freshness.every // TICK
    lag = (freshness.lag or timedelta(0)) // TICK
    return ((time.dt.epoch("us") - lag) // every * every).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def joined_names(config: Config, snapshot: ServiceSnapshot) -> list[str]:
    """Return the features of the service to join: all but auxiliary ones that the config does not name.

    Raises:
        MissingError: `include` names no feature of the service.
    """
    names = {feature.name for feature in snapshot.features}
    for name in config.include:
        if name not in names:
            raise MissingError(f"include: there is no feature {name!r}{did_you_mean(name, names)}")
    named = {*config.include, *config.encode}
    return [feature.name for feature in snapshot.features if not feature.auxiliary or feature.name in named]


def missing_shares(rows: StoredRows, names: Iterable[str]) -> dict[str, float]:
    """Return the share of nulls per column."""
    return {name: rows.null_count(name) / max(rows.num_rows, 1) for name in sorted(names)}


def to_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return an Arrow table with plain strings and lists, as every reader knows them."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    plain = pa.schema([(field.name, _plain(field.type)) for field in table.schema])
    return table if plain == table.schema else table.cast(plain)


def _plain(dtype: pa.DataType) -> pa.DataType:
    """Return the type with lists whose offsets have 32 bits, and no width of their own."""
    if pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    return pa.string() if pa.types.is_large_string(dtype) else dtype


def _examples(rows: pl.DataFrame, declaration: Declaration, labels: list[str]) -> str:
    columns = [declaration.user, declaration.item, declaration.time, *labels]
    return "; ".join(
        ", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True))
        for row in rows.select(columns).head(5).iter_rows()
    )
