"""Does our way of writing Redis leave what Feast's own leaves, field by field? Without a server: its commands alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import Definitions
from features.ground.errors import BadInputError
from features.joins import online, online_redis
from features.joins.store import materialize
from tests.unit.features.test_online import COUNT, SPAN, definitions, views, write

pytestmark = pytest.mark.engine
__all__ = ["definitions"]
STORE = """
project: rankmill
provider: local
registry: {folder}/registry.db
online_store: {{type: redis, connection_string: "{address}"{more}}}
entity_key_serialization_version: 3
"""
Hashes = dict[bytes, dict[bytes, bytes]]


class Table:
    """The hashes of a server, for Feast's client and for our commands; it understands the three that both send."""

    def __init__(self) -> None:
        self.hashes: Hashes = {}
        self.lives: dict[bytes, int] = {}
        self.log: list[tuple[Any, ...]] = []
        self.connection_pool = self
        self.max_connections = 8

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def do(self, command: Iterable[Any]) -> Any:
        name, key, *parts = command
        parts = [part.encode() if isinstance(part, str) else part for part in parts]
        if name == "HMGET":
            return [self.hashes.get(key, {}).get(field) for field in parts]
        if name == "EXPIRE":
            self.lives[key] = parts[0]
            return 1
        assert name == "HSET"
        self.hashes.setdefault(key, {}).update(zip(parts[::2], parts[1::2], strict=True))
        return len(parts) // 2

    def pipeline(self, transaction: bool) -> Self:
        assert not transaction
        return self

    def hmget(self, key: bytes, field: str) -> None:
        self.log.append(("HMGET", key, field))

    def hset(self, key: bytes, mapping: dict[Any, Any]) -> None:
        self.log.append(("HSET", key, *(part for pair in mapping.items() for part in pair)))

    def expire(self, name: bytes, time: int) -> None:
        self.log.append(("EXPIRE", name, time))

    def execute(self) -> list[Any]:
        sent, self.log = self.log, []
        return [self.do(command) for command in sent]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, definitions: Definitions) -> Callable[..., Table]:
    """Return what two rounds of writing leave, ours or Feast's."""

    def run(ours: bool, more: str = "", shifts: tuple[int, ...] = (0, 3)) -> Table:
        home, table = tmp_path_factory.mktemp("home"), Table()
        with pytest.MonkeyPatch.context() as patch:
            (home / "store.yaml").write_text(STORE.format(folder=home, address="nowhere:1", more=more))
            patch.setenv("RANKMILL_FEATURE_STORE", str(home / "store.yaml"))
            patch.setattr(online_redis.RedisOnlineStore, "_get_client", lambda *_: table)
            patch.setattr(online_redis, "_asked", lambda _, commands: [table.do(each) for each in commands])
            patch.setattr(online_redis, "ROWS", 25)
            if not ours:
                patch.setattr(online, "can_encode", lambda *_: False)
            for shift in shifts:
                write(home, shift)
                list(materialize(home / "feast", home, list(views()), SPAN, definitions))
        return table

    return run


def test_every_field_of_every_key_is_feast_s_byte_for_byte(written: Callable[..., Table]) -> None:
    ours, feast = written(True), written(False)
    # Two of the five views share a hash per number; the second round has other pairs of numbers.
    assert len(ours.hashes) == 5 * COUNT
    assert ours.hashes == feast.hashes
    assert {key: [*fields] for key, fields in ours.hashes.items()} == {k: [*f] for k, f in feast.hashes.items()}
    assert not ours.lives


