"""Does Feast, asked our way, answer what a plain loop over the feature rows answers?"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from features.declaration import Window
from features.definitions import Definitions
from features.definitions.recipe import Profile
from features.ground.errors import BadInputError
from features.joins.store import historical, open_offline

pytestmark = pytest.mark.engine

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=5))
TIME = pl.Datetime("us", "UTC")
TTL = {"stock": timedelta(days=1), "brand": timedelta(0)}
KEYS = {"stock": "shop_id", "brand": "brand_id"}


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    """Two entities; `stock` lives for a day, `brand` for ever and holds a list."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float64, Int64, String

    def source(name: str) -> FileSource:
        return FileSource(
            name=name, path=f"{name}.parquet", timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )  # fmt: skip

    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
    maker = Entity(name="brand", join_keys=["brand_id"], value_type=ValueType.STRING)
    stock = FeatureView(
        name="stock", entities=[shop], ttl=TTL["stock"], source=source("stock"),
        schema=[
            Field(name="shop_id", dtype=Int64), Field(name="pieces", dtype=Int64), Field(name="price", dtype=Float64)
        ],
    )  # fmt: skip
    brand = FeatureView(
        name="brand", entities=[maker], ttl=TTL["brand"], source=source("brand"),
        schema=[Field(name="brand_id", dtype=String), Field(name="words", dtype=Array(String))],
    )  # fmt: skip
    return Definitions(
        entities=(shop, maker),
        views=(stock, brand),
        services=(FeatureService(name="offers", features=[stock, brand]),),
        recipes={"stock": Profile("shop_id", ("pieces",)), "brand": Profile("brand_id", ("words",))},
    )


def world(seed: int) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Return feature rows per source and entity rows, rich in ties, stale, absent, late and repeated rows."""
    rng = random.Random(seed)

    def moment() -> datetime:
        return START + timedelta(hours=rng.randrange(0, 100, 4))

    def rows(source: str, keys: list[Any], count: int) -> list[dict[str, Any]]:
        found = {}
        for number in range(count):
            time = moment()
            row = {
                KEYS[source]: rng.choice(keys),
                "event_timestamp": time,
                "created_timestamp": time + timedelta(hours=rng.choice([0, 0, 1, 8, 60]), minutes=number % 3),
            }
            row |= (
                {"pieces": number, "price": number / 7}
                if source == "stock"
                else {"words": [f"w{number}"] * (number % 3)}
            )
            found[tuple(list(row.values())[:3])] = row  # one row per key, event time and created time
        return list(found.values())

    tables = {"stock": rows("stock", [1, 2, 3], 60), "brand": rows("brand", ["a", "b"], 30)}
    entities = []
    for _ in range(120):
        entity = {"shop_id": rng.choice([1, 2, 3, 99]), "brand_id": rng.choice(["a", "b", "never"])}
        entity["event_timestamp"] = moment() + timedelta(microseconds=rng.choice([0, -1]))
        entities += [entity] * rng.choice([1, 1, 2])
    return tables, entities


def by_hand(
    rows: list[dict[str, Any]], source: str, entity: dict[str, Any], honour_created: bool = True
) -> dict[str, Any]:
    key, time, ttl = KEYS[source], entity["event_timestamp"], TTL[source]
    visible = [
        row
        for row in rows
        if row[key] == entity[key]
        and row["event_timestamp"] <= time
        and (not honour_created or row["created_timestamp"] <= time)
        and (not ttl or row["event_timestamp"] + ttl >= time)
    ]
    names = ("pieces", "price") if source == "stock" else ("words",)
    if not visible:
        return dict.fromkeys(names)
    newest = max(visible, key=lambda row: (row["event_timestamp"], row["created_timestamp"]))
    return {name: newest[name] for name in names}


def write(tables: dict[str, list[dict[str, Any]]], directory: Path) -> None:
    for name, rows in tables.items():
        times = {"event_timestamp": TIME, "created_timestamp": TIME}
        pl.DataFrame(rows, schema_overrides=times).write_parquet(directory / f"{name}.parquet")


def entity_table(entities: list[dict[str, Any]]) -> pa.Table:
    frame = pl.DataFrame(entities, schema_overrides={"event_timestamp": TIME})
    # Ids neither start at 0 nor ascend, as after a shuffle.
    return frame.with_columns(__row_id=pl.lit(1000) - pl.int_range(pl.len(), dtype=pl.Int64)).to_arrow()


@pytest.fixture
def answers(definitions: Definitions, tmp_path: Path) -> Iterator[Any]:
    def ask(tables: dict[str, list[dict[str, Any]]], entities: list[dict[str, Any]], **options: Any) -> pa.Table:
        write(tables, tmp_path)
        with open_offline(tmp_path, definitions) as store:
            return historical(store, entity_table(entities), "offers", definitions, **options)

    yield ask


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("honour_created", [True, False])
def test_every_row_is_what_a_plain_loop_finds(answers: Any, seed: int, honour_created: bool) -> None:
    tables, entities = world(seed)
    expected = [
        by_hand(tables["stock"], "stock", entity, honour_created)
        | by_hand(tables["brand"], "brand", entity, honour_created)
        for entity in entities
    ]
    got = answers(tables, entities, honour_created=honour_created)
    assert got.column("__row_id").to_pylist() == [1000 - n for n in range(len(entities))]
    assert got.select(["pieces", "price", "words"]).to_pylist() == [
        {name: row[name] for name in ("pieces", "price", "words")} for row in expected
    ]
    assert got.schema.field("words").type == pa.list_(pa.string())
    # The world holds every hard case, or this test proves little.
    stale = [e for e, row in zip(entities, expected, strict=True) if row["pieces"] is None and e["shop_id"] != 99]
    assert stale
    assert len({tuple(e.values()) for e in entities}) < len(entities)


def test_the_created_filter_matters_in_these_worlds(answers: Any) -> None:
    """Without the filter the answers differ, so the test above would see it missing."""
    tables, entities = world(0)
    assert not answers(tables, entities).equals(answers(tables, entities, honour_created=False))


def test_only_the_wanted_features_are_asked_for(answers: Any) -> None:
    tables, entities = world(1)
    assert answers(tables, entities[:1], names=["price"]).column_names == ["__row_id", "price"]


def test_entity_rows_without_a_key_find_nothing_and_without_a_time_are_one_sentence(answers: Any) -> None:
    tables, entities = world(2)
    whole = answers(tables, entities[:2]).to_pylist()
    missing = answers(tables, [entities[0] | {"shop_id": None}, entities[1]]).to_pylist()
    assert missing == [whole[0] | {"pieces": None, "price": None}, whole[1]]
    with pytest.raises(BadInputError, match="1 entity rows have no event_timestamp"):
        answers(tables, [entities[0] | {"event_timestamp": None}, entities[1]])
