"""What does one training row hold? The impression's roles and labels, and its features as known just before."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from components.data.build_training_set.config import ROW, Config
from components.platform.errors import BadInputError, ContractViolationError, MissingError, did_you_mean, no_columns
from features.declaration import Declaration
from features.definitions import Definitions
from features.ground.library_errors import library_in_words
from features.joins.asof import ASKED_AT
from features.joins.store import ENTITY_TIME, ROW_ID, arrow_type, historical, open_offline
from features.rules.parse import parse
from features.services.served import Freshness
from features.services.service import ServiceSnapshot
from registry.serving.log.segments import hashed_in

TICK = timedelta(microseconds=1)
"""A row asks for what was known this long before the impression, so that events of the same second stay out."""


def read_impressions(
    path: Path, config: Config, joined: Collection[str] = (), keys: Collection[str] = ()
) -> pl.DataFrame:
    """Return the impressions with what the config names and the `keys` of features, in a defined order, with `row_id`.

    A group that is a feature, `joined` or made later, is not read here.

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
    # Every column takes part in the order, so that a row's id does not depend on the file's order.
    rest = [name for name, dtype in found.items() if name not in named and not dtype.is_nested()]
    order = [declaration.time, config.user, config.item, *config.feedback, *rest]
    frame = pl.scan_parquet(path).sort(order, nulls_last=True).select(wanted).collect()
    if frame.is_empty():
        raise BadInputError("there is no impression to train on: widen the window")
    for name in _roles(config):
        if frame[name].null_count():
            raise ContractViolationError(
                f"{frame[name].null_count()} impressions have no {name!r}; add the rule to the suite of validate_data "
                "so that they go to quarantine"
            )
    check_labels(frame, declaration)
    check_requests(frame, declaration)
    return frame.with_columns(pl.col(list(config.feedback)).cast(pl.Int8)).with_row_index(ROW).cast({ROW: pl.Int64})


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


def check_requests(frame: pl.DataFrame, declaration: Declaration) -> None:
    """Check that the rows of a request are of one user, as what a person was shown together is.

    Raises:
        ContractViolationError: with the first five requests that are not.
    """
    if declaration.request is None:
        return
    users = frame.group_by(declaration.request).agg(pl.col(declaration.user).n_unique())
    mixed = users.filter(pl.col(declaration.user) > 1)[declaration.request].sort()
    if len(mixed):
        raise ContractViolationError(
            f"{len(mixed)} requests in {declaration.request!r} hold rows of several users "
            f"({', '.join(map(repr, mixed.head(5).to_list()))}): a request is what one user was shown together; "
            "name another column in request"
        )


def check_place(frame: pl.DataFrame, config: Config, train: NDArray[np.int64]) -> None:
    """Check that the place which every answer is for is a whole number that some training row stood in.

    Raises:
        BadInputError: it is not, so that nothing would be learned about it.
    """
    if config.position is None:
        return
    column, served = config.position.column, config.position.served
    if not frame[column].dtype.is_integer():
        raise BadInputError(f"position {column!r} is {frame[column].dtype}: publish it as int64")
    places = frame[column].gather(train).unique().sort()
    if served not in places:
        raise BadInputError(
            f"position.served is {served}, and no training row stood there (places {places[0]} to {places[-1]}): name "
            "one that was shown"
        )


def check_labels(frame: pl.DataFrame, declaration: Declaration) -> None:
    """Check that labels are 0 or 1 and that a deeper one implies the shallower ones.

    Raises:
        ContractViolationError: with the first five offending rows.
    """
    for name in declaration.feedback:
        wrong = frame.filter(~pl.col(name).cast(pl.Float64, strict=False).is_in([0.0, 1.0]).fill_null(False))
        if len(wrong):
            raise ContractViolationError(
                f"label {name!r} of {len(wrong)} impressions is not 0 or 1: {_examples(wrong, declaration, [name])}; "
                "fix it at ingestion"
            )
    if not declaration.funnel:
        return
    for shallow, deep in zip(declaration.feedback[:-1], declaration.feedback[1:], strict=True):
        broken = frame.filter(pl.col(deep).cast(pl.Int64) > pl.col(shallow).cast(pl.Int64))
        if len(broken):
            raise ContractViolationError(
                f"{len(broken)} impressions have {deep!r} without {shallow!r}: "
                f"{_examples(broken, declaration, [shallow, deep])}; order feedback from shallow to deep, fix the "
                "labels, or set funnel: false"
            )


