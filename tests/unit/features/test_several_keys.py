"""Is a feature of several keys, such as what a user did with an author, the same in a training row and when served?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, ValueType
from feast.types import Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.materialize_features.component import write_tables
from features.declaration import Window
from features.definitions import Definitions, require_whole
from features.definitions.common import activity_fields, source
from features.definitions.recipe import Activity, Profile, Rate
from features.ground.errors import BadInputError
from features.joins.online import asked_at
from features.joins.store import ENTITY_TIME, ROW_ID, historical, materialize, open_offline, open_shared
from features.services.service import describe

pytestmark = pytest.mark.engine

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=4))
END = WINDOW.end
SPAN = [(START, END)]
TIME = pl.Datetime("us", "UTC")
SCHEMA: dict[str, Any] = {
    "user_id": pl.Int64, "author_id": pl.Int64, "tab": pl.String, ENTITY_TIME: TIME, "created_timestamp": TIME,
    "click": pl.Int8,
}  # fmt: skip
LIKES = Activity(key=("user_id", "author_id"), prefix="liking", rates=(Rate("click", prior=0.5),))
PLACES = Activity(key=("tab", "user_id"), prefix="place", rates=(Rate("click", prior=0.5),))
USERS = Activity(key="user_id", prefix="user", rates=(Rate("click", prior=0.5),))
FEATURES = ("liking_click_rate", "liking_impressions", "liking_gap_seconds", "place_click_rate", "user_impressions")
USER, AUTHOR = (Entity(name=name, join_keys=[f"{name}_id"], value_type=ValueType.INT64) for name in ("user", "author"))
TAB = Entity(name="place", join_keys=["tab"], value_type=ValueType.STRING)
KEYS = {"user": Field(name="user_id", dtype=Int64), "author": Field(name="author_id", dtype=Int64)}
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2]),
        st.sampled_from([None, 0, 1, 2**40]),
        st.sampled_from(["", "a", "b"]),
        st.integers(0, 4 * 24 - 1),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=30,
)


def definitions(pair: tuple[Entity, Entity] = (USER, AUTHOR)) -> Definitions:
    def view(name: str, recipe: Activity, entities: list[Entity], keys: list[Field], days: int) -> FeatureView:
        return FeatureView(
            name=name, entities=entities, ttl=timedelta(days=days), source=source(name, "x"),
            schema=[*keys, *activity_fields(recipe)],
        )  # fmt: skip

    views = (
        view("liking", LIKES, [*pair], [KEYS[entity.name] for entity in pair], 2),
        view("places", PLACES, [USER, TAB], [KEYS["user"], Field(name="tab", dtype=String)], 0),
        view("users", USERS, [USER], [KEYS["user"]], 1),
    )
    recipes: Any = {"liking": LIKES, "places": PLACES, "users": USERS}
    return Definitions((USER, AUTHOR, TAB), views, (FeatureService(name="shop", features=[*views]),), recipes)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    times = [START + timedelta(hours=hour) for *_, hour, _ in rows]
    data = [(*row[:3], time, time, row[4]) for row, time in zip(rows, times, strict=True)]
    return pl.DataFrame(data, schema=SCHEMA, orient="row")


def published(folder: Path, rows: list[tuple[Any, ...]], own: Definitions) -> FeatureStore:
    frame(rows).write_parquet(folder / "events.parquet")
    snapshot = write_tables(folder, "shop", WINDOW, folder, own)
    list(materialize(folder / "feast", folder, list(snapshot.views), SPAN, own))
    return open_shared(folder / "feast", own)


def served(store: FeatureStore, asked: list[dict[str, Any]]) -> dict[str, list[Any]]:
    with asked_at(END):
        answer = store.get_online_features(store.get_feature_service("shop"), entity_rows=asked).to_dict()
    return {name: answer[name] for name in FEATURES}


def joined(folder: Path, asked: list[dict[str, Any]], own: Definitions) -> dict[str, list[Any]]:
    keys = {name: SCHEMA[name] for name in ("user_id", "author_id", "tab")}
    entities = pl.DataFrame(asked, schema=keys).with_row_index(ROW_ID).cast({ROW_ID: pl.Int64})
    entities = entities.with_columns(pl.lit(END).cast(TIME).alias(ENTITY_TIME))
    with open_offline(folder, own) as store:
        table = historical(store, entities.to_arrow(compat_level=pl.CompatLevel.oldest()), "shop", own)
    return {name: table[name].to_pylist() for name in FEATURES}


ASKED = [
    {"user_id": user, "author_id": author, "tab": tab}
    for user in (None, 0, 1, 7)
    for author in (None, 0, 1, 2**40, 7)
    for tab in (None, "", "a", "z")
]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=EVENTS)
def test_what_is_served_is_what_a_training_row_of_that_moment_sees(rows: list[tuple[Any, ...]]) -> None:
    """Whatever half of a key is missing or unknown, and whatever is older than its view's TTL."""
    rows = [(0, 0, "a", 0, 1), *rows]
    own = definitions()
    with TemporaryDirectory() as name:
        folder = Path(name)
        online = served(published(folder, rows, own), ASKED)
        assert online == joined(folder, ASKED, own)
    for row, asked in enumerate(ASKED):
        clicks = [
            row[4] for row in rows if row[:2] == (asked["user_id"], asked["author_id"]) and None not in row[:2]
        ]  # fmt: skip
        newest = max((r[3] for r in rows if r[:2] == (asked["user_id"], asked["author_id"])), default=-100)
        fresh = clicks and 4 * 24 - newest <= 48
        assert online["liking_impressions"][row] == (len(clicks) if fresh else None), asked
        assert online["liking_click_rate"][row] == (
            pytest.approx((sum(clicks) + 5) / (len(clicks) + 10), rel=1e-6) if fresh else None
        )


