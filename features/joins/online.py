"""How do the newest feature values reach SQLite in one go? By a Feast provider that encodes columns, not cells.

Feast's own way turns every cell into a message object, looks at it several times, and inserts it by a statement of its
own. Here a column is encoded in one pass, and a batch is written by one prepared statement in the order of the
database's index. What ends up in the database is the same, byte for byte, but for whole numbers above 2**53 in a column
with gaps, which Feast rounds. Other online stores, and views with types that `can_encode` does not know, are written
by Feast.

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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureService, FeatureView, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.infra.passthrough_provider import PassthroughProvider
from feast.infra.registry.base_registry import BaseRegistry
from feast.online_response import OnlineResponse
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import PYTHON_LIST_VALUE_TYPE_TO_PROTO_VALUE, python_values_to_proto_values

from features.joins.asked_keys import AskedKeys

PLAIN: dict[ValueType, str] = {
    ValueType.INT32: "int32_val",
    ValueType.INT64: "int64_val",
    ValueType.FLOAT: "float_val",
    ValueType.DOUBLE: "double_val",
    ValueType.STRING: "string_val",
    ValueType.BOOL: "bool_val",
}
LISTS = {
    ValueType.INT64_LIST: pa.int64(),
    ValueType.FLOAT_LIST: pa.float32(),
    ValueType.DOUBLE_LIST: pa.float64(),
    ValueType.STRING_LIST: pa.string(),
}
"""Lists, and the type of what is in them."""
FRACTIONS = {ValueType.FLOAT: pa.float32(), ValueType.DOUBLE: pa.float64()}
"""Numbers that a message holds in as many bytes as a column does."""
UPSERT = (
    'INSERT INTO "{}" (entity_key, feature_name, value, value_text, event_ts, created_ts) '
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(entity_key, feature_name) DO UPDATE SET value = excluded.value, "
    "value_text = excluded.value_text, event_ts = excluded.event_ts, created_ts = excluded.created_ts"
)
COUNT_GONE = 'SELECT COUNT(DISTINCT entity_key) FROM "{}" WHERE entity_key NOT IN (SELECT entity_key FROM kept)'
DELETE_GONE = 'DELETE FROM "{}" WHERE entity_key NOT IN (SELECT entity_key FROM kept)'
CACHE_KIB = 65_536
"""Memory for the database's pages while it is written; SQLite's own 2 MiB spill them to the disk again and again."""
Encoded = tuple[list[bytes], list[str | None]]


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
        keys = pa.chunked_array(
            [_entity_keys(view, table.slice(start, size), version) for start in starts], pa.binary()
        )
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
        kept = _entity_keys(view, table, config.entity_key_serialization_version).to_pylist()
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
    """Feast's local provider that materialises into `BulkSqliteOnlineStore` by columns and applies TTLs when asked."""

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
        store = self.online_store
        if (
            not isinstance(store, BulkSqliteOnlineStore)
            or disable_event_timestamp
            or not can_encode(config, feature_view)
        ):
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
            store.write_table(config, feature_view, table)


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
    return (
        type(view) is FeatureView
        and view.online
        and not view.offline
        and not view.batch_source.field_mapping
        and config.materialization_config.pull_latest_features
        and not config.online_store.vector_enabled
        and not getattr(config.online_store, "enable_openai_compatible_store", False)
        and types <= {*PLAIN, *LISTS}
        and can_spell_keys(view)
    )


def can_spell_keys(view: FeatureView) -> bool:
    """Return whether the key types of a view are known here."""
    return {column.dtype.to_value_type() for column in view.entity_columns} <= set(PLAIN)


