"""How do feature tables reach the online store, just computed or taken from the artifact store?

Apart from computing them, so that a stage whose tables are in the artifact store is done with them, whoever wrote the
online store last: training reads tables only.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from components.data.materialize_features.config import Config, Outputs
from components.data.materialize_features.marker import (
    OnlineMarker,
    delete_markers,
    distrust,
    read_markers,
    refuse_foreign_views,
    standing,
    write_marker,
)
from components.data.materialize_features.sentences import one_sentence
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from features.ground.files import locked
from features.services.service import ServiceSnapshot

TICK = timedelta(microseconds=1)
LOCK = "materialize.lock"
"""File in the folder of the online store that its writers hold."""
LONGEST_WAIT = 600.0
"""Seconds to wait for another run that writes the online store."""
log = logging.getLogger("rankmill")


def expect_write(config: Config, settings: Settings) -> None:
    """See to it that the tables that are about to be computed are written, also where the store seems to hold them.

    Whoever runs a stage anew wants the online store mended, too.
    """
    if config.online:
        from features.joins.store import online_identity

        with locked(settings.feast / LOCK, LONGEST_WAIT):
            marker = read_markers(settings.feast, online_identity(settings.feast)).get(config.feature_service)
            if marker is not None:
                distrust(settings.feast, [marker], marker.views)


def publish_online(outputs: Outputs, config: Config, settings: Settings) -> str | None:
    """Write the newest values of published tables into the online store, but for what it holds already.

    Returns:
        What the online store holds now, for the notes; None when the stage writes none.

    Raises:
        BadInputError: another file's definitions wrote a view of the same name, or the store is damaged.
        RetryableError: the online store is locked, or its server does not answer.
    """
    if not config.online:
        return None
    from features.joins.histories import files_of
    from features.joins.store import embedded_online_store, materialize, online_identity, views_without_values
    from features.services.own_definitions import definitions_of

    store, feast = open_store(settings), settings.feast
    local = store.fetch(outputs.feature_tables)
    snapshot = ServiceSnapshot.model_validate_json((local / "service.json").read_text(encoding="utf-8"))
    files = store.manifest(outputs.feature_tables).files
    values = {
        source.view: _digest([files[file] for file in files_of(source.file, files)]) for source in snapshot.sources
    }
    online = online_identity(feast)
    origin = Path(config.definitions).name if config.definitions else ""
    with locked(feast / LOCK, LONGEST_WAIT), one_sentence(online):
        database = embedded_online_store(feast)
        markers = read_markers(feast, online)
        if database is not None and not database.exists():
            delete_markers(feast, markers.values())
            markers = {}
        refuse_foreign_views(markers, snapshot.views, origin)
        found = {view: standing(markers, view, digest, snapshot.window) for view, digest in values.items()}
        own = [view for view, state in found.items() if state != "later"]
        if not own:
            return f"online store left alone: it holds values of a later window than {snapshot.window}"
        if database is None and all(found[view] == "held" for view in own):
            # The marker is a file of ours; a server may have lost its values, or the configuration name another one.
            found |= dict.fromkeys(views_without_values(feast, local, snapshot), "outdated")
        if outdated := [view for view in own if found[view] == "outdated"]:
            # Services share views: a write that is killed leaves nobody's word that they hold what they held.
            distrust(feast, markers.values(), outdated)
            parts = spans(snapshot.window, config.chunks)
            definitions = definitions_of(config.definitions)
            for done, (start, end) in enumerate(materialize(feast, local, outdated, parts, definitions), start=1):
                written = f"{done}/{len(parts)} written, {start:%Y-%m-%d} to {end:%Y-%m-%d}"
                log.info("online store, %s: %s", ", ".join(outdated), written)
            write_marker(
                feast,
                OnlineMarker(
                    service=snapshot.service,
                    digest=outputs.feature_tables.digest,
                    window=snapshot.window,
                    views=tuple(own),
                    values={view: values[view] for view in own},
                    online=online,
                    finished_at=datetime.now(UTC),
                    definitions=origin,
                ),
            )
    skipped = sorted({*values} - {*own})
    later = f"; {', '.join(skipped)} left alone, they hold a later window" if skipped else ""
    return f"online store holds {', '.join(own)} as of {snapshot.window.end:%Y-%m-%d %H:%M} UTC{later}"


def _digest(files: list[str]) -> str:
    """Return the digest of a table: that of its only file, or of those of all."""
    return files[0] if len(files) == 1 else hashlib.sha256("".join(files).encode()).hexdigest()


def spans(window: Window, chunks: int) -> list[tuple[datetime, datetime]]:
    """Return `chunks` half-open parts of the window, the first one starting where profiles may stand.

    A profile's first row lies 1 µs before the key's first impression, so possibly before the window.
    """
    width = (window.end - window.start) / chunks
    edges = [window.start - TICK, *(window.start + width * part for part in range(1, chunks)), window.end]
    return [(start, end) for start, end in pairwise(edges) if start < end]
