"""How do impressions and features become three leak-free splits with one encoder?"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from components.data.build_training_set.config import Config, Inputs, Outputs, SplitPart, SplitReport
from components.data.build_training_set.cut import cut_notes
from components.data.build_training_set.encoded import write_split
from components.data.build_training_set.rows import (
    check_place,
    check_readable,
    join_features,
    joined_names,
    missing_shares,
    read_impressions,
    served_names,
)
from components.data.build_training_set.served import served_features
from components.data.build_training_set.split import kept_apart, request_ends, split_rows, trained_until
from components.data.build_training_set.unknown import order_notes, unknown_notes
from components.data.build_training_set.weigh import row_weights, weight_notes, with_weights
from components.data.training_set import SPLITS, SplitName, write_raw
from components.platform.artifacts import TrainingSet
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, MissingError, did_you_mean
from features.declaration import FieldEncoding, RankerSchema, Window
from features.definitions import Definitions
from features.encoding.encoder import Encoder
from features.encoding.files import write_encoder
from features.ground.pace import Report
from features.joins.stored_rows import StoredRows
from features.services.own_definitions import definitions_of
from features.services.served import FEATURES
from features.services.service import ServiceSnapshot, describe, shortened
from features.within import with_within
from registry.serving.incoming import placed


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Join, split, encode and write the training set.

    Raises:
        BadInputError: columns, features or rows do not fit the config.
        ContractViolationError: labels are not 0 or 1, the funnel is broken, or the join lost rows.
    """
    tables = context.local(inputs.features)
    definitions = definitions_of(config.definitions)
    snapshot = read_snapshot(tables, config.feature_service, definitions)
    joined = served_names(config, snapshot) if config.features == "served" else joined_names(config, snapshot)
    events = context.local(inputs.events) / "events.parquet"
    check_readable(events, config, joined)
    told = [*snapshot.keys, *joined] if config.features == "served" else snapshot.keys
    impressions = read_impressions(events, config, context.scratch / "rows", joined, told, context.progress)
    context.progress(f"joining {len(snapshot.features)} features to {len(impressions):,} impressions")
    table = join_features(impressions, config, snapshot, tables, definitions, context.scratch / "rows")
    if taken := [name for name in config.within if name in table.column_names]:
        raise BadInputError(f"within makes {taken[0]!r}, and the rows have a column of that name: choose another")
    table = with_within(table, config.declaration())
    time, request = config.declaration().time, config.request
    ends = request_ends(impressions.frame([time, *([request] if request else [])]), time, request)
    parts = split_rows(ends, config.split, impressions.frame([request])[request] if request else None)
    parts = kept_apart(parts, impressions, config.split, request)
    check_place(impressions, config, parts["train"])
    weights = row_weights(impressions, config, parts)
    until = trained_until(ends, parts, config.split)
    first = int(parts["train"][0])
    rows_in, trained_from = len(impressions), impressions.read(time, first, first + 1)[0].as_py()
    del impressions, ends
    splits = {name: with_weights(table.take(rows), weights, rows) for name, rows in parts.items()}
    weighed, left = weight_notes(weights, parts), rows_in - sum(map(len, parts.values()))
    del parts
    rates = base_rates(splits["train"], config.feedback)
    dtypes = ranker_features(table, config, snapshot)
    check_lengths(config, definitions)
    options = encodings(config, snapshot, dtypes)
    encoder = Encoder.fit(splits["train"], dtypes, options, request_time=time)
    schema = RankerSchema(
        declaration=config.declaration(),
        fields=encoder.fields,
        base_rates=rates,
        domains=domains(splits["train"], config),
        sides=sides(config, snapshot, dtypes),
        pairs=pairs(config, snapshot, dtypes),
        weighted=tuple(name for name in config.feedback if name in weights),
        rows=splits["train"].num_rows,
        trained_from=trained_from,
        trained_until=until,
    )
    draft = context.draft("training_set")
    unknown = _write(draft, splits, encoder, schema, table, context.progress, encoded=not config.encode_when_read)
    report = _report(rows_in, table, splits, config, snapshot, unknown)
    (draft / "schema.json").write_text(schema.model_dump_json(indent=2), encoding="utf-8")
    served = served_features(
        snapshot, joined_dtypes(config, snapshot), given_dtypes(table, config, snapshot), config.freshness
    )
    (draft / FEATURES).write_text(served.model_dump_json(indent=2), encoding="utf-8")
    write_encoder(encoder, draft)
    (draft / "report.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    ids = (config.user, config.item)
    odd = unknown_notes(encoder, schema.rows, report.validation.unknown, report.test.unknown, ids)
    chosen = {*ids, *(key for source in snapshot.sources for key in source.keys)}
    chosen |= {name for name, option in options.items() if option.kind}
    odd = [*weighed, *odd, *order_notes(encoder, schema.rows, chosen), *cut_notes(encoder, table)]
    if left:
        odd.append(f"test_where {config.split.test_where!r} leaves {left:,} rows out of all splits")
    for line in [*_notes(report, splits, config, schema), *odd]:
        context.note(line)
    return Outputs(training_set=TrainingSet(uri=str(draft)))


def read_snapshot(tables: Path, service: str, definitions: Definitions | None = None) -> ServiceSnapshot:
    """Return what the feature tables say about themselves.

    Raises:
        BadInputError: they were made for another service, or by definitions that have changed.
    """
    snapshot = ServiceSnapshot.model_validate_json((tables / "service.json").read_text(encoding="utf-8"))
    features, sources = describe(service, definitions)
    if snapshot.service != service:
        raise BadInputError(
            f"the feature tables were made for service {snapshot.service!r}, not {service!r}: "
            "name the same feature_service in materialize_features and build_training_set"
        )
    if snapshot.features != tuple(features) or snapshot.sources != tuple(sources):
        raise BadInputError(
            f"service {service!r} has changed since its feature tables were made: run materialize_features again"
        )
    return snapshot


def ranker_features(table: pa.Table, config: Config, snapshot: ServiceSnapshot) -> dict[str, str]:
    """Return the features that the ranker sees with their Feast dtypes.

    They are the service's features without auxiliary ones, user, item, domain and context, minus `drop`.

    Raises:
        BadInputError: `drop` names none of them, or a column's type has no Feast dtype.
    """
    dtypes = joined_dtypes(config, snapshot)
    roles = [config.user, config.item, *([config.domain] if config.domain else []), *config.context]
    roles += [config.position.column] if config.position else []
    dtypes |= {name: _dtype(name, table.schema.field(name).type) for name in (*roles, *config.within)}
    for name in config.drop:
        if name not in dtypes:
            raise MissingError(f"drop: there is no feature {name!r}{did_you_mean(name, dtypes)}")
    kept = {name: dtype for name, dtype in dtypes.items() if name not in config.drop}
    if not kept:
        raise BadInputError("drop leaves no feature for the ranker: drop fewer")
    return kept


def joined_dtypes(config: Config, snapshot: ServiceSnapshot) -> dict[str, str]:
    """Return the joined features with their Feast dtypes."""
    joined = joined_names(config, snapshot)
    return {feature.name: feature.dtype for feature in snapshot.features if feature.name in joined}


def given_dtypes(table: pa.Table, config: Config, snapshot: ServiceSnapshot) -> dict[str, str]:
    """Return the columns of the impression that a request tells, with their dtypes: no label, weight or place.

    Keys of features are told as well, with the dtypes of their views.
    """
    within = [made.of for made in config.within.values()]
    names = [config.user, config.item, config.declaration().time, config.domain, config.request, *config.context]
    given = {name for name in (*names, *within) if name} - {*joined_names(config, snapshot), *snapshot.keys}

    def dtype(name: str) -> str:
        arrow = table.schema.field(name).type
        return "unix_timestamp" if pa.types.is_timestamp(arrow) else _dtype(name, arrow)

    return {name: dtype(name) for name in sorted(given)}


def encodings(config: Config, snapshot: ServiceSnapshot, dtypes: Mapping[str, str]) -> dict[str, FieldEncoding]:
    """Return the encodings of the features' definitions, replaced by those of the config.

    A history that shares the vocabulary of a dropped feature gets its own; one whose times are not joined has none. A
    place whose effect is added has one value per place.
    """
    defaults = {f.name: f.encoding for f in snapshot.features if f.encoding is not None and f.name in dtypes}
    for name, encoding in defaults.items():
        shares = encoding.shares if encoding.shares in dtypes else None
        timed_by = encoding.timed_by if encoding.timed_by in dtypes else None
        defaults[name] = encoding.model_copy(update={"shares": shares, "timed_by": timed_by})
    added = config.declaration().added
    return defaults | config.encode | ({added: FieldEncoding(kind="vocabulary")} if added else {})


def check_lengths(config: Config, definitions: Definitions) -> None:
    """Check that the config reads no more of a history than its feature view keeps.

    Raises:
        BadInputError: it does, and what is read could not be served.
    """
    for view in definitions.views_of(config.feature_service):
        for name, kept in shortened(view, definitions.recipes[view.batch_source.name]).items():
            if name in config.encode and config.encode[name].length > kept:
                raise BadInputError(
                    f"encode: {name!r} reads {config.encode[name].length:,} events, and feature view {view.name!r} "
                    f"keeps {kept:,} for training and service: raise length in the tags of its field"
                )


def base_rates(train: pa.Table, feedback: tuple[str, ...]) -> dict[str, float]:
    """Return the share of positives per feedback.

    Raises:
        BadInputError: a feedback has one class only, so nothing can be learned about it.
    """
    rates = {name: float(pc.mean(train.column(name)).as_py()) for name in feedback}
    for name, rate in rates.items():
        if rate in (0.0, 1.0):
            raise BadInputError(
                f"feedback {name!r} is {rate:g} in all {train.num_rows} training rows: widen the window, or leave it "
                "out of feedback"
            )
    return rates


def domains(train: pa.Table, config: Config) -> tuple[str, ...]:
    """Return the domain values of the training split, sorted; empty without a domain."""
    if config.domain is None:
        return ()
    return tuple(sorted(pc.unique(train.column(config.domain).cast(pa.string())).drop_null().to_pylist()))


def sides(config: Config, snapshot: ServiceSnapshot, names: Collection[str]) -> dict[str, Literal["user", "item"]]:
    """Return whether a feature describes the user or the item, by the entities that its view is keyed by.

    What an author did so far describes the item where the author is a feature of the item. The ids describe
    themselves. Domain, context and features of both or of another entity describe the
    request and are left out.
    """
    keys = {source.view: {*source.keys} for source in snapshot.sources}
    users, items = (known_of(role, snapshot) for role in (config.user, config.item))
    found: dict[str, Literal["user", "item"]] = {}
    for feature in snapshot.features:
        if keys[feature.view] <= users:
            found[feature.name] = "user"
        elif keys[feature.view] <= items:
            found[feature.name] = "item"
    found |= {config.user: "user", config.item: "item"}
    return {name: side for name, side in sorted(found.items()) if name in names}


def pairs(config: Config, snapshot: ServiceSnapshot, names: Collection[str]) -> tuple[str, ...]:
    """Return the features of several keys that another candidate would change, though they are not the item's own."""
    request = {config.user, config.domain, config.request, *config.context, *known_of(config.user, snapshot)}
    items = known_of(config.item, snapshot)
    views = {s.view for s in snapshot.sources if len(s.keys) > 1 and not ({*s.keys} <= request or {*s.keys} <= items)}
    return tuple(f.name for f in snapshot.features if f.view in views and f.name in names)


def known_of(role: str, snapshot: ServiceSnapshot) -> set[str]:
    """Return the column of a role and what its id tells by itself: the features that are keyed by nothing else."""
    views = {source.view for source in snapshot.sources if {*source.keys} == {role}}
    return {role} | {feature.name for feature in snapshot.features if feature.view in views}


def _dtype(name: str, arrow: pa.DataType) -> str:
    if pa.types.is_timestamp(arrow):
        return "float64"  # the encoder reads a time as seconds since 1970 UTC
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return "string"
    if pa.types.is_boolean(arrow):
        return "bool"
    if pa.types.is_integer(arrow):
        return "int64"
    if pa.types.is_floating(arrow):
        return "float64"
    if pa.types.is_list(arrow):
        return f"array<{_dtype(name, arrow.value_type)}>"
    raise BadInputError(f"column {name!r} is {arrow}, which has no encoding: leave it out of context")


def _write(
    draft: Path,
    splits: Mapping[SplitName, StoredRows],
    encoder: Encoder,
    schema: RankerSchema,
    table: StoredRows,
    report: Report,
    *,
    encoded: bool,
) -> dict[SplitName, dict[str, float]]:
    """Write the splits raw, and encoded where that is asked for, and return `unknown_shares` of each."""
    write_raw(draft, splits)
    users = pc.unique(table.column(schema.declaration.user).chunk(0))
    unknown = {
        name: write_split(
            draft / "encoded" / f"{name}.arrow",
            part if name == "train" else placed(part, schema.declaration),
            encoder,
            schema,
            users,
            report,
        )
        for name, part in splits.items()
    }
    if not encoded:  # they were encoded to be counted
        shutil.rmtree(draft / "encoded")
    return unknown


def _report(
    rows_in: int,
    table: StoredRows,
    splits: Mapping[SplitName, StoredRows],
    config: Config,
    snapshot: ServiceSnapshot,
    unknown: Mapping[SplitName, dict[str, float]],
) -> SplitReport:
    names = {*joined_names(config, snapshot), *config.context} & {*table.column_names}
    return SplitReport(
        rows_in=rows_in,
        rows_out=table.num_rows,
        missing=missing_shares(table, names),
        **{name: _part(splits[name], splits["train"], config, unknown[name]) for name in SPLITS},
    )


def _part(part: pa.Table, train: pa.Table, config: Config, unknown: dict[str, float]) -> SplitPart:
    times = pc.min_max(part.column(config.declaration().time)).as_py()

    def unseen(column: str) -> float:
        seen = pc.is_in(part.column(column), value_set=pc.unique(train.column(column)))
        return 1.0 - float(pc.mean(seen).as_py())

    return SplitPart(
        rows=part.num_rows,
        window=Window(start=times["min"], end=times["max"] + timedelta(microseconds=1)),
        rates={name: float(pc.mean(part.column(name)).as_py()) for name in config.feedback},
        users=len(pc.unique(part.column(config.user))),
        unseen_users=unseen(config.user),
        unseen_items=unseen(config.item),
        unknown=unknown,
    )


def _notes(
    report: SplitReport, splits: Mapping[SplitName, pa.Table], config: Config, schema: RankerSchema
) -> list[str]:
    sizes = " / ".join(f"{getattr(report, name).rows:,}" for name in SPLITS)
    lines = [
        f"{report.rows_out:,} rows, {sizes} (train / validation / test), {len(schema.fields)} fields; "
        f"test rows of unseen users {report.test.unseen_users:.0%}, of unseen items {report.test.unseen_items:.0%}"
    ]
    for name in SPLITS:
        lines += one_class_notes(splits[name], name, config)
    return lines


def one_class_notes(part: pa.Table, name: str, config: Config) -> list[str]:
    """Return one line per feedback with the domains where it has one class only."""
    frame = pl.DataFrame(part.select([*([config.domain] if config.domain else []), *config.feedback]))
    by = pl.col(config.domain).cast(pl.String) if config.domain else pl.lit("all")
    groups = frame.group_by(by.alias("__domain")).agg(pl.col(list(config.feedback)).n_unique()).sort("__domain")
    return [
        f"{name}: {label!r} has one class only in {', '.join(single)}; its metrics there are undefined"
        for label in config.feedback
        if (single := groups.filter(pl.col(label) < 2)["__domain"].to_list())
    ]
