"""Does our way of writing the online store leave exactly what Feast's own leaves, byte for byte?"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from features.definitions import Definitions
from features.joins import online
from features.joins.store import materialize, open_shared

pytestmark = pytest.mark.engine

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = [(START, START + timedelta(days=4))]
COUNT = 60


def views() -> dict[str, dict[str, Any]]:
    """Return key types and feature types by view; `instants` has a type that is left to Feast."""
    from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

    every = {
        "whole": Int64, "small": Int32, "single": Float32, "double": Float64, "word": String, "flag": Bool,
        "numbers": Array(Int64), "shares": Array(Float32), "sums": Array(Float64), "words": Array(String),
    }  # fmt: skip
    return {
        "by_number": {"keys": {"number": Int64}, "features": every},
        "by_text": {"keys": {"text": String}, "features": {"whole": Int64}},
        "by_both": {"keys": {"number": Int64, "text": String}, "features": {"word": String}},
        "by_numbers": {"keys": {"number": Int64, "even": Int64}, "features": {"whole": Int64}},
        "instants": {"keys": {"number": Int64}, "features": {"instant": UnixTimestamp}},
    }


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Int64

    shapes = views()
    entities = {
        name: Entity(name=name, join_keys=[name], value_type=ValueType.INT64 if dtype == Int64 else ValueType.STRING)
        for shape in shapes.values()
        for name, dtype in shape["keys"].items()
    }
    found = tuple(
        FeatureView(
            name=view,
            entities=[entities[name] for name in shape["keys"]],
            source=FileSource(
                name=view, path=f"{view}.parquet", timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
            schema=[Field(name=name, dtype=dtype) for name, dtype in (shape["keys"] | shape["features"]).items()],
        )
        for view, shape in shapes.items()
    )  # fmt: skip
    return Definitions(tuple(entities.values()), found, (), {})


def write(folder: Path, shift: int) -> None:
    """Write every view's file: negative and huge numbers, nulls, NaN, empty lists, zeros, and letters of any kind."""
    at = pl.int_range(COUNT, dtype=pl.Int64)
    gap = at % 5 == 0
    base = pl.select(
        at.alias("at"),
        event_timestamp=pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(hours=at + shift, microseconds=at),
    ).with_columns(created_timestamp=pl.col("event_timestamp") + pl.duration(minutes=3))
    at = pl.col("at")
    gap = at % 5 == 0
    frame = base.with_columns(
        number=(at - 20) * 7_000_000_000,
        text=pl.lit("kéy ") + at.cast(pl.String),
        even=at * -2 + shift,
        whole=pl.when(~gap).then((at - 30) * (2**45) + shift),
        small=(at - 9).cast(pl.Int32),
        single=pl.when(gap).then(None).when(at % 7 == 0).then(float("nan")).otherwise(at / 7 + shift).cast(pl.Float32),
        double=pl.when(~gap).then(at / 3),
        word=pl.when(~gap).then(pl.lit("wörd ") + (at % 4).cast(pl.String)).when(at > 9).then(pl.lit("")),
        flag=pl.when(~gap).then(at % 2 == 0),
        numbers=pl.when(at % 3 > 0).then(pl.concat_list(at, at + shift)).when(gap).then(pl.lit([], pl.List(pl.Int64))),
        shares=pl.concat_list(at / 3, at / 9).cast(pl.List(pl.Float32)),
        sums=pl.concat_list(at / 3),
        words=pl.concat_list(pl.lit("ä"), at.cast(pl.String)),
        instant=pl.col("event_timestamp"),
    )
    for view in views():
        frame.write_parquet(folder / f"{view}.parquet")


def stored(feast: Path) -> dict[str, list[Any]]:
    connection = sqlite3.connect(feast / "online.db")
    found = {
        view: connection.execute(f'SELECT * FROM "rankmill_{view}" ORDER BY entity_key, feature_name').fetchall()
        for view in views()
    }
    connection.close()
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, definitions: Definitions) -> Iterator[dict[str, list[Any]]]:
    """What lies in the database after two rounds of writing: ours, and Feast's."""
    found = {}
    for who in ("ours", "feast"):
        home = tmp_path_factory.mktemp(who)
        with pytest.MonkeyPatch.context() as patch:
            if who == "feast":
                patch.setattr(online, "can_encode", lambda *_: False)
            for shift in (0, 3):
                write(home, shift)
                list(materialize(home / "feast", home, list(views()), SPAN, definitions))
        found[who] = stored(home / "feast")
    yield found


@pytest.mark.parametrize("view", ["by_number", "by_text", "by_both", "by_numbers", "instants"])
def test_the_database_is_feast_s_byte_for_byte(both: Any, view: str) -> None:
    assert len(both["ours"][view]) == COUNT * len(views()[view]["features"])
    assert both["ours"][view] == both["feast"][view]


def test_a_large_number_in_a_column_with_gaps_is_kept_where_feast_rounds_it(
    definitions: Definitions, tmp_path: Path
) -> None:
    write(tmp_path, 0)
    large = 2**62 + 1
    table = pl.read_parquet(tmp_path / "by_text.parquet")
    table.with_columns(whole=pl.when(pl.col("at") > 0).then(pl.lit(large))).write_parquet(tmp_path / "by_text.parquet")
    list(materialize(tmp_path / "feast", tmp_path, ["by_text"], SPAN, definitions))
    assert {row[3] for row in stored(tmp_path / "feast")["by_text"]} == {None, str(large)}


def test_only_types_that_are_encoded_here_are_written_here(definitions: Definitions, tmp_path: Path) -> None:
    config = open_shared(tmp_path, definitions).config
    assert {view.name for view in definitions.views if online.can_encode(config, view)} == {
        "by_number",
        "by_text",
        "by_both",
        "by_numbers",
    }


def test_a_batch_is_a_transaction(definitions: Definitions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before a batch failed stays, and the failing batch leaves nothing."""
    write(tmp_path, 0)
    encode = online._rows
    calls = []

    def failing(view: Any, keys: Any, table: Any) -> Any:
        calls.append(len(keys))
        rows = list(encode(view, keys, table))
        return [*rows[:-1], ("too", "few")] if len(calls) == 2 else rows

    monkeypatch.setattr(online, "_rows", failing)
    yaml = tmp_path / "store.yaml"
    text = (Path(online.__file__).parents[1] / "feature_store.yaml").read_text()
    text = text.replace("online_write_batch_size: 10000", "online_write_batch_size: 25")
    yaml.write_text(text.replace("../.rankmill/feast/", f"{tmp_path}/feast/"))
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(yaml))
    with pytest.raises(sqlite3.ProgrammingError):
        list(materialize(tmp_path / "feast", tmp_path, ["by_text"], SPAN, definitions))
    assert calls == [25, 25]
    connection = sqlite3.connect(tmp_path / "feast" / "online.db")
    assert connection.execute("SELECT count(*) FROM rankmill_by_text").fetchone() == (25,)
    connection.close()


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_seconds_are_those_of_a_clock_in_the_zone_of_the_machine(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [datetime(1969, 12, 30, 23, 59, 59, 500_000), datetime(2024, 7, 1, 12, 30, 0, 7), None]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        column = pa.chunked_array([pa.array(clock, pa.timestamp("us", "UTC"))])
        found = online._epochs(column)
        expected = [None if moment is None else int(moment.timestamp()) for moment in clock]
    time.tzset()
    assert found == expected
