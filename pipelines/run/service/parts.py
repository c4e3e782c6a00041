"""What is one process of a service made of? Follower, features, log, learner, catalogue, and what is beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.errors import BadInputError
from components.platform.settings import Settings
from pipelines.run.service.secrets import log_hashes
from pipelines.run.service.versions import StoredVersions
from registry.serving.live.version import Live
from registry.serving.wire.config import ServingConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from components.data.materialize_features.marker import OnlineMarker
    from registry.serving.learning.learner import Learner
    from registry.serving.live.counters import Counters
    from registry.serving.live.follow import Follower
    from registry.serving.live.lookup import Lookup
    from registry.serving.live.retrieve import Catalogue
    from registry.serving.log.served_log import ServedLog
    from registry.serving.server.app import Service
    from registry.serving.trial.challenger import Challenger

LOOK_AGAIN = 5.0
"""Seconds after which the markers of materialisations are read again."""
BUILD = 60.0
"""Seconds that the online store has for some thousand items of a catalogue."""


def service_of(config: ServingConfig, settings: Settings, token: str | None, counts: str | None = None) -> Service:
    """Return what one process needs to answer; nothing is opened yet.

    Args:
        config: of the service.
        settings: where engines and stores are.
        token: what callers must send; None lets everybody in.
        counts: folder in which all processes of the service count; None for one process.
    """
    from registry.serving.live.counters import Counters
    from registry.serving.live.follow import Follower
    from registry.serving.log.feedback import FeedbackLog
    from registry.serving.log.segments import segments_of
    from registry.serving.server.app import Service
    from registry.serving.trial.canary import CanaryRoute
    from registry.serving.trial.shadow import ShadowThread

    counters = Counters.make(counts)
    versions = StoredVersions(settings, config)
    lookup, log = lookup_of(config, settings), _log(config, settings, counters)
    follower = Follower(versions, config.follow.every.total_seconds(), counters)
    catalogue = _catalogue(config, settings, follower)
    beside = {alias: _challenger(config, settings, alias, counters) for alias in config.challengers}
    lookups = [found for found in (lookup, *(one.lookup for one in beside.values())) if found is not None]

    def written() -> None:
        """A materialisation has written the online store."""
        for found in lookups:
            found.cache.clear()
        if catalogue is not None:
            catalogue.renew()

    age = Age(settings.feast, written)
    shadow, canary = config.shadow, config.canary
    return Service(
        config=config,
        follower=follower,
        catalogue=catalogue,
        lookup=lookup,
        counters=counters,
        token=token,
        log=log,
        learner=_learner(config, settings, lambda: follower.live, counters),
        feedback=FeedbackLog(segments_of(settings.artifacts, config.name)[1]) if config.log else None,
        shadow=ShadowThread(beside[shadow.alias], shadow, config, log.take, counters) if shadow and log else None,
        canary=CanaryRoute(beside[canary.alias], canary, config.name, counters) if canary else None,
        stale=age.stale,
        age=age.seconds,
        version=installed_version("rankmill"),
    )


def _challenger(config: ServingConfig, settings: Settings, alias: str, counters: Counters) -> Challenger:
    """Return what follows another alias; its failures leave the champion alone."""
    from registry.champion.ledger import Ledger
    from registry.champion.trials import Trials
    from registry.serving.live.follow import Follower
    from registry.serving.trial.challenger import Beside, Challenger

    versions = StoredVersions(settings, config, alias, Trials(Ledger(settings.ledger), config.model))
    follower = Follower(versions, config.follow.every.total_seconds(), Beside(counters), optional=True)
    return Challenger(follower, lookup_of(config, settings))


def _log(config: ServingConfig, settings: Settings, counters: Counters) -> ServedLog | None:
    from registry.serving.log.segments import segments_of
    from registry.serving.log.served_log import ServedLog

    options = config.log
    if options is None:
        return None
    questions, feedback = segments_of(settings.artifacts, config.name)
    return ServedLog(
        questions,
        seconds=options.segment.total_seconds(),
        share=options.share,
        hidden=options.hidden,
        drop=options.drop,
        hashes=log_hashes(config),
        keep=options.keep,
        beside=(feedback,),
        dropped=counters.log_dropped.inc,
    )


def _learner(
    config: ServingConfig, settings: Settings, answering: Callable[[], Live | None], counters: Counters
) -> Learner | None:
    from registry.serving.learning.learner import Learner
    from registry.serving.log.segments import segments_of

    options = config.memory
    if not options.live or config.log is None:
        return None
    questions, feedback = segments_of(settings.artifacts, config.name)
    return Learner(
        answering,
        questions,
        feedback,
        after=options.after,
        refresh=options.refresh,
        segment=config.log.segment,
        observer=counters,
    )


def lookup_of(
    config: ServingConfig, settings: Settings, keep: int | None = None, timeout: float | None = None
) -> Lookup | None:
    """Return the online store as a service asks it, or with another cache and patience."""
    from registry.serving.live.kept import ItemCache
    from registry.serving.live.lookup import Lookup, Store

    options = config.features
    if options.store == "none":
        return None

    def opened() -> Store:
        from features.joins.online_read import OnlineReader

        return OnlineReader.open(settings.feast)

    cache = ItemCache(options.cache_items if keep is None else keep, options.cache_for.total_seconds())
    patience = timeout or options.timeout.total_seconds()
    return Lookup(opened, cache=cache, timeout=patience, threads=4 * config.limits.in_flight)


def _catalogue(config: ServingConfig, settings: Settings, follower: Follower) -> Catalogue | None:
    from registry.serving.live.retrieve import Catalogue, Index, build_index

    options = config.retrieve
    if options is None:
        return None
    patient = lookup_of(config, settings, keep=0, timeout=BUILD)

    def build(live: Live) -> Index:
        return build_index(live, catalogue_items(live, options.catalogue), patient, datetime.now(UTC))

    return Catalogue(lambda: follower.live, build, options.every.total_seconds())


def catalogue_items(live: Live, file: str | None) -> pa.ChunkedArray:
    """Return the ids of the items that may be retrieved: those of a file, or those that training held.

    Raises:
        BadInputError: the file cannot be read or has no column of items, or the model knows no ids of items.
    """
    import pyarrow as pa

    schema = live.model.contract.schema_
    item = schema.declaration.item
    if file is None:
        table = next((field.table for field in schema.fields if field.name == item), None)
        known = live.model.encoder.vocabularies.get(str(table))
        if known is None:
            raise BadInputError(f"{live.name} has no vocabulary of {item!r}: name a file in retrieve.catalogue")
        return pa.chunked_array([known.values])
    import pyarrow.parquet as pq
    from pyarrow import csv

    from features.ground.remote_files import open_files

    files, path = open_files(file, "retrieve.catalogue")
    try:
        with files.open(path, "rb") as stream:
            table = csv.read_csv(stream) if path.endswith(".csv") else pq.read_table(stream, columns=[item])
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0][:160]
        raise BadInputError(f"retrieve.catalogue {file} cannot be read ({reason}): correct the file") from None
    if item not in table.column_names:
        raise BadInputError(f"retrieve.catalogue {file} has no column {item!r}: name the column of items so")
    ids = table[item]
    return ids.cast(pa.string()) if live.reads.dtype(item) == "string" else ids


class Age:
    """How old the values of the online store are, as the markers of materialisations say."""

    def __init__(self, feast: Path, written: Callable[[], object] = lambda: None) -> None:
        """Look into `feast` now and then, and call `written` after a materialisation."""
        self._feast, self._written = feast, written
        self._seen: dict[str, OnlineMarker] = {}
        self._looked = float("-inf")

    def until(self, service: str) -> datetime | None:
        """Return the moment that the values of a feature service are of, or None where it was never materialised."""
        self._look()
        marker = self._seen.get(service)
        return marker.window.end if marker is not None else None

    def seconds(self, live: Live) -> float | None:
        """Return the age of the features that a model reads, or None where nothing tells."""
        until = self.until(live.features.service) if live.features is not None else None
        return (datetime.now(UTC) - until).total_seconds() if until is not None else None

    def stale(self, live: Live) -> bool:
        """Return whether features are older than those that a model was trained on, by more than one `every`."""
        served = live.features
        if served is None or served.freshness is None:
            return False
        until, fresh = self.until(served.service), served.freshness
        allowed = 2 * fresh.every + (fresh.lag or timedelta(0))
        return until is None or datetime.now(UTC) - until > allowed

    def _look(self) -> None:
        from components.data.materialize_features.marker import read_markers
        from features.joins.store import online_identity

        if time.monotonic() - self._looked < LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        found = read_markers(self._feast, online_identity(self._feast))
        if found != self._seen:
            self._seen = found
            self._written()
