"""How do the newest feature values reach the online store in one go? By a provider that encodes columns, not cells.

Feast's own way turns every cell into a message object, looks at it several times, and inserts it by a statement of its
own. Here a column is encoded in one pass (`online_columns`); into SQLite a batch is written by one prepared statement
in the order of the database's index, into Redis by `online_redis`. What ends up there is the same, byte for byte, but
for whole numbers above 2**53 in a column with gaps, which Feast rounds. Other online stores, and views with types that
`can_encode` does not know, are written by Feast.

Whatever the online store is, the provider answers no value that is older than its view's TTL, and none where a key is
missing, as training sees none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureService, FeatureView
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.repo_config import RepoConfig

from features.joins.asked_keys import AskedKeys
from features.joins.online_columns import LISTS, PLAIN, can_spell_keys, entity_keys, messages, plain_values

UPSERT = (
    'INSERT INTO "{}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
    "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
COUNT_GONE = 'SELECT COUNT(DISTINCT entity_key) FROM "{}" WHERE entity_key NOT IN (SELECT entity_key FROM kept)'
DELETE_GONE = 'DELETE FROM "{}" WHERE entity_key NOT IN (SELECT entity_key FROM kept)'
CACHE_KIB = 65_536
"""Memory for the database's pages while it is written; SQLite's own 2 MiB spill them to the disk again and again."""


class BulkSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Settings of `BulkSqliteOnlineStore`: those of Feast's SQLite store."""

    type: str = "features.joins.online.BulkSqliteOnlineStore"


class BulkSqliteOnlineStore(SqliteOnlineStore):
    """Feast's SQLite store that can also write Arrow tables."""

    def write_table(self, config: RepoConfig, view: FeatureView, table: pa.Table) -> None:
        """Write one row per key and feature, replacing what is there.

        As many keys as the configuration's ``online_write_batch_size`` make one transaction, so that readers never
        wait for a whole table.
        """
        size = config.materialization_config.online_write_batch_size or max(table.num_rows, 1)
        starts = range(0, table.num_rows, size)
        version = config.entity_key_serialization_version
        keys = pa.chunked_array([entity_keys(view, table.slice(start, size), version) for start in starts], pa.binary())
        # In the order of the database's two indexes, whose pages are then filled one after the other.
        order = pc.sort_indices(keys)
        name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        statement = UPSERT.format(name.replace('"', '""'))
        connection = self._get_conn(config)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        for start in starts:
            here = order.slice(start, size)
            with connection:
                connection.executemany(statement, _rows(view, keys.take(here).to_pylist(), table.take(here)))

    def keep_only(self, config: RepoConfig, view: FeatureView, table: pa.Table) -> int:
        """Delete the values of keys that a table does not hold, and return how many keys that were."""
        name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        escaped = name.replace('"', '""')
        kept = entity_keys(view, table, config.entity_key_serialization_version).to_pylist()
        connection = self._get_conn(config)
        with connection:
            connection.execute("CREATE TEMP TABLE kept (entity_key BLOB PRIMARY KEY) WITHOUT ROWID")
            connection.executemany("INSERT OR IGNORE INTO kept VALUES (?)", ((key,) for key in kept))
            [keys] = connection.execute(COUNT_GONE.format(escaped)).fetchone()
            connection.execute(DELETE_GONE.format(escaped))
            connection.execute("DROP TABLE kept")
        return int(keys)


_ASKED_AT: ContextVar[datetime | None] = ContextVar("asked_at", default=None)


@contextmanager
def asked_at(moment: datetime) -> Iterator[None]:
    """Answer online questions in the block as of a moment, such as the end of the window, instead of now."""
    token = _ASKED_AT.set(moment)
    try:
        yield
    finally:
        _ASKED_AT.reset(token)


