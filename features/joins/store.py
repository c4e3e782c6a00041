"""How is Feast opened, asked about the past, and written for the present?

Objects are applied from code, never by scanning a folder. The offline engine is always our own, on top of Feast's
duckdb one: Feast's default loses rows and breaks ties wrongly, and its duckdb one takes the square of the rows per key.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.definitions import Definitions, load_definitions
from features.ground.errors import BadInputError, MissingError
from features.services.service import FeatureSnapshot, ServiceSnapshot, SourceSnapshot, describe

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore, RepoConfig

    from features.joins.spill import Column

__all__ = [
    "ENTITY_TIME",
    "ROW_ID",
    "FeatureSnapshot",
    "ServiceSnapshot",
    "SourceSnapshot",
    "describe",
    "embedded_online_store",
    "historical",
    "historical_on_disk",
    "materialize",
    "online_identity",
    "open_offline",
    "open_shared",
    "views_without_values",
]

PROJECT = "rankmill"
ROW_ID, ENTITY_TIME = "__row_id", "event_timestamp"
CUSTOM_STORE = "RANKMILL_FEATURE_STORE"
"""Environment variable with the path of a `feature_store.yaml` that replaces the embedded stores."""
DEFAULT_YAML = Path(__file__).resolve().parents[1] / "feature_store.yaml"
PROVIDER, FEAST_PROVIDERS = "features.joins.online.BulkProvider", ("local", "gcp", "aws", "azure")
OFFLINE_STORE = {"type": "features.joins.asof_store.AsOfOfflineStore"}


@contextmanager
def open_offline(directory: Path, definitions: Definitions | None = None) -> Iterator[FeatureStore]:
    """Open a feature store over the files of one `FeatureTables` artifact; its registry ends with the block."""
    from feast import FeatureStore, RepoConfig

    with tempfile.TemporaryDirectory(prefix="rankmill-feast-") as folder:
        config = RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(Path(folder) / "registry.db"),
            online_store={"type": "sqlite", "path": str(Path(folder) / "online.db")},
            offline_store=OFFLINE_STORE,
            entity_key_serialization_version=3,
        )
        store = FeatureStore(config=config)
        _apply(store, _bound(definitions or load_definitions(), directory))
        try:
            yield store
        finally:
            _release_engine()


def online_identity(feast: Path) -> str:
    """Return which online store the shared configuration names: a database file or a `feature_store.yaml`."""
    custom = os.environ.get(CUSTOM_STORE)
    return str(Path(custom).resolve()) if custom else str(embedded_online_store(feast))


def embedded_online_store(feast: Path) -> Path | None:
    """Return the SQLite file of the embedded online store, or None when the user brings an own store."""
    return None if os.environ.get(CUSTOM_STORE) else feast / "online.db"


def open_shared(feast: Path, definitions: Definitions | None = None) -> FeatureStore:
    """Open the store that serving reads, with the definitions applied to its registry.

    Raises:
        MissingError: the file that ``RANKMILL_FEATURE_STORE`` names does not exist.
        BadInputError: it is not a valid Feast configuration.
    """
    from feast import FeatureStore

    feast.mkdir(parents=True, exist_ok=True)
    config = shared_config(feast)
    store = FeatureStore(config=config)
    store.repo_path = config.repo_path  # a relative registry path resolves against this, not the config
    _apply(store, definitions or load_definitions())
    return store


def materialize(
    feast: Path,
    directory: Path,
    views: list[str],
    spans: list[tuple[datetime, datetime]],
    definitions: Definitions | None = None,
) -> Iterator[tuple[datetime, datetime]]:
    """Write the newest values of each span into the shared online store, oldest span first.

    Yields:
        Each span after it was written.
    """
    from feast import FeatureStore

    definitions = definitions or load_definitions()
    shared = open_shared(feast, definitions)
    # The shared registry keeps the relative paths of the definitions, because an artifact may be
    # deleted; only this short-lived registry knows where the files lie now.
    with tempfile.TemporaryDirectory(prefix="rankmill-feast-") as folder:
        reader = FeatureStore(config=shared_config(feast, registry=Path(folder) / "registry.db"))
        _apply(reader, _bound(definitions, directory))
        try:
            for start, end in spans:
                last = end - timedelta(microseconds=1)  # Feast includes both ends
                with _silenced():
                    reader.materialize(start, last, feature_views=views)
                for name in views:
                    view = shared.registry.get_feature_view(name, shared.project)
                    if (start, last) not in view.materialization_intervals:
                        shared.registry.apply_materialization(view, shared.project, start, last)
                yield start, end
            _forget_absent_keys(reader, directory, views)
        finally:
            _release_engine()


def _forget_absent_keys(reader: FeatureStore, directory: Path, views: list[str]) -> None:
    """Delete from SQLite what the tables no longer hold: offline such a key has no values either.

    Feast only ever replaces values; other online stores keep those of a key that is gone until their TTL ends.
    """
    import pyarrow.parquet as pq

    from features.joins.online import BulkProvider, BulkSqliteOnlineStore
    from features.joins.online_columns import can_spell_keys

    provider = reader._get_provider()
    if not isinstance(provider, BulkProvider) or not isinstance(provider.online_store, BulkSqliteOnlineStore):
        return
    for name in views:
        view = reader.get_feature_view(name)
        if view.online and can_spell_keys(view):
            keys = pq.read_table(directory / view.batch_source.path, columns=list(view.join_keys))
            provider.online_store.keep_only(reader.config, view, keys.group_by(view.join_keys).aggregate([]))


def views_without_values(feast: Path, directory: Path, snapshot: ServiceSnapshot) -> list[str]:
    """Return the views of which the shared online store has nothing, though their feature tables have.

    It is asked for the newest row of each table.
    """
    import pyarrow.compute as pc
    from feast import FeatureStore
    from feast.errors import FeastObjectNotFoundException
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    from features.joins.histories import listed, read_table

    store = FeatureStore(config=shared_config(feast))
    without = []
    for source in snapshot.sources:
        table = read_table(directory / source.file)
        newest = pc.index(table[ENTITY_TIME], pc.max(table[ENTITY_TIME])).as_py()
        [row] = listed(table.slice(newest, 1)).to_pylist()
        names = [feature.name for feature in snapshot.features if feature.view == source.view]
        held = [f"{source.view}:{name}" for name in names if row[name] is not None and row[name] == row[name]]
        try:
            if not held or not store.get_feature_view(source.view).online:
                continue
            with _silenced():
                entity = {key: row[key] for key in source.keys}
                answer = store.get_online_features(held, entity_rows=[entity], full_feature_names=True).proto
        except FeastObjectNotFoundException:  # the registry has never heard of the view
            without.append(source.view)
            continue
        answers = dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))
        values = [answers[name.replace(":", "__")] for name in held]
        # A value that is there and too old to be served is not lost.
        if not any(v.values[0].WhichOneof("val") or FieldStatus.OUTSIDE_MAX_AGE in v.statuses for v in values):
            without.append(source.view)
    return without


def historical(
    store: FeatureStore,
    entities: pa.Table,
    service: str,
    definitions: Definitions | None = None,
    *,
    names: Collection[str] | None = None,
    honour_created: bool = True,
) -> pa.Table:
    """Return the features of each entity row as they were known at its time.

    Args:
        store: store of `open_offline`.
        entities: `__row_id` (int64, unique), the key columns and `event_timestamp` in
            ``timestamp[us, UTC]``. A row sees feature rows with an event time equal to its own, so ask
            1 µs before the impression. With `__asked_at`, of the same type, values age until then.
        service: feature service.
        definitions: those the store was opened with.
        names: features of the service to return; all when None.
        honour_created: hide feature rows that were written after the entity row's time.

    Returns:
        `__row_id` and the features in the service's dtypes, one row per entity row, in their order; histories that
        a table keeps by reference as Arrow ``list_view`` over its events. Where a key, or one of several, is missing,
        nothing is known.

    Raises:
        BadInputError: an entity row has no time, or rows were lost, doubled or moved.
    """
    import pandas as pd
    import pyarrow as pa

    from features.joins.asof import ASKED_AT
    from features.joins.histories import is_view

    features, sources = describe(service, definitions)
    wanted = [feature for feature in features if names is None or feature.name in names]
    asked = {feature.view for feature in wanted}
    needed = [*sorted({key for source in sources if source.view in asked for key in source.keys}), ENTITY_TIME]
    used = [ASKED_AT] if ASKED_AT in entities.column_names else []
    if missing := entities.column(ENTITY_TIME).null_count:
        raise BadInputError(f"{missing} entity rows have no {ENTITY_TIME}; drop them first")
    schema = pa.schema([(ROW_ID, pa.int64()), *((feature.name, arrow_type(feature.dtype)) for feature in wanted)])
    with _silenced():
        job = store.get_historical_features(
            entity_df=entities.select([ROW_ID, *needed, *used]).to_pandas(types_mapper=pd.ArrowDtype),
            features=[f"{feature.view}:{feature.name}" for feature in wanted],
            filter_by_created_timestamp=honour_created,
        )
        answer = job.to_arrow().select(schema.names)
    for at, found in enumerate(answer.schema):
        if is_view(found.type):  # in the dtype of its elements, as the recipe's table is written
            schema = schema.set(at, found)
    answer = answer.cast(schema)
    if not answer.column(ROW_ID).equals(entities.column(ROW_ID)):
        raise BadInputError(
            f"Feast answered {answer.num_rows} rows for {entities.num_rows} entity rows, or in another order; "
            f"check that service {service!r} has no view that drops rows"
        )
    return answer


def historical_on_disk(
    store: FeatureStore,
    entities: Path,
    service: str,
    definitions: Definitions | None = None,
    *,
    names: Collection[str] | None = None,
    honour_created: bool = True,
    folder: Path,
) -> dict[str, Column]:
    """Return the features of each entity row as `historical` does, on disk: for rows that memory should not hold.

    Args:
        store: store of `open_offline`.
        entities: Parquet file of rows, see `historical`; it needs no `__row_id`.
        service: feature service.
        definitions: those the store was opened with.
        names: features of the service to return; all when None.
        honour_created: hide feature rows that were written after the entity row's time.
        folder: where the columns go, which must not exist.

    Raises:
        BadInputError: an entity row has no time.
        RetryableError: what was put on disk cannot be read again.
    """
    from features.joins.spill import Spilled

    features, _ = describe(service, definitions)
    wanted = [feature for feature in features if names is None or feature.name in names]
    rows = Spilled(entities)
    times = rows.columns()[ENTITY_TIME]
    if missing := times.read(0, len(times)).null_count:
        raise BadInputError(f"{missing} entity rows have no {ENTITY_TIME}; drop them first")
    if not wanted:
        return {}
    with _silenced():
        job = store.get_historical_features(
            entity_df=str(entities),
            features=[f"{feature.view}:{feature.name}" for feature in wanted],
            filter_by_created_timestamp=honour_created,
        )
        found = job.write(folder, {feature.name: arrow_type(feature.dtype) for feature in wanted})
    return {feature.name: found[feature.name] for feature in wanted}


def arrow_type(dtype: str) -> pa.DataType:
    """Return the Arrow type of a Feast dtype such as ``int64`` or ``array<string>``."""
    import pyarrow as pa

    if dtype.startswith("array<"):
        return pa.list_(arrow_type(dtype[6:-1]))
    if dtype == "unix_timestamp":
        return pa.timestamp("us", "UTC")
    return pa.type_for_alias({"bytes": "binary"}.get(dtype, dtype))


def _bound(definitions: Definitions, directory: Path) -> Definitions:
    """Return a copy whose sources point into `directory`.

    Feast's duckdb engine resolves a relative path against the working folder, whatever the
    repository's path is.
    """
    bound = copy.deepcopy(definitions)
    for view in bound.views:
        options = view.batch_source.file_options
        if not Path(options.uri).is_absolute():
            options.uri = str(directory / options.uri)
    return bound


def _apply(store: FeatureStore, definitions: Definitions) -> None:
    objects = [*definitions.entities, *definitions.views, *definitions.services]
    with _silenced():
        # A deep copy, because apply writes inferred facts into the objects.
        store.apply(copy.deepcopy(objects))


def shared_config(feast: Path, registry: Path | None = None) -> RepoConfig:
    """Return the configuration of the store that serving reads, with the registry elsewhere if one is given.

    Raises:
        MissingError: the file that ``RANKMILL_FEATURE_STORE`` names does not exist.
        BadInputError: it is not a valid Feast configuration.
    """
    import yaml
    from feast import RepoConfig

    custom = os.environ.get(CUSTOM_STORE)
    path = Path(custom).resolve() if custom else DEFAULT_YAML
    if not path.exists():
        raise MissingError(f"{CUSTOM_STORE} names {path}, which does not exist; point it at a feature_store.yaml")
    try:
        raw = _expanded(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise BadInputError(
            f"{path}{line} is no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}"
        ) from None
    if not isinstance(raw, dict):
        raise BadInputError(f"{path} is no Feast configuration: it must be a mapping with project, registry and stores")
    if not custom:
        raw["registry"] = str(feast / "registry.db")
        raw["online_store"]["path"] = str(embedded_online_store(feast))
    if registry is not None:
        raw["registry"] = str(registry)
    elif isinstance(raw.get("registry"), str) and "://" not in raw["registry"]:
        # Feast would make a relative one where the process happens to run, too.
        raw["registry"] = str(path.parent / raw["registry"])
    try:
        # Feast's own provider knows no TTL when it answers; ours hands other online stores what they are asked.
        ours = {"provider": PROVIDER} if raw.get("provider", "local") in FEAST_PROVIDERS else {}
        config = RepoConfig(**(raw | ours | {"offline_store": OFFLINE_STORE}))
    except Exception as error:  # Feast's errors are of any class
        raise BadInputError(f"{path} is no valid Feast configuration: {_fault(error)}; correct it") from None
    config.repo_path = path.parent
    return config


def _expanded(value: Any) -> Any:
    """Return parsed YAML with ``$NAME`` and ``${NAME}`` replaced inside its texts.

    After parsing, because a password may hold what YAML reads: `` #``, ``: `` or a brace. What is put in stays a text.
    """
    if isinstance(value, dict):
        return {key: _expanded(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_expanded(inside) for inside in value]
    return os.path.expandvars(value) if isinstance(value, str) else value


def _fault(error: Exception) -> str:
    """Return what is wrong with a configuration and where, and never a value: it may be a password."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return f"Feast refuses it ({type(error).__name__})"
    first = error.errors(include_input=False, include_context=False, include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the file"
    # A validator of Feast's own says what it likes, values included; of the others the kind says enough.
    said = "its value is refused by Feast" if first["type"] in ("value_error", "assertion_error") else first["msg"]
    return f"{where}: {said}"


def _release_engine() -> None:
    """Close the duckdb connection that Feast leaves open; alive at exit, it fills the log with leak reports."""
    import gc
    import importlib

    ibis = importlib.import_module("ibis")
    if ibis.options.default_backend is not None:
        ibis.options.default_backend.disconnect()
        ibis.options.default_backend = None
        gc.collect()


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep Feast's progress prints, cache messages and deprecations out of the log of the stage."""
    import logging
    import warnings
    from contextlib import redirect_stdout
    from io import StringIO

    logging.getLogger("feast").setLevel(logging.WARNING)
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