def _rows(view: FeatureView, keys: list[bytes], table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Return the database's rows, key by key and within a key by feature."""
    source = view.batch_source
    events = _epochs(table.column(source.timestamp_field))
    made = source.created_timestamp_column
    created = _epochs(table.column(made)) if made else [None] * len(keys)
    columns = []
    for feature in sorted(view.features, key=lambda feature: feature.name):
        values, texts = _encoded(table.column(feature.name), feature.dtype.to_value_type())
        columns.append(zip(keys, repeat(feature.name), values, texts, events, created, strict=False))
    return chain.from_iterable(zip(*columns, strict=True))


def _entity_keys(view: FeatureView, table: pa.Table, version: int) -> pa.Array:
    """Return the keys as Feast spells them."""
    names = [column.name for column in view.entity_columns]
    kinds = [PLAIN[column.dtype.to_value_type()] for column in view.entity_columns]
    columns = [table.column(name) for name in names]

    def spelt(values: tuple[Any, ...]) -> bytes:
        parts = [Value(**{kind: value}) for kind, value in zip(kinds, values, strict=True)]
        return bytes(serialize_entity_key(EntityKey(join_keys=names, entity_values=parts), version))

    if {*kinds} == {"int64_val"} and not any(column.null_count for column in columns):
        # Feast spells whole numbers in the order of their names, each as eight bytes that are always the same and the
        # number's own eight.
        numbers = [column.to_numpy().astype("<i8") for column in columns]
        written = np.tile(np.frombuffer(spelt((0,) * len(names)), dtype=np.uint8), (table.num_rows, 1))
        for place, at in enumerate(sorted(range(len(names)), key=names.__getitem__, reverse=True)):
            end = written.shape[1] - 16 * place
            written[:, end - 8 : end] = numbers[at].view(np.uint8).reshape(-1, 8)
        if spelt(tuple(int(column[-1]) for column in numbers)) == written[-1].tobytes():
            return _binary(written)
    return pa.array(
        [spelt(values) for values in zip(*(column.to_pylist() for column in columns), strict=True)], pa.binary()
    )


def _after(head: bytes, numbers: np.ndarray[tuple[int], np.dtype[Any]]) -> pa.Array:
    """Return for each number the bytes that are always the same, and the number's own."""
    size = numbers.dtype.itemsize
    written = np.empty((len(numbers), len(head) + size), dtype=np.uint8)
    written[:, :-size] = np.frombuffer(head, dtype=np.uint8)
    written[:, -size:] = numbers.view(np.uint8).reshape(-1, size)
    return _binary(written)


def _binary(written: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> pa.Array:
    kind = pa.binary(written.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(written), [None, pa.py_buffer(written)]).cast(pa.binary())


def _encoded(column: pa.ChunkedArray, kind: ValueType) -> Encoded:
    """Return the messages and the texts that Feast stores for a column; nothing at all is an empty message."""
    if kind in LISTS:
        return _encoded_lists(column, kind), [None] * len(column)
    field = PLAIN[kind]
    plain = [None if value != value else value for value in column.to_pylist()]  # NaN is nothing, as for Feast
    texts = [None if value is None else str(value) for value in plain]
    if column.type == FRACTIONS.get(kind):
        numbers = column.fill_null(float("nan")).to_numpy()
        one: dict[str, Any] = {field: 1.0}
        messages = _after(Value(**one).SerializeToString()[: -numbers.dtype.itemsize], numbers)
        return pc.if_else(pa.array(np.isnan(numbers)), b"", messages).to_pylist(), texts
    return [b"" if value is None else Value(**{field: value}).SerializeToString() for value in plain], texts


def _encoded_lists(column: pa.ChunkedArray, kind: ValueType) -> list[bytes]:
    rows = column.to_pylist()
    message, field, _ = PYTHON_LIST_VALUE_TYPE_TO_PROTO_VALUE[kind]
    if getattr(column.type, "value_type", None) != LISTS[kind] or pc.list_flatten(column).null_count:
        # Feast has words for types that do not fit, and values for those that are missing.
        return [value.SerializeToString() for value in python_values_to_proto_values(rows, kind)]
    return [b"" if row is None else Value(**{field: message(val=row)}).SerializeToString() for row in rows]


def _epochs(column: pa.ChunkedArray) -> list[int | None]:
    """Return seconds as Feast's SQLite adapter makes them: of a time without zone, so in the zone of the machine."""
    moments = column.cast(pa.timestamp("us"))  # the clock of UTC, without saying so
    if time.tzname[0] == "UTC" and not time.daylight:
        seconds: list[int | None] = pc.divide(moments.cast(pa.int64()), 1_000_000).to_pylist()  # towards zero, as int()
        return seconds
    return [None if moment is None else int(moment.timestamp()) for moment in moments.to_pylist()]