def test_the_order_of_entities_changes_nothing(tmp_path: Path) -> None:
    rows = [(1, 2, "a", 90, 1), (2, 1, "a", 91, 0), (1, 1, "b", 92, 1)]
    found = {}
    for name, pair in (("one", (USER, AUTHOR)), ("other", (AUTHOR, USER))):
        (tmp_path / name).mkdir()
        own = definitions(pair)
        require_whole(own)
        store = published(tmp_path / name, rows, own)
        asked = [{"author_id": a, "tab": "a", "user_id": u} for u, a in ((1, 2), (2, 1), (1, 1), (2, 2))]
        found[name] = served(store, asked)
        assert found[name] == joined(tmp_path / name, asked, own)
        described = [one.model_dump_json() for one in describe("shop", own)[1]]
        assert found.setdefault("described", described) == described
    assert found["one"] == found["other"]
    assert found["one"]["liking_impressions"] == [1, 1, 1, None]


def test_a_pair_that_the_table_no_longer_holds_is_forgotten_and_the_other_ones_of_its_user_stay(tmp_path: Path) -> None:
    own = definitions()
    asked = [{"user_id": 1, "author_id": author, "tab": "a"} for author in (1, 2)]
    published(tmp_path, [(1, 1, "a", 90, 1), (1, 2, "a", 91, 1)], own)
    store = published(tmp_path, [(1, 2, "a", 91, 1)], own)
    assert served(store, asked)["liking_impressions"] == [None, 1]


def test_a_question_without_a_column_of_the_key_is_one_sentence(tmp_path: Path) -> None:
    store = published(tmp_path, [(1, 1, "a", 90, 1)], definitions())
    with pytest.raises(BadInputError) as caught:
        store.get_online_features(["liking:liking_click_rate"], [{"user_id": 1}])
    assert str(caught.value) == (
        "feature view 'liking' is keyed by author_id, user_id, and the rows asked about have no author_id: add the "
        "column, with null where it is not known"
    )
    assert store.get_online_features(["users:user_impressions"], {"user_id": [1, None]}).to_dict()["user_id"] == [
        1,
        None,
    ]


@pytest.mark.parametrize(
    ("recipe", "theirs"),
    [
        (Activity(key="user_id", prefix="liking"), "'user_id'"),
        (Profile(key=("user_id", "tab"), columns=("click",)), "'tab' and 'user_id'"),
    ],
)
def test_a_view_with_other_keys_than_its_recipe_is_refused(recipe: Any, theirs: str) -> None:
    own = definitions()
    with pytest.raises(BadInputError) as caught:
        require_whole(replace(own, recipes=own.recipes | {"liking": recipe}))
    assert str(caught.value) == (
        f"feature view 'liking' is keyed by 'author_id' and 'user_id', and its recipe by {theirs}: name an entity for "
        "each key of the recipe"
    )


def test_a_missing_key_is_no_zero_of_another_type(tmp_path: Path) -> None:
    """The keys that fill gaps are keys of the store as well."""
    store = published(tmp_path, [(0, 0, "", 90, 1)], definitions())
    asked = [{"user_id": 0, "author_id": 0, "tab": ""}, {"user_id": 0, "author_id": None, "tab": None}]
    assert served(store, asked)["liking_impressions"] == [1, None]
    assert served(store, asked)["place_click_rate"][1] is None
    assert served(store, asked)["user_impressions"] == [1, 1]
    answer = store.get_online_features(["liking:liking_impressions"], asked).to_dict()
    assert answer["author_id"] == [0, None]