class BulkProvider(PassthroughProvider):
    """Feast's local provider that writes `BulkSqliteOnlineStore` and Redis by columns and applies TTLs when asked."""

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Return the newest values, none that are older than their view's TTL; see `Provider` of Feast."""
        asked = _Asked.of(features, entity_rows, registry, project, full_feature_names)
        answer = super().get_online_features(
            config, features, asked.keys.rows, registry, project, full_feature_names,
            include_feature_view_version_metadata,
        )  # fmt: skip
        return asked.seen_in_training(answer)

    async def get_online_features_async(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """Return the newest values, none that are older than their view's TTL; see `Provider` of Feast."""
        asked = _Asked.of(features, entity_rows, registry, project, full_feature_names)
        answer = await super().get_online_features_async(
            config, features, asked.keys.rows, registry, project, full_feature_names,
            include_feature_view_version_metadata,
        )  # fmt: skip
        return asked.seen_in_training(answer)

    def materialize_single_feature_view(
        self,
        config: RepoConfig,
        feature_view: FeatureView,
        start_date: datetime,
        end_date: datetime,
        registry: BaseRegistry,
        project: str,
        tqdm_builder: Callable[[int], Any],
        disable_event_timestamp: bool = False,
    ) -> None:
        """Write the newest values in ``[start_date, end_date]``; see `Provider` of Feast."""
        write = _writer(self.online_store, config)
        if write is None or disable_event_timestamp or not can_encode(config, feature_view):
            super().materialize_single_feature_view(
                config, feature_view, start_date, end_date, registry, project, tqdm_builder, disable_event_timestamp
            )
            return
        source = feature_view.batch_source
        job = self.offline_store.pull_latest_from_table_or_query(
            config=config,
            data_source=source,
            join_key_columns=[column.name for column in feature_view.entity_columns],
            feature_name_columns=[feature.name for feature in feature_view.features],
            timestamp_field=source.timestamp_field,
            created_timestamp_column=source.created_timestamp_column,
            start_date=start_date,
            end_date=end_date,
        )
        table = job.to_arrow()
        if table.num_rows:
            write(config, feature_view, table)


def _writer(store: Any, config: RepoConfig) -> Callable[[RepoConfig, FeatureView, pa.Table], None] | None:
    """Return what writes a table into an online store by columns, or None where only Feast can."""
    if isinstance(store, BulkSqliteOnlineStore):
        return store.write_table
    if type(store).__module__ == "feast.infra.online_stores.redis":  # what it imports is heavy
        from features.joins.online_redis import knows, writer

        return writer(store) if knows(config) else None
    return None


@dataclass(frozen=True)
class _Asked:
    """An online question, and what training would not have seen of its answer."""

    keys: AskedKeys
    views: Mapping[str, Any]
    """By feature, as the answer names it, its view."""

    @classmethod
    def of(
        cls, features: list[str] | FeatureService, rows: Any, registry: BaseRegistry, project: str, full_names: bool
    ) -> _Asked:
        """Raises BadInputError where no row has the key of a view."""
        if isinstance(features, FeatureService):
            asked = [(view.name, field.name) for view in features.feature_view_projections for field in view.features]
        else:
            asked = [(view, name) for view, _, name in (reference.partition(":") for reference in features)]
        views = {view: registry.get_any_feature_view(view, project, allow_cache=True) for view in dict(asked)}
        named = {f"{view}__{name}" if full_names else name: views[view] for view, name in asked}
        return cls(AskedKeys.of(rows, views.values()), named)

    def seen_in_training(self, answer: OnlineResponse) -> OnlineResponse:
        """Return the answer without values that are too old, and without those of a row that lacks a key."""
        lives = {name: life for name, view in self.views.items() if (life := getattr(view, "ttl", None))}
        _drop_expired(answer, lives)
        if self.keys.gaps:
            self.keys.empty(answer, {name: view.join_keys for name, view in self.views.items()})
        return answer


def _drop_expired(answer: OnlineResponse, lifetimes: dict[str, timedelta]) -> None:
    """Turn values that are too old at the moment asked into nothing, with Feast's status for it."""
    moment = (_ASKED_AT.get() or datetime.now(UTC)).timestamp()
    proto = answer.proto
    for name, vector in zip(proto.metadata.feature_names.val, proto.results, strict=True):
        if (life := lifetimes.get(name)) is None:
            continue
        oldest = moment - life.total_seconds()
        for row, event in enumerate(vector.event_timestamps):
            # What Redis does not hold is present for Feast, as nothing from 1970.
            if vector.values[row].WhichOneof("val") and event.seconds + event.nanos / 1e9 < oldest:
                vector.values[row].Clear()
                vector.statuses[row] = FieldStatus.OUTSIDE_MAX_AGE


def can_encode(config: RepoConfig, view: FeatureView) -> bool:
    """Return whether a view is a plain one whose types are encoded here and whose columns keep their names."""
    types = {feature.dtype.to_value_type() for feature in view.features}
    online = config.online_store
    return (
        type(view) is FeatureView
        and view.online
        and not view.offline
        and not view.batch_source.field_mapping
        # Redis keeps no other row than the newest, whether Feast would read all of them before or not.
        and (config.materialization_config.pull_latest_features or online.type == "redis")
        and not getattr(online, "vector_enabled", False)
        and not getattr(online, "enable_openai_compatible_store", False)
        and not any(feature.vector_index for feature in view.features)
        and types <= {*PLAIN, *LISTS}
        and can_spell_keys(view)
    )


def _rows(view: FeatureView, keys: list[bytes], table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Return the database's rows, key by key and within a key by feature."""
    source = view.batch_source
    events = _epochs(table.column(source.timestamp_field))
    made = source.created_timestamp_column
    created = _epochs(table.column(made)) if made else [None] * len(keys)
    columns = []
    for feature in sorted(view.features, key=lambda feature: feature.name):
        column, kind = table.column(feature.name), feature.dtype.to_value_type()
        plain = plain_values(column) if kind in PLAIN else [None] * len(keys)  # lists have no text
        texts = [None if value is None else str(value) for value in plain]
        values = messages(column, kind, plain)
        columns.append(zip(keys, repeat(feature.name), values, texts, events, created, strict=False))
    return chain.from_iterable(zip(*columns, strict=True))


def _epochs(column: pa.ChunkedArray) -> list[int | None]:
    """Return seconds as Feast's SQLite adapter makes them: of a time without zone, so in the zone of the machine."""
    moments = column.cast(pa.timestamp("us"))  # the clock of UTC, without saying so
    if time.tzname[0] == "UTC" and not time.daylight:
        seconds: list[int | None] = pc.divide(moments.cast(pa.int64()), 1_000_000).to_pylist()  # towards zero, as int()
        return seconds
    return [None if moment is None else int(moment.timestamp()) for moment in moments.to_pylist()]
