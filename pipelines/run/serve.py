"""How does a service start on this machine? Processes of uvicorn around one app, and what they follow.

What answers is decided in `registry.serving`; here is where versions, memories, features and secrets come from.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from components.platform.errors import BadInputError, MissingError
from components.platform.process_tree import end_with_parent
from components.platform.settings import Settings, quiet_engines
from features.ground.files import locked, write_durably
from pipelines.language.profile_spec import REFERENCE
from registry.serving.live.version import Live, open_live
from registry.serving.wire.config import MULTIPROCESS, Engine, ServingConfig
from registry.serving.wire.pointed import Pointed

if TYPE_CHECKING:
    import pyarrow as pa
    from starlette.applications import Starlette

    from components.data.materialize_features.marker import OnlineMarker
    from registry.champion.trials import Trials
    from registry.memory.error_memory import Memory
    from registry.serving.live.counters import Counters
    from registry.serving.live.follow import Follower
    from registry.serving.live.lookup import Lookup
    from registry.serving.live.retrieve import Catalogue
    from registry.serving.log.served_log import ServedLog
    from registry.serving.log.served_rows import Hashes
    from registry.serving.server.app import Service
    from registry.serving.trial.challenger import Challenger
    from registry.versions.client import Registry

CONFIG, TOKEN = "RANKMILL_SERVING_CONFIG", "RANKMILL_SERVING_TOKEN_VALUE"
"""Environment variables that hand the config, and the token that it refers to, to the processes that answer."""
KEPT = 3
"""Versions of a model whose files stay on this machine."""
LOOK_AGAIN = 5.0
"""Seconds after which the markers of materialisations are read again."""
BUILD = 60.0
"""Seconds that the online store has for some thousand items of a catalogue."""
HEADER_BYTES = 16 << 10
IDLE = 5
"""Seconds that a connection may be silent between questions."""


def serving_folder(settings: Settings, model: str) -> Path:
    """Return where the files of a model's versions lie on a machine that serves it."""
    return settings.home / "serving" / model


