"""How do impressions become feature tables, and their newest values the online store's?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import FeatureTables
from components.contract import RunContext
from components.errors import BadInputError
from components.materialize_features.config import Config, Inputs, Outputs
from components.materialize_features.marker import (
    OnlineMarker,
    outdated_views,
    read_markers,
    refuse_foreign_views,
    write_marker,
)
from components.materialize_features.sentences import one_sentence
from components.store import content_digest, file_digests
from features.declaration import Window
from features.files import locked
from features.service import ServiceSnapshot

if TYPE_CHECKING:
    from features.definitions import Definitions

TICK = timedelta(microseconds=1)
LONGEST_WAIT = 600.0
"""Seconds to wait for another run that writes the online store."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Compute the tables of the service and, with `online`, write their newest values.

    Raises:
        BadInputError: the events lack a column, or none lies in the window.
        MissingError: there is no such feature service.
        RetryableError: the online store is locked, or its server does not answer.
    """
    draft = context.draft("feature_tables")
    from features.own_definitions import definitions_of

    definitions = definitions_of(config.definitions)
    snapshot = write_tables(context.local(inputs.table), config.feature_service, context.window, draft, definitions)
    (draft / "service.json").write_text(snapshot.model_dump_json(indent=2), encoding="utf-8")
    rows = ", ".join(f"{name} {count:,}" for name, count in sorted(snapshot.rows.items()))
    context.note(f"{len(snapshot.features)} features; rows: {rows}")
    if config.online:
        context.note(_write_online(draft, snapshot, config, context, definitions))
    return Outputs(feature_tables=FeatureTables(uri=str(draft)))


def write_tables(
    events: Path, service: str, window: Window, directory: Path, definitions: Definitions | None = None
) -> ServiceSnapshot:
    """Write one Parquet file per source of `service` and return what was written.

    Args:
        events: local folder of an `EventsTable`; each recipe reads one of its logs.
        service: feature service.
        window: impressions that count.
        directory: folder of the files.
        definitions: where the service is defined; `features/definitions/` when None.

    Raises:
        BadInputError: the events lack a log or a column, or none lies in the window.
        MissingError: there is no such feature service.
    """
    import polars as pl

    from features.definitions import load_definitions
    from features.definitions.recipe import IMPRESSIONS
    from features.service import describe, dtype_name
    from features.tables import compute_table, write_table

    definitions = definitions or load_definitions()
    features, sources = describe(service, definitions)
    # All features of a view, though the service may ask for some: its values in the online store are whole.
    schemas = {
        view.name: {field.name: dtype_name(field.dtype) for field in view.features}
        for view in definitions.views_of(service)
    }
    rows = {}
    for source in sources:
        recipe = definitions.recipes[source.name]
        log = events / f"{recipe.log}.parquet"
        if not log.exists():
            raise BadInputError(
                f"source {source.name!r} is computed from the log {recipe.log!r}, which the events table does not "
                "hold: ingest it, or choose another feature service"
            )
        frame = compute_table(recipe, pl.scan_parquet(log), window)
        if frame.is_empty():
            what = "impression" if recipe.log == IMPRESSIONS else f"row of the log {recipe.log!r}"
            raise BadInputError(
                f"no {what} lies in the window {window}: move the window of the pipeline, or ingest those days"
            )
        write_table(frame, source.keys | schemas[source.view], directory / source.file, source.keys)
        rows[source.name] = len(frame)
    return ServiceSnapshot(service=service, features=tuple(features), sources=tuple(sources), window=window, rows=rows)


def spans(window: Window, chunks: int) -> list[tuple[datetime, datetime]]:
    """Return `chunks` half-open parts of the window, the first one starting where profiles may stand.

    A profile's first row lies 1 µs before the key's first impression, so possibly before the window.
    """
    width = (window.end - window.start) / chunks
    edges = [window.start - TICK, *(window.start + width * part for part in range(1, chunks)), window.end]
    return [(start, end) for start, end in pairwise(edges) if start < end]


def _write_online(
    directory: Path, snapshot: ServiceSnapshot, config: Config, context: RunContext, definitions: Definitions
) -> str:
    from features.store import embedded_online_store, materialize, online_identity

    feast = context.settings.feast
    online = online_identity(feast)
    hashes = file_digests(directory)
    with locked(feast / "materialize.lock", LONGEST_WAIT), one_sentence(online):
        database = embedded_online_store(feast)
        # What markers say about a database that was deleted is no longer true.
        markers = read_markers(feast, online) if database is None or database.exists() else {}
        origin = Path(config.definitions).name if config.definitions else ""
        refuse_foreign_views(markers, snapshot.views, origin)
        views = outdated_views(markers, snapshot.views, snapshot.window)
        if not views:
            return f"online store left alone: it holds values of a later window than {snapshot.window}"
        parts = spans(snapshot.window, config.chunks)
        for done, (start, end) in enumerate(materialize(feast, directory, views, parts, definitions), start=1):
            context.progress(f"online store: {done}/{len(parts)} written, {start:%Y-%m-%d} to {end:%Y-%m-%d}")
        write_marker(
            feast,
            OnlineMarker(
                service=snapshot.service,
                digest=content_digest(FeatureTables.kind, FeatureTables.schema_version, hashes),
                window=snapshot.window,
                views=tuple(views),
                online=online,
                finished_at=datetime.now(UTC),
                definitions=origin,
            ),
        )
    skipped = sorted(set(snapshot.views) - set(views))
    later = f"; {', '.join(skipped)} left alone, they hold a later window" if skipped else ""
    return f"online store holds {', '.join(views)} as of {snapshot.window.end:%Y-%m-%d %H:%M} UTC{later}"
