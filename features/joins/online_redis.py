"""How do the newest feature values reach Redis in one go? By columns, in pipelined blocks over a few connections.

Feast turns every cell into a message object and every row into a mapping. Here a block of rows is encoded column by
column and each of its rows is one command. What ends up in Redis is the same, byte for byte: a hash per key, in it a
field per feature and one with the time of the view's row, written by the commands that Feast uses, so a user of Redis
needs no other rights. As with Feast, a row is left out where Redis holds a later one, unless the store's ``skip_dedup``
says otherwise. Unlike with Feast one of the same instant is written: after a change of a definition it holds other
values, and the values of a key without newer events would stay those of before.

A row is one command, so a key holds all of a row or nothing of it. A write that is broken off leaves keys of before
among newer ones, each with its own time; the next run writes those that are left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import compress, repeat
from typing import Any

import hiredis
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from feast.infra.online_stores.redis import RedisOnlineStore, RedisType
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]

from features.ground.errors import BadInputError
from features.joins.online_columns import entity_keys, messages

ROWS, BYTES = 3_000, 4 << 20
"""Rows of a block at most, and how much memory their values may take in Arrow; as Python's objects and as commands
they take several times that."""
CONNECTIONS = 4
"""Blocks on their way at once: while Redis works on one, another is encoded."""
PATIENCE = 30
"""Seconds that Redis may take for one answer while it is written; its client waits for ever for a machine that fell
silent."""
SECOND = 1_000_000


def writer(store: RedisOnlineStore) -> Callable[[RepoConfig, FeatureView, pa.Table], None]:
    """Return what writes tables, a row per key, into Feast's Redis store."""

    def write(config: RepoConfig, view: FeatureView, table: pa.Table) -> None:
        client = _client(store, config)
        size = _rows_at_once(table, config.materialization_config.online_write_batch_size)
        blocks = (table.slice(start, size) for start in range(0, table.num_rows, size))
        several = min(CONNECTIONS, client.connection_pool.max_connections)
        _at_once(lambda block: _write_block(client, config, view, block), blocks, several)

    return write


def knows(config: RepoConfig) -> bool:
    """Return whether one server takes every command; what a cluster of them is sent, Feast's client must divide."""
    return bool(config.online_store.redis_type != RedisType.redis_cluster)


def patient(connection_string: str, seconds: float) -> str:
    """Return where Redis is, with how long it may take for an answer, where that is not said."""
    if "socket_timeout=" in connection_string:
        return connection_string
    return f"{connection_string},socket_timeout={seconds},socket_connect_timeout={seconds}"


def _client(store: RedisOnlineStore, config: RepoConfig) -> Any:
    """Return Feast's client, with the password, the encryption and whatever else the connection string says."""
    online = config.online_store
    patiently = online.model_copy(update={"connection_string": patient(online.connection_string, PATIENCE)})
    try:
        return store._get_client(patiently)
    except TypeError:  # its text would show a piece of a password that holds a comma
        raise BadInputError(
            "the connection_string of the online store has a setting that Redis' client does not know: correct it; "
            "what is between two commas is one setting, so a password cannot hold a comma"
        ) from None


def _rows_at_once(table: pa.Table, wanted: int | None) -> int:
    """Return how many rows make a block: fewer where the configuration wants that, or where they are wide."""
    wide = table.nbytes // max(table.num_rows, 1) + 1
    return max(min(wanted or ROWS, ROWS, BYTES // wide), 1)


def _at_once(work: Callable[[pa.Table], None], blocks: Iterable[pa.Table], several: int) -> None:
    """Work on blocks, `several` of them at once; no other is begun once one has failed."""
    underway: deque[Future[None]] = deque()
    with ThreadPoolExecutor(several, thread_name_prefix="redis") as pool:
        for block in blocks:
            if len(underway) == several:
                underway.popleft().result()
            underway.append(pool.submit(work, block))
        for each in underway:
            each.result()


def _write_block(client: Any, config: RepoConfig, view: FeatureView, block: pa.Table) -> None:
    online = config.online_store
    name = compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)
    place = f"_ts:{name}".encode()
    project = config.project.encode()
    keys = [key + project for key in entity_keys(view, block, config.entity_key_serialization_version).to_pylist()]
    moments = _microseconds(block.column(view.batch_source.timestamp_field))
    commands = _commands(name, place, view, keys, moments, block)
    if not online.skip_dedup:
        held = _asked(client, (("HMGET", key, place) for key in keys))
        due = [_is_due(moment, before) for moment, [before] in zip(moments, held, strict=True)]
        commands, keys = compress(commands, due), [*compress(keys, due)]
    if online.key_ttl_seconds:
        expiries = (("EXPIRE", key, online.key_ttl_seconds) for key in keys)
        commands = (command for pair in zip(commands, expiries, strict=True) for command in pair)
    _asked(client, commands)


def _commands(
    name: str, place: bytes, view: FeatureView, keys: list[bytes], moments: list[int], block: pa.Table
) -> Iterator[tuple[Any, ...]]:
    """Return the command of each row: the time of the row, then each feature, in Feast's order."""
    stamps = [Timestamp(seconds=at // SECOND, nanos=at % SECOND * 1000).SerializeToString() for at in moments]
    parts: list[Iterable[Any]] = [repeat("HSET"), keys, repeat(place), stamps]
    for feature in view.features:
        values = messages(block.column(feature.name), feature.dtype.to_value_type())
        parts += [repeat(_mmh3(f"{name}:{feature.name}")), values]
    return zip(*parts, strict=False)


def _microseconds(column: pa.ChunkedArray) -> list[int]:
    """Return microseconds since 1970 UTC."""
    found: list[int] = pc.cast(column, pa.timestamp("us"), safe=False).cast(pa.int64()).to_pylist()
    return found


def _is_due(moment: int, held: bytes | None) -> bool:
    """Return whether a row belongs into Redis; as with Feast, what is held of 1970 and before does not count."""
    if not held:
        return True
    before = Timestamp.FromString(held)
    nanos = max(before.seconds * 1_000_000_000 + before.nanos, 0)
    return moment * 1000 >= nanos or not nanos


def _asked(client: Any, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Return the answers to commands that are sent in one go.

    Not by the client's own pipeline, which looks at every command and answer several times; what it does when a
    connection breaks is done here as well: a write can be repeated.

    Raises:
        redis.RedisError: Redis is gone, or what it says of the first command that it refuses.
    """
    packed = [*map(hiredis.pack_command, commands)]
    connection = client.connection_pool.get_connection()

    def exchange() -> list[Any]:
        connection.send_packed_command([b"".join(packed)])
        return [connection.read_response(disable_decoding=True) for _ in packed]

    try:
        answers: list[Any] = connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
    except BaseException:
        connection.disconnect()  # what is on its way there belongs to nobody's question
        raise
    finally:
        client.connection_pool.release(connection)
    return answers