@dataclass(frozen=True)
class StoredVersions:
    """Versions of MLflow's registry, their files on this machine, and memories of the artifact store."""

    settings: Settings
    config: ServingConfig
    beside: str = ""
    """Alias of a challenger; empty for the version that answers."""
    trials: Trials | None = None
    """Which versions may be a challenger; None takes any."""

    @property
    def alias(self) -> str:
        """Alias that is followed."""
        return self.beside or self.config.follow.alias

    @property
    def registry(self) -> Registry:
        """The registry that the settings name."""
        from registry.versions.client import Registry

        return Registry(self.settings.tracking_uri, self.settings.mlflow_artifacts)

    @property
    def folder(self) -> Path:
        """Where versions lie, and what answered last."""
        return serving_folder(self.settings, self.config.model)

    def pointed(self) -> Pointed:
        """Return what the alias points at.

        Raises:
            MissingError: there is no such model, alias or version; or a challenger is what answers already, or was
                taken back by a person.
        """
        from registry.versions.memory_pointer import pointer_in

        state = self.registry.state(self.config.model)
        number, digest = state.behind(self.config.model, self.alias)
        if self.beside and state.aliases.get(self.config.follow.alias) == number:
            if self.trials is not None:
                self.trials.forget()  # it may be taken back before it is seen again
            raise MissingError(
                f"{self.alias} of {self.config.model} is v{number}, which answers already: nothing is compared until "
                "another version is registered"
            )
        if self.trials is not None:
            self.trials.check(number, digest)
        memory = pointer_in(state.tags[number]) if self.config.memory.use else None
        return Pointed(version=number, digest=digest, memory=memory.digest if memory is not None else "")

    def open(self, pointed: Pointed) -> Live:
        """Return a version, opened, proved and warm; its files are brought once for all processes.

        Raises:
            RankmillError: they cannot be had, were changed, or answer otherwise here.
        """
        directory = self._files(pointed)
        memory = self._memory(pointed)
        return open_live(self.config.model, self.alias, pointed, directory, memory, self.config.provider)

    def with_memory(self, live: Live, pointed: Pointed) -> Live:
        """Return a version with the error memory that the registry points at."""
        return live.with_memory(self._memory(pointed), pointed.memory)

    def last(self) -> Pointed | None:
        """Return what answered last on this machine, or None; a challenger has answered nobody."""
        if self.beside:
            return None
        try:
            return Pointed.model_validate_json((self.folder / "live.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def remember(self, pointed: Pointed) -> None:
        """Note what answers, for a start without a registry."""
        if not self.beside and self.last() != pointed:
            write_durably(self.folder / "live.json", pointed.model_dump_json())

    def _files(self, pointed: Pointed) -> Path:
        from registry.versions.seal import SEAL, Seal, check_seal

        target, what = self.folder / pointed.digest, f"{self.config.model} v{pointed.version}"
        with locked(self.folder / "files.lock"):
            if target.is_dir():
                try:
                    seal = Seal.model_validate_json((target / SEAL).read_bytes())
                    check_seal(target, seal.digest, what)
                    os.utime(target)
                    return target
                except (OSError, ValidationError, BadInputError):  # a disk may lose what was there; it is brought again
                    shutil.rmtree(target, ignore_errors=True)
            incoming = self.folder / f".{pointed.digest[:16]}-{uuid.uuid4().hex}"
            try:
                self.registry.download(self.config.model, pointed.version, incoming).rename(target)
            finally:
                shutil.rmtree(incoming, ignore_errors=True)
            self._sweep(target)
        return target

    def _sweep(self, newest: Path) -> None:
        """Delete the versions that were used longest ago; an open one needs its files no more."""
        versions = [path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for old in sorted(versions, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            if old != newest:
                shutil.rmtree(old, ignore_errors=True)

    def _memory(self, pointed: Pointed) -> Memory | None:
        if not pointed.memory:
            return None
        from components.memory.refresh_error_memory.pointer import find_memory

        return find_memory(self.settings, self.config.model, pointed.version)


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
    lookup, log = _lookup(config, settings), _log(config, settings, counters)
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
    return Challenger(follower, _lookup(config, settings))


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


def _learner(config: ServingConfig, settings: Settings, answering: Callable[[], Live | None], counters: Any) -> Any:
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


def _lookup(
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
    patient = _lookup(config, settings, keep=0, timeout=BUILD)

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


def resolved_token(config: ServingConfig) -> str | None:
    """Return the token that a config refers to; raise BadInputError where nothing is where it points."""
    return _secret(config, config.listen.token, "token")


def log_hashes(config: ServingConfig) -> Hashes | None:
    """Return which columns the log keeps as hashes; raise BadInputError where their secret is not there."""
    from registry.serving.log.served_rows import Hashes

    if config.log is None or not config.log.hash:
        return None
    return Hashes(config.log.hash, (_secret(config, config.log.hash_key, "hash_key") or "").encode())


def _secret(config: ServingConfig, reference: str | None, what: str) -> str | None:
    match = REFERENCE.fullmatch(reference) if reference else None
    if match is None:
        return None
    variable = _variable(match)
    value = os.environ.get(variable, "")
    if match["kind"] == "connection" and value:
        from urllib.parse import unquote, urlparse

        value = unquote(urlparse(value).password or "")
    if not value:
        raise BadInputError(f"service {config.name!r} needs its {what} in the environment variable {variable}: set it")
    return value


def _variable(match: re.Match[str]) -> str:
    return match["name"] if match["kind"] == "env" else f"AIRFLOW_CONN_{match['name'].upper()}"


def secret_variables(config: ServingConfig) -> tuple[str, ...]:
    """Return the environment variables that a config's references name."""
    references = (config.listen.token, config.log.hash_key if config.log is not None else None)
    return tuple(_variable(match) for text in references if text and (match := REFERENCE.fullmatch(text)))


def worker() -> Starlette:
    """Return the app of one process of uvicorn; it calls this."""
    app = app_of_process()
    if app.state.service.config.listen.workers > 1:
        end_with_parent()  # nobody would start it again, and nobody could stop it
    return app


def app_of_process() -> Starlette:
    """Return the app of one process, as the environment describes it."""
    from registry.serving.live.counters import forget_dead
    from registry.serving.server.app import make_app

    quiet_engines()
    _log_as_json()
    logging.captureWarnings(True)  # of libraries, which nobody who serves can mend
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    import pyarrow as pa

    pa.set_cpu_count(1)
    config = ServingConfig.model_validate_json(os.environ[CONFIG])
    token, counts = os.environ.get(TOKEN), os.environ.get(MULTIPROCESS)
    if counts is not None:
        forget_dead(counts)
    return make_app(service_of(config, Settings.from_environment(), token, counts))


def serve(config: ServingConfig, engine: Engine | None = None) -> int:
    """Answer until Ctrl-C or SIGTERM, in as many processes as the config says; one that ends is started again.

    Args:
        config: of the service.
        engine: what runs the processes; None takes Ray where the settings name a cluster.

    Returns:
        Exit status.

    Raises:
        BadInputError: the port is in use, or the token is not there, or no cluster is.
        RetryableError: the cluster does not answer.
    """
    settings, token = Settings.from_environment(), resolved_token(config)
    log_hashes(config)  # a secret that is not there is told before a process is started
    told = {CONFIG: config.model_dump_json()} | ({TOKEN: token} if token is not None else {})
    if engine == "ray" or (engine is None and settings.ray_address):
        from pipelines.run.serve_on_ray import serve_on_ray

        return serve_on_ray(config, settings, told)
    return _serve_here(config, told)


def _serve_here(config: ServingConfig, told: dict[str, str]) -> int:
    """Run uvicorn's processes on this machine; `told` are the variables that hand them the config and the token."""
    listen = config.listen
    _refuse_busy(listen.host, listen.port)
    os.environ |= told | {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="rankmill-counts-") as counts:
        os.environ[MULTIPROCESS] = counts
        import uvicorn  # whatever imports Prometheus' client must find the folder
        from uvicorn.supervisors import Multiprocess

        from registry.serving.server.app import DRAIN
        from registry.serving.server.connections import Connection

        class Processes(Multiprocess):
            """Whoever comes while they end is turned away at once, to ask another machine, and not kept waiting."""

            def terminate_all(self) -> None:
                for bound in self.sockets:
                    bound.close()
                super().terminate_all()

        # uvicorn sends itself the signal again when it is done, which would end this process with another status.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        plan = uvicorn.Config(
            "pipelines.run.serve:worker",
            factory=True,
            host=listen.host,
            port=listen.port,
            workers=listen.workers,
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=int(DRAIN),
            limit_concurrency=None,
            h11_max_incomplete_event_size=HEADER_BYTES,
            http=Connection,
            ws="none",
            ssl_certfile=listen.tls.cert if listen.tls else None,
            ssl_keyfile=listen.tls.key if listen.tls else None,
        )
        _log_as_json()
        if listen.workers > 1:
            Processes(plan, sockets=[plan.bind_socket()]).run()
            return 0
        server = uvicorn.Server(plan)
        with suppress(KeyboardInterrupt):
            server.run()
        return 0 if server.started else 1


def _refuse_busy(host: str, port: int) -> None:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInputError(
                f"{host}:{port} cannot be listened on ({error.strerror}): stop what uses it, or name another --port"
            ) from None


class _Json(logging.Formatter):
    """One line of JSON per message."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "said": record.getMessage(),
            "process": record.process,
        }
        said |= {key: getattr(record, key) for key in ("model", "version", "reason") if hasattr(record, key)}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def _log_as_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for name in ("rankmill", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "rankmill" else logging.WARNING)