def test_a_row_that_is_older_is_left_out_unless_the_store_skips_that_question(
    written: Callable[..., Table],
) -> None:
    life = ", key_ttl_seconds: 600"
    backwards = written(True, life, (3, 0))
    assert backwards.hashes == written(False, life, (3, 0)).hashes
    skipping = written(True, life + ", skip_dedup: true", (3, 0))
    assert skipping.hashes == written(False, life + ", skip_dedup: true", (3, 0)).hashes
    assert skipping.hashes != backwards.hashes
    assert {*backwards.lives.values()} == {600} and backwards.lives.keys() == backwards.hashes.keys()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-3, 3), st.integers(0, 999_999)), min_size=1, max_size=12, unique=True
    )
)
def test_which_row_stays_is_feast_s_choice_whatever_the_order(rows: list[tuple[int, int, int]]) -> None:
    """Also in 1970 and before; what is written again of one instant is ours, see below."""
    from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.types import Int64
    from feast.utils import _convert_arrow_to_proto

    view = FeatureView(
        name="liking",
        entities=[Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)],
        source=FileSource(name="liking", path="x.parquet", timestamp_field="at"),
        schema=[Field(name="user", dtype=Int64), Field(name="count", dtype=Int64)],
    )
    view.entity_columns = [Field(name="user", dtype=Int64)]
    view.features = [Field(name="count", dtype=Int64)]
    config = RepoConfig(
        project="shop", provider="local", registry="r.db", online_store={"type": "redis"}, offline_store="duckdb",
        entity_key_serialization_version=3,
    )  # fmt: skip
    ours, feast = Table(), Table()
    store = RedisOnlineStore()
    store._client = feast  # type: ignore[assignment]  # the hashes alone
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(online_redis, "_asked", lambda _, commands: [ours.do(each) for each in commands])
        for number, (user, second, micros) in enumerate(rows):
            moment = pa.array([second * 1_000_000 + micros], pa.timestamp("us", "UTC"))
            block = pa.table({"user": [user], "count": [number], "at": moment})
            online_redis._write_block(ours, config, view, block)
            told = _convert_arrow_to_proto(block, view, {"user": ValueType.INT64})
            store.online_write_batch(config, view, told, None)
    assert ours.hashes == feast.hashes


@pytest.mark.parametrize("moment", [1, 0, -1])
def test_a_row_of_the_same_instant_is_written_since_its_definition_may_have_changed(moment: int) -> None:
    held = Timestamp(seconds=moment).SerializeToString()
    assert online_redis._is_due(moment * 1_000_000, held) and online_redis._is_due(moment * 1_000_000 + 1, held)
    assert online_redis._is_due(moment * 1_000_000 - 1, held) == (moment <= 0)


def test_blocks_are_of_bounded_memory_whatever_the_rows_hold() -> None:
    narrow = pa.table({"a": pa.array(range(10_000), pa.int64())})
    wide = pa.table({"a": [["x" * 10_000]] * 1_000})
    assert online_redis._rows_at_once(narrow, None) == online_redis._rows_at_once(narrow, 10_000) == online_redis.ROWS
    assert online_redis._rows_at_once(narrow, 7) == 7
    rows = online_redis._rows_at_once(wide, None)
    assert rows > 1 and wide.slice(0, rows).nbytes <= online_redis.BYTES
    assert online_redis._rows_at_once(pa.table({"a": ["x" * (5 << 20)] * 2}), None) == 1


def test_no_block_is_begun_after_one_that_failed() -> None:
    begun = []

    def work(block: pa.Table) -> None:
        begun.append(block)
        if block == 2:
            raise ValueError("full")

    with pytest.raises(ValueError, match="full"):
        online_redis._at_once(work, iter(range(100)), 2)  # type: ignore[arg-type]  # numbers stand for blocks
    assert 2 in begun and len(begun) <= 4


def test_a_password_with_a_comma_is_in_no_sentence(definitions: Definitions, tmp_path: Path) -> None:
    write(tmp_path, 0)
    with pytest.MonkeyPatch.context() as patch:
        text = STORE.format(folder=tmp_path, address="127.0.0.1:1,password=open,sesame=1", more="")
        (tmp_path / "store.yaml").write_text(text)
        patch.setenv("RANKMILL_FEATURE_STORE", str(tmp_path / "store.yaml"))
        with pytest.raises(BadInputError, match="cannot hold a comma") as caught:
            list(materialize(tmp_path / "feast", tmp_path, ["by_text"], SPAN, definitions))
    assert "sesame" not in str(caught.value) and caught.value.__cause__ is None


def test_how_long_redis_may_take_is_what_its_configuration_says_or_ours() -> None:
    assert online_redis.patient("a:1,socket_timeout=5,password=x", 9) == "a:1,socket_timeout=5,password=x"
    assert online_redis.patient("a:1,password=x", 9) == "a:1,password=x,socket_timeout=9,socket_connect_timeout=9"