def join_features(
    impressions: pl.DataFrame, config: Config, snapshot: ServiceSnapshot, tables: Path, definitions: Definitions
) -> pa.Table:
    """Return the raw rows: `row_id`, roles, context, labels, then the features of the service.

    A key that no role, context or `carry` names is looked up by and left behind. Auxiliary features are joined only
    when the config includes or encodes them.

    A feature is the newest value known 1 µs before the impression: with an event time and a created
    time not later than that, and not older than its view's TTL; otherwise it is null. With `freshness` it is the one
    that the last materialisation before the impression wrote.

    Raises:
        BadInputError: a feature has the name of a role or label, a key column is missing, or the join lost
            or doubled rows.
    """
    if config.features == "served":
        return served_rows(impressions, config, snapshot)
    time = config.declaration().time
    names = {feature.name for feature in snapshot.features}
    wanted = joined_names(config, snapshot)
    kept = impressions.drop(snapshot.keys.keys() - {*_named(config, wanted)}, strict=False)
    taken = sorted(names & {ROW, *kept.columns})
    if taken:
        raise BadInputError(
            f"{', '.join(map(repr, taken))} is a feature of service {snapshot.service!r} and a column of the "
            "impression: leave it out of context, domain and feedback, or rename the feature"
        )
    for key in snapshot.keys:
        if key not in impressions.columns:
            raise BadInputError(f"service {snapshot.service!r} is keyed by {key!r}, which the impressions do not have")
    seen, asked = pl.col(time), []
    if config.freshness is not None:
        seen, asked = materialised_until(pl.col(time), config.freshness), [(pl.col(time) - TICK).alias(ASKED_AT)]
    entities = impressions.select(pl.col(ROW).alias(ROW_ID), *snapshot.keys, (seen - TICK).alias(ENTITY_TIME), *asked)
    with library_in_words("join the features", "correct the definitions"), open_offline(tables, definitions) as store:
        joined = historical(store, to_arrow(entities), snapshot.service, definitions, names=wanted)
    table = to_arrow(kept)
    for name in joined.column_names[1:]:
        table = table.append_column(name, joined.column(name))
    return table


def served_names(config: Config, snapshot: ServiceSnapshot) -> list[str]:
    """Return the features that rows of the log must hold: those that the ranker sees, and what orders them."""
    return [name for name in joined_names(config, snapshot) if name not in config.drop]


def served_rows(impressions: pl.DataFrame, config: Config, snapshot: ServiceSnapshot) -> pa.Table:
    """Return raw rows as `join_features` does, with the features as the log holds them.

    Raises:
        BadInputError: a column holds another type than its feature.
    """
    names = served_names(config, snapshot)
    table = to_arrow(impressions.select(ROW, *_named(config, names), *names))
    for feature in snapshot.features:
        if feature.name in names:
            at, kind = table.schema.get_field_index(feature.name), arrow_type(feature.dtype)
            try:
                table = table.set_column(at, feature.name, table.column(at).cast(kind))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise BadInputError(
                    f"the log holds {feature.name!r} as {table.schema.field(at).type}, and service "
                    f"{snapshot.service!r} says {feature.dtype} ({error}): train on rows that were served since it did"
                ) from None
    return table


def check_readable(path: Path, config: Config, wanted: Collection[str]) -> None:
    """Check that the ranker reads no column of which the log keeps hashes.

    Raises:
        BadInputError: it does, and no request could be answered by what it learns.
    """
    import pyarrow.parquet as pq

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


def missing_shares(table: pa.Table, names: Iterable[str]) -> dict[str, float]:
    """Return the share of nulls per column."""
    return {name: table.column(name).null_count / max(table.num_rows, 1) for name in sorted(names)}


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
