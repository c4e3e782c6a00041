"""Does the encoder get the same from the online store as from the training rows, for every kind and every null?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.declaration import FieldEncoding
from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.encoding.encoder import Encoder
from features.joins.store import ENTITY_TIME, ROW_ID, arrow_type, historical, materialize, open_offline, open_shared
from features.recipes.table import write_table
from features.services.service import dtype_name

pytestmark = pytest.mark.engine

START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = [1, 2, 3, 4]
ABSENT = 99
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    Int64: st.sampled_from([0, 1, 2, 2**60]),
    Int32: st.sampled_from([0, 1, 2]),
    String: st.sampled_from(["Rom", "Wien", "é"]),
    Bool: st.booleans(),
    Float64: st.sampled_from([0.0, 1.5, -2.0]),
    Float32: st.sampled_from([0.0, 1.5, -2.0]),
}
SCALARS = {f"one_{dtype_name(dtype)}": dtype for dtype in VALUES} | {"at": UnixTimestamp}
LISTS = {f"many_{dtype_name(dtype)}": Array(dtype) for dtype in VALUES if dtype != Bool} | {"times": Array(Int64)}
VECTORS = ("many_float32", "many_float64")
FIELDS = SCALARS | LISTS
PLAIN = {
    Int64: pl.Int64,
    Int32: pl.Int64,
    String: pl.String,
    Bool: pl.Boolean,
    Float64: pl.Float64,
    Float32: pl.Float64,
}
TIME = pl.Datetime("us", "UTC")


@st.composite
def rows(draw: st.DrawFn) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, dtype in FIELDS.items():
        inner = dtype.base_type if isinstance(dtype, Array) else dtype
        one = st.just(START) if name == "at" else VALUES[inner]
        gap = st.one_of(st.none(), one)
        kind = gap
        if isinstance(dtype, Array):
            kind = st.lists(gap, min_size=2, max_size=2) if name in VECTORS else st.one_of(
                st.none(), st.lists(gap, max_size=3)
            )  # fmt: skip
        found[name] = [draw(kind) for _ in KEYS]
    return found


def definitions() -> Definitions:
    user = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.INT64)
    schema = [Field(name="user_id", dtype=Int64), *(Field(name=name, dtype=dtype) for name, dtype in FIELDS.items())]
    view = FeatureView(name="state", entities=[user], ttl=NEVER, source=source("state", "x"), schema=schema)
    return Definitions((user,), (view,), (FeatureService(name="shop", features=[view]),), {})


def polars_type(dtype: Any) -> Any:
    if isinstance(dtype, Array):
        return pl.List(PLAIN[dtype.base_type])
    return TIME if dtype == UnixTimestamp else PLAIN[dtype]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values=rows())
def test_the_encoder_gets_the_same_offline_and_online(values: dict[str, list[Any]]) -> None:
    own = definitions()
    frame = pl.DataFrame(
        {"user_id": KEYS, "event_timestamp": [START] * 4, "created_timestamp": [START] * 4, **values},
        schema_overrides={name: polars_type(dtype) for name, dtype in FIELDS.items()}
        | {"event_timestamp": TIME, "created_timestamp": TIME},
    )
    columns = {"user_id": "int64"} | {name: dtype_name(dtype) for name, dtype in FIELDS.items()}
    asked = [*KEYS, ABSENT]
    with TemporaryDirectory() as folder:
        home = Path(folder)
        write_table(frame, columns, home / "state.parquet", ["user_id"])
        list(materialize(home / "feast", home, ["state"], [(START, START + timedelta(days=1))], own))
        moments = pl.Series([START + timedelta(hours=1)] * 5).cast(TIME)
        entities = pl.DataFrame({ROW_ID: range(5), "user_id": asked, ENTITY_TIME: moments})
        with open_offline(home, own) as store:
            offline = historical(store, entities.to_arrow(), "shop", own)
        shared = open_shared(home / "feast", own)
        service = shared.get_feature_service("shop")
        answer = shared.get_online_features(service, entity_rows=[{"user_id": key} for key in asked]).to_dict()
    online = pa.table({name: pa.array(answer[name], arrow_type(columns[name])) for name in FIELDS})
    assert offline["at"].to_pylist() == online["at"].to_pylist()
    check(offline, online, columns)


def check(offline: pa.Table, online: pa.Table, columns: dict[str, str]) -> None:
    """Encode both with an encoder that was fitted on the training rows."""
    now = pa.array([START + timedelta(hours=1)] * 5, pa.timestamp("us", "UTC"))
    offline, online = offline.append_column("now", now), online.append_column("now", now)
    # A vocabulary needs a value, a vector a width.
    usable = [
        name for name in FIELDS
        if name != "at" and pc_any(offline[name]) and (name not in VECTORS or offline[name].null_count == 1)
    ]  # fmt: skip
    overrides = {"times": FieldEncoding(kind="elapsed", length=3)} | {
        name: FieldEncoding(kind="vector", length=2) for name in VECTORS
    }
    encoder = Encoder.fit(
        offline, {name: columns[name] for name in usable},
        {name: option for name, option in overrides.items() if name in usable}, request_time="now",
    )  # fmt: skip
    served = encoder.encode(online)
    for name, expected in encoder.encode(offline).items():
        np.testing.assert_array_equal(served[name], expected, err_msg=name)


def pc_any(column: pa.ChunkedArray) -> bool:
    missing = (None, "", -(2**63), -(2**31))
    return any(
        part not in missing and part == part
        for value in column.to_pylist()
        for part in (value if isinstance(value, list) else [value])
    )


def test_a_missing_element_is_missing_in_both_and_zero_is_a_value() -> None:
    table = pa.table({"qty": pa.array([[0, -(2**63), 2], [None, 0]], pa.list_(pa.int64()))})
    encoder = Encoder.fit(table, {"qty": "array<int64>"}, {"qty": FieldEncoding(length=3)})
    assert encoder.encode(table)["qty"].tolist() == [[2, 0, 3], [0, 2, 0]]
    assert [*encoder.vocabularies["qty"]] == [0, 2]
