"""Is nothing that a Feast definition says dropped in silence? It is followed, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attr
import polars as pl
import pytest
from feast import BatchFeatureView, Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource
from feast.base_feature_view import BaseFeatureView
from feast.feature_view_projection import FeatureViewProjection
from feast.on_demand_feature_view import OnDemandFeatureView, on_demand_feature_view
from feast.types import Array, Bytes, Float64, Int64, Set, String, UnixTimestamp
from feast.value_type import ValueType

from components.data.materialize_features.component import write_tables
from features import readable
from features.declaration import Window
from features.definitions import Definitions
from features.definitions.common import NEVER, source
from features.definitions.recipe import Profile
from features.ground.errors import BadInputError
from features.joins.store import materialize, open_shared
from features.readable import require_readable
from features.services.service import describe

USER = Entity(name="shopper", join_keys=["user_id"], value_type=ValueType.STRING)
KEY = Field(name="user_id", dtype=String)
AGE, TASTE = Field(name="age", dtype=Int64), Field(name="taste", dtype=String)


def view(**changes: Any) -> FeatureView:
    given = {
        "name": "profile", "entities": [USER], "ttl": NEVER, "source": source("profile", "x"),
        "schema": [KEY, AGE, TASTE],
    }  # fmt: skip
    return FeatureView(**(given | changes))


def raw(**changes: Any) -> FileSource:
    given = {
        "name": "profile", "path": "profile.parquet", "timestamp_field": "event_timestamp",
        "created_timestamp_column": "created_timestamp",
    }  # fmt: skip
    return FileSource(**(given | changes))


def service(*views: Any, **more: Any) -> FeatureService:
    return FeatureService(name="shop", features=list(views), **more)


def refused(views: list[Any], *asked: Any, **more: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        require_readable([USER], views, [service(*asked, **more)] if asked else [])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_view_and_a_projection_of_it_are_read() -> None:
    profile = view()
    require_readable([USER], [profile], [service(profile), FeatureService(name="b", features=[profile[["age"]]])])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda v: v.with_join_key_map({"user_id": "seller_id"}), r"with_join_key_map \(user_id: seller_id\)"),
        (lambda v: v.with_name("seller_profile"), r"by with_name \(seller_profile\), which is not read"),
        (lambda v: "profile:age", r"names 'profile:age' by text, which is not read"),
        (lambda v: view(version="v2"), r"by a pinned version \(2\)"),
        (lambda v: view(version="v0"), r"by a pinned version \(0\)"),
        (lambda v: view(name="profiles"), r"asks for view 'profiles', .* \(did you mean 'profile'\?\)"),
        (lambda v: view(schema=[KEY, Field(name="years", dtype=Int64)]), r"asks for feature 'years' as view"),
        (lambda v: view(schema=[KEY, Field(name="age", dtype=Float64)]), r"asks for feature 'age' as view"),
        (lambda v: view(source=raw(path="other.parquet")), r"changes batch_source of view 'profile'"),
    ],
)  # fmt: skip
def test_what_a_service_asks_for_and_is_not_read_is_told(change: Callable[[Any], Any], sentence: str) -> None:
    profile = view()
    with pytest.raises(BadInputError, match=f"feature service 'shop' .*{sentence}"):
        require_readable([USER], [profile], [service(change(profile))])


def test_a_precomputed_vector_is_refused() -> None:
    assert "precompute_online" in refused([view()], view(), precompute_online=True)


def test_every_attribute_of_a_projection_is_followed_or_refused() -> None:
    """A newer Feast may add one: whoever updates it decides what it means here."""
    every = {field.name for field in attr.fields(FeatureViewProjection)}
    known = [readable.PROJECTION_READ, readable.PROJECTION_OF_VIEW, frozenset(readable.PROJECTION_REFUSED)]
    assert set().union(*known) == every
    assert sum(map(len, known)) == len(every)
    profile = view()
    values = {
        "name_alias": "other", "join_key_map": {"user_id": "x"}, "version_tag": 0, "desired_features": ["age"],
        "timestamp_field": "x", "date_partition_column": "x", "created_timestamp_column": "x",
        "batch_source": raw(path="x.parquet"), "view_type": "labelView",
    }  # fmt: skip
    assert set(values) == every - readable.PROJECTION_READ
    for name, value in values.items():
        asked = service(profile)
        setattr(asked.feature_view_projections[0], name, value)
        with pytest.raises(BadInputError, match=r"feature service 'shop' (asks for|changes) .*, which is not read"):
            require_readable([USER], [profile], [asked])


VIEW_READ = {"name", "entities", "ttl", "features", "entity_columns", "batch_source", "online", "version", "enabled"}
VIEW_TELLS_PEOPLE = {
    "description", "tags", "owner", "org", "created_timestamp", "last_updated_timestamp", "materialization_intervals",
    "current_version_number", "state",
}  # fmt: skip
VIEW_REPEATS = {"data_source", "source", "projection"}
"""The source once more, and what a service takes."""


def test_every_attribute_of_a_view_is_known() -> None:
    assert set(vars(view())) == VIEW_READ | VIEW_TELLS_PEOPLE | VIEW_REPEATS | set(readable.VIEW_REFUSED)


def kinds_of_views(base: Any = BaseFeatureView) -> set[Any]:
    return {base} | {kind for child in base.__subclasses__() for kind in kinds_of_views(child)}


def test_every_other_kind_of_view_is_refused() -> None:
    import feast.stream_feature_view

    assert feast.stream_feature_view
    others = kinds_of_views() - {FeatureView, BaseFeatureView}
    assert {kind.__name__ for kind in others} >= {"BatchFeatureView", "OnDemandFeatureView", "StreamFeatureView"}
    for kind in others:
        thing = kind.__new__(kind)
        thing.name = "profile"
        assert refused([thing]).startswith(f"{kind.__name__} 'profile' is not read")


def on_demand(profile: Any) -> OnDemandFeatureView:
    @on_demand_feature_view(  # type: ignore[untyped-decorator]
        sources=[profile, RequestSource(name="request", schema=[Field(name="now", dtype=Int64)])],
        schema=[Field(name="double", dtype=Float64)],
        mode="python",
    )
    def twice(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"double": inputs["age"]}

    found: OnDemandFeatureView = twice
    return found


def test_an_on_demand_view_is_refused_in_a_service_and_among_the_views() -> None:
    profile = view()
    # Feast gives the projection of an on-demand view the type of a plain one.
    assert "asks for view 'twice', which is not among the views of DEFINITIONS" in refused(
        [profile], on_demand(profile)
    )
    assert refused([profile, on_demand(profile)]).startswith("OnDemandFeatureView 'twice' is not read")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: view(schema=[AGE, TASTE]), r"has no Field for its key 'user_id': add Field\(name='user_id'"),
        (lambda: view(entities=[]), "has no entity: name what"),
        (lambda: view(entities=[Entity(name="other", join_keys=["user_id"])]), "entity 'other' is not among"),
        (lambda: view(source=raw(field_mapping={"years": "age"})), "field_mapping of its source is not read"),
        (lambda: view(source=raw(timestamp_field="seen_at")), "timestamp_field of its source is 'seen_at', recipes"),
        (lambda: view(source=raw(created_timestamp_column="")), "created_timestamp_column of its source is ''"),
        (lambda: view(source=raw(path="/data/own.parquet")), "must be a plain name that ends with .parquet"),
        (lambda: view(source=raw(path="../own.parquet")), "must be a plain name that ends with .parquet"),
        (lambda: view(source=raw(path="s3://bucket/own.parquet")), "must be a plain name that ends with .parquet"),
        (lambda: view(source=PushSource(name="push", batch_source=raw())), "reads a stream, which is not read"),
        (lambda: view(schema=[KEY, Field(name="blob", dtype=Bytes)]), "field 'blob' has dtype Bytes, which"),
        (lambda: view(schema=[KEY, Field(name="many", dtype=Set(Int64))]), r"has dtype Set\(Int64\), which is not"),
        (lambda: view(schema=[KEY, Field(name="at", dtype=Array(UnixTimestamp))]), "Array of int32, int64"),
        (lambda: view(schema=[KEY]), "has no feature: list its columns"),
        (lambda: view(enabled=False), "is not enabled, which is not read"),
        (lambda: view(mode="python"), r"transforms its rows \(mode\)"),
        (lambda: view(offline=True), r"\(offline=True\), which is not read"),
        (lambda: BatchFeatureView(name="b", entities=[USER], schema=[KEY, AGE], source=raw()), "is not read"),
    ],
)  # fmt: skip
def test_what_a_view_says_and_is_not_read_is_told(given: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence):
        require_readable([USER], [given()], [])


def test_two_objects_of_one_name_or_source_are_told() -> None:
    assert refused([view(), view()]).startswith("FeatureView 'profile' is defined twice")
    assert "read one source 'profile" in refused([view(), view(name="second")])


@pytest.mark.engine
def test_a_projection_of_a_view_works_offline_and_online(tmp_path: Path) -> None:
    profile = view()
    own = Definitions(
        (USER,), (profile,), (service(profile[["age"]]),), {"profile": Profile("user_id", ("age", "taste"))}
    )
    assert [feature.name for feature in describe("shop", own)[0]] == ["age"]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = pl.Series([start, start + timedelta(hours=1)]).dt.cast_time_unit("us")
    events = {"user_id": ["a", "b"], "age": [30, 40], "taste": ["x", "y"], "event_timestamp": times}
    pl.DataFrame(events | {"created_timestamp": times}).write_parquet(tmp_path / "events.parquet")
    window = Window(start=start, end=start + timedelta(days=1))
    snapshot = write_tables(tmp_path, "shop", window, tmp_path, own)
    assert [feature.name for feature in snapshot.features] == ["age"]
    spans = [(start - timedelta(hours=1), window.end)]
    assert len(list(materialize(tmp_path / "feast", tmp_path, ["profile"], spans, own))) == 1
    store = open_shared(tmp_path / "feast", own)
    answer = store.get_online_features(store.get_feature_service("shop"), entity_rows=[{"user_id": "b"}]).to_dict()
    assert answer == {"user_id": ["b"], "age": [40]}
