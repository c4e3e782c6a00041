"""Do features reach the training rows in time, and the online store whole, through the real components?"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from components.data.build_training_set import rows as training_rows
from components.data.build_training_set.config import Config
from components.data.materialize_features.component import write_tables
from components.data.materialize_features.publish_online import spans
from components.data.training_set import SPLITS, read_encoded, read_raw, read_schema
from components.platform.artifacts import EventsTable
from components.platform.errors import BadInputError, ContractViolationError, RetryableError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from features.declaration import UNKNOWN, Window
from features.definitions import load_definitions
from features.encoding.files import read_encoder
from features.ground.files import locked
from features.joins import asof, asof_store
from features.joins.online import asked_at
from features.joins.store import ENTITY_TIME, ROW_ID, historical, historical_on_disk, open_offline, open_shared
from features.within import with_within

pytestmark = pytest.mark.engine

START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=3))
TIME = pl.Datetime("us", "UTC")
DATASET = {"feature_service": "movielens_ranker", "feedback": ["like", "love"], "domain": "age_band"}


def make_events(count: int = 400, seed: int = 0) -> pl.DataFrame:
    """Return impressions in few seconds of three days, so that users see several items at once; some arrive late."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        user = rng.randint(1, 9)
        # The last tenth holds an item and a user that exist nowhere before.
        late = number >= count * 0.95
        time = (
            START + timedelta(seconds=rng.randrange(0, 200_000, 900)) if not late else WINDOW.end - timedelta(seconds=9)
        )
        like = rng.randint(0, 1)
        rows.append(
            {
                "user_id": 99 if late else user,
                "item_id": 77 if late else rng.randint(1, 12),
                "event_timestamp": time,
                "created_timestamp": time + timedelta(hours=rng.choice([0, 0, 0, 0, 5])),
                "like": like,
                "love": rng.randint(0, like),
                "age": 20 + user,
                "age_band": "under_25" if user < 5 else "25_plus",
                "gender": "M" if user % 2 else "F",
                "occupation": "other",
                "release_year": 1990,
                "genres": ["drama"],
            }
        )
    dtypes = {"event_timestamp": TIME, "created_timestamp": TIME, "like": pl.Int8, "love": pl.Int8}
    return pl.DataFrame(rows, schema_overrides=dtypes).sort("event_timestamp", "user_id", "item_id")


@dataclass(frozen=True)
class Bench:
    """A home with an events table, and the two components to run on it."""

    settings: Settings

    def publish(self, events: pl.DataFrame, key: str = "k" * 32, notes: dict[bytes, str] | None = None) -> ArtifactRef:
        staged = self.settings.home / "staged" / key
        (staged / "events").mkdir(parents=True)
        path = staged / "events" / "events.parquet"
        events.write_parquet(path)
        if notes:
            pq.write_table(pq.read_table(path).replace_schema_metadata(notes), path)
        record = open_store(self.settings).publish(
            staged,
            {"events": EventsTable(uri="")},
            component="test_events", component_version="1", key=key, config_digest="", inputs={}, explanation={},
            seconds=0.0, notes=[], annotations={},
        )  # fmt: skip
        return record.outputs["events"]

    def features(self, events: ArtifactRef, window: Window = WINDOW, **config: Any) -> StageResult:
        config = {"feature_service": "movielens_ranker", "online": False} | config
        return self._run("materialize_features", config, {"table": events}, window)

    def dataset(self, events: ArtifactRef, features: StageResult, /, **config: Any) -> StageResult:
        inputs = {"events": events, "features": features.outputs["feature_tables"]}
        return self._run("build_training_set", DATASET | config, inputs, WINDOW)

    def folder(self, ref: ArtifactRef) -> Path:
        return open_store(self.settings).fetch(ref.load())

    def _run(self, name: str, config: dict[str, Any], inputs: dict[str, ArtifactRef], window: Window) -> StageResult:
        return execute(StageRequest(component=name, config=config, inputs=inputs, window=window), self.settings)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Settings.at(tmp_path))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, Path, StageResult]:
    """Events, the training set's folder and the stage's result, once for all tests that only read."""
    bench = Bench(Settings.at(tmp_path_factory.mktemp("built")))
    events = make_events()
    ref = bench.publish(events.sample(fraction=1.0, shuffle=True, seed=3))
    result = bench.dataset(ref, bench.features(ref))
    return events, bench.folder(result.outputs["training_set"]), result


def test_some_keys_and_rows_at_a_time_make_the_same_bytes(
    built: tuple[pl.DataFrame, Path, StageResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a large log is cut into leaves no trace in what is published."""
    monkeypatch.setattr(asof, "AT_ONCE", 60)
    monkeypatch.setattr(asof_store, "GATHER_ROWS", 37)
    events, _, whole = built
    bench = Bench(Settings.at(tmp_path))
    ref = bench.publish(events)
    cut = bench.dataset(ref, bench.features(ref))
    assert cut.outputs["training_set"].digest == whole.outputs["training_set"].digest


def all_rows(folder: Path) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(read_raw(folder, name)) for name in SPLITS]).sort("row_id")


def test_a_training_row_holds_what_had_happened_and_arrived_strictly_before(built: Any) -> None:
    events, folder, _ = built
    past = events.to_dicts()
    table = all_rows(folder).to_dicts()
    assert len(table) == len(past)
    for row in table:
        now = row["event_timestamp"]
        mine = [e for e in past if e["user_id"] == row["user_id"]]
        # The newest state whose impressions had all arrived: a late one hides what was counted on top of it.
        states = sorted({e["event_timestamp"] for e in mine if e["event_timestamp"] < now})
        arrived = [t for t in states if max(e["created_timestamp"] for e in mine if e["event_timestamp"] <= t) < now]
        if not arrived:
            assert row["user_impressions"] is None
            assert row["recent_items"] is None
            continue
        seen = sorted(
            (e for e in mine if e["event_timestamp"] <= arrived[-1]), key=lambda e: (e["event_timestamp"], e["item_id"])
        )
        assert row["user_impressions"] == len(seen)
        assert row["user_like_rate"] == pytest.approx((sum(e["like"] for e in seen) + 5) / (len(seen) + 10))
        assert row["recent_items"] == [e["item_id"] for e in reversed(seen)][:50]
        if row["user_id"] != 99:
            assert row["age"] == 20 + row["user_id"]
    assert any(row["user_impressions"] is not None for row in table)


def test_splits_are_ordered_and_the_encoder_knows_the_training_split_only(built: Any) -> None:
    _, folder, _ = built
    train, validation, test = (read_raw(folder, name) for name in SPLITS)
    times = [pl.DataFrame(part)["event_timestamp"] for part in (train, validation, test)]
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()  # type: ignore[operator]  # Any
    encoder = read_encoder(folder)
    assert set(encoder.vocabularies["item_id"]) == set(train["item_id"].to_pylist()) | {
        item for row in train["recent_items"].to_pylist() for item in row or ()
    }
    schema = read_schema(folder)
    encoded = read_encoded(folder, "test", schema)
    unseen = np.array([user == 99 for user in test["user_id"].to_pylist()])
    assert unseen.any()
    assert (encoded.features["user_id"][unseen] == UNKNOWN).all()
    assert (encoded.features["item_id"][unseen] == UNKNOWN).all()
    assert schema.trained_until == times[2].min()
    assert schema.base_rates["like"] == pytest.approx(np.mean(train["like"].to_numpy()))
    assert schema.domains == ("25_plus", "under_25")
    domain = [schema.domains[code] for code in encoded.domain]
    assert domain == test["age_band"].to_pylist()
    report = json.loads((folder / "report.json").read_text())
    assert (report["rows_in"], report["rows_out"]) == (400, 400)
    assert report["test"]["unseen_users"] == pytest.approx(unseen.mean())


def test_the_history_shares_the_items_table_and_auxiliary_features_stay_out(built: Any) -> None:
    _, folder, _ = built
    fields = {field.name: field for field in read_schema(folder).fields}
    assert fields["recent_items"].table == fields["item_id"].table == "item_id"
    assert fields["genres"].pooled
    assert "recent_likes" not in fields
    assert {"user_id", "item_id", "age_band", "user_like_rate"} <= set(fields)
    sides = read_schema(folder).sides
    assert {"user_id", "recent_items", "user_like_rate", "age"} <= {n for n, side in sides.items() if side == "user"}
    assert {"item_id", "genres", "item_love_rate"} <= {name for name, side in sides.items() if side == "item"}
    assert set(fields) - set(sides) == {"age_band"}


def test_the_order_of_the_events_file_changes_nothing(bench: Bench) -> None:
    events = make_events(150)
    digests = []
    for key, table in (("a" * 32, events), ("b" * 32, events.sample(fraction=1.0, shuffle=True, seed=1))):
        ref = bench.publish(table, key)
        features = bench.features(ref)
        dataset = bench.dataset(ref, features, split={"by": "random", "seed": 4})
        assert not dataset.cached
        digests.append((features.outputs["feature_tables"].digest, dataset.outputs["training_set"].digest))
    assert digests[0] == digests[1]


def test_a_domain_with_one_class_is_kept_and_noted(bench: Bench) -> None:
    young = pl.col("age_band") == "under_25"
    events = make_events(150).with_columns(
        pl.when(young).then(0).otherwise(pl.col(label)).cast(pl.Int8).alias(label) for label in ("like", "love")
    )
    ref = bench.publish(events.select(*make_events(1).columns))
    result = bench.dataset(ref, bench.features(ref))
    assert any(note.startswith("train: 'like' has one class only in under_25;") for note in result.notes)
    assert "under_25" in read_schema(bench.folder(result.outputs["training_set"])).domains


def test_a_request_stays_whole_and_is_of_one_user(bench: Bench, built: Any) -> None:
    day = pl.col("event_timestamp").dt.hour() // 6
    events = bench.publish(make_events().with_columns(pl.format("{}/{}", "user_id", day).alias("visit")))
    features = bench.features(events)
    folder = bench.folder(bench.dataset(events, features, request="visit").outputs["training_set"])
    held = [set(read_raw(folder, name)["visit"].to_pylist()) for name in SPLITS]
    assert sum(map(len, held)) == len(set.union(*held)) > 30
    schema = read_schema(folder)
    assert schema.declaration.request == "visit" and "visit" not in {field.name for field in schema.fields}
    codes = {name: read_encoded(folder, name, schema).request for name in SPLITS}
    for name in SPLITS:
        visits = read_raw(folder, name)["visit"].to_pylist()
        assert len({*zip(visits, codes[name], strict=True)}) == len(set(visits)) == len(set(codes[name]))
    assert read_schema(built[1]).declaration.request is None
    assert "request" not in (built[1] / "schema.json").read_text(encoding="utf-8")
    with pytest.raises(
        ContractViolationError, match=r"2 requests in 'age_band' hold rows of several users \('25_plus', "
    ):
        bench.dataset(events, features, request="age_band")


def test_a_group_travels_with_the_rows_and_is_an_input_only_where_it_is_a_feature(bench: Bench) -> None:
    events = bench.publish(make_events().with_columns(county=pl.col("user_id").cast(pl.String)))
    features = bench.features(events)
    for group, read in (("county", False), ("gender", True), ("age_band", True)):
        folder = bench.folder(bench.dataset(events, features, group=group).outputs["training_set"])
        schema = read_schema(folder)
        assert schema.declaration.group == group and group in read_raw(folder, "test").column_names
        assert (group in {field.name for field in schema.fields}) == read
    with pytest.raises(BadInputError, match="no column 'county_'"):
        bench.dataset(events, features, group="county_")


def test_a_row_is_compared_with_its_request_in_training_as_in_an_answer(bench: Bench) -> None:
    day = pl.col("event_timestamp").dt.hour() // 6
    events = bench.publish(make_events().with_columns(pl.format("{}/{}", "user_id", day).alias("visit"), x="item_id"))
    features = bench.features(events)
    within = {"x_rank": {"of": "x", "take": "rank"}, "age_gap": {"of": "age", "take": "gap"}}
    result = bench.dataset(events, features, request="visit", within=within, carry=["x"])
    folder = bench.folder(result.outputs["training_set"])
    rows, schema = all_rows(folder), read_schema(folder)
    assert {*within} <= {field.name for field in schema.fields}
    assert rows["x_rank"].equals(rows.select(pl.col("x").cast(float).rank("average").over("visit")).to_series())
    told = read_raw(folder, "test")
    asked = with_within(told.drop_columns([*within]), schema.declaration)
    assert all(asked[name].equals(told[name]) for name in told.column_names)
    with pytest.raises(BadInputError, match="within makes 'age', and the rows have a column of that name"):
        bench.dataset(events, features, request="visit", within={"age": within["x_rank"]})


def test_every_answer_is_for_one_place(bench: Bench) -> None:
    shown = make_events().with_columns(place=pl.col("item_id") % 4 + 1)
    events = bench.publish(shown)
    features = bench.features(events)
    folder = bench.folder(bench.dataset(events, features, position={"column": "place"}).outputs["training_set"])
    schema = read_schema(folder)
    places = {name: np.unique(read_encoded(folder, name, schema).features["place"]).tolist() for name in SPLITS}
    assert places == {"train": [2, 3, 4, 5], "validation": [2], "test": [2]}  # of the vocabulary 1, 2, 3, 4
    assert len(set(read_raw(folder, "test")["place"].to_pylist())) > 1
    with pytest.raises(BadInputError, match=r"position.served is 9, and no training row stood there \(places 1 to 4\)"):
        bench.dataset(events, features, position={"column": "place", "served": 9})
    with pytest.raises(BadInputError, match="position 'age_band' is String: publish it as int64"):
        bench.dataset(events, features, position={"column": "age_band"})


def test_rows_that_are_encoded_when_they_are_read_are_the_same(bench: Bench) -> None:
    visit = pl.format("{}/{}", "user_id", pl.col("event_timestamp").dt.hour() // 6)
    chance = pl.when(pl.col("age_band") == "under_25").then(0.5).otherwise(0.1)
    events = bench.publish(make_events().with_columns(place=pl.col("item_id") % 4 + 1, visit=visit, chance=chance))
    features = bench.features(events)
    roles = {"position": {"column": "place"}, "request": "visit", "weights": {"love": {"propensity": "chance"}}}
    whole, lean = (
        bench.folder(bench.dataset(events, features, encode_when_read=when, **roles).outputs["training_set"])
        for when in (False, True)
    )
    assert (whole / "encoded").is_dir() and not (lean / "encoded").exists()
    files = {path.relative_to(lean) for path in lean.rglob("*") if path.is_file()} - {Path("manifest.json")}
    assert all((lean / file).read_bytes() == (whole / file).read_bytes() for file in files)
    schema = read_schema(lean)
    for name in SPLITS:
        made, written = read_encoded(lean, name, schema), read_encoded(whole, name, schema)
        for found, expected in (
            (made.padded(), written.padded()), (made.labels, written.labels), (made.weights, written.weights),
            ({"domain": made.domain, "user": made.user, "request": made.request},
             {"domain": written.domain, "user": written.user, "request": written.request}),
        ):  # fmt: skip
            assert found.keys() == expected.keys()
            for key, values in found.items():
                assert np.array_equal(values, expected[key]) and values.dtype == expected[key].dtype, key


def test_weights_lie_beside_the_labels_and_are_no_feature(bench: Bench, built: Any) -> None:
    shown = make_events().with_columns(chance=pl.when(pl.col("age_band") == "under_25").then(0.5).otherwise(0.001))
    events = bench.publish(shown)
    result = bench.dataset(events, bench.features(events), weights={"love": {"propensity": "chance", "clip": 0.1}})
    folder = bench.folder(result.outputs["training_set"])
    schema = read_schema(folder)
    assert schema.weighted == ("love",) and {field.name for field in schema.fields}.isdisjoint(
        {"chance", "love__weight"}
    )
    for name in SPLITS:
        raw, encoded = pl.DataFrame(read_raw(folder, name)), read_encoded(folder, name, schema)
        ratio = raw["love__weight"] * raw["chance"].clip(0.1)
        assert ratio.to_numpy() == pytest.approx(ratio[0]) and [*encoded.weights] == ["love"]
        assert encoded.weights["love"].tolist() == raw["love__weight"].to_list()
        if name == "train":
            assert raw["love__weight"].mean() == pytest.approx(1)
    assert any(note.startswith("love: 3") and "weighted training rows say as much as" in note for note in result.notes)
    assert "weight" not in (built[1] / "schema.json").read_text(encoding="utf-8")


def test_context_and_drop_and_encode_change_what_the_ranker_sees(bench: Bench) -> None:
    ref = bench.publish(make_events(120))
    features = bench.features(ref)
    config: dict[str, Any] = {
        "context": ["event_timestamp"], "drop": ["item_id"], "domain": None,
        "encode": {"recent_likes": {"kind": "sequence", "length": 4}}, "split": {"by": "random"},
    }  # fmt: skip
    folder = bench.folder(bench.dataset(ref, features, **config).outputs["training_set"])
    fields = {field.name: field for field in read_schema(folder).fields}
    assert fields["event_timestamp"].kind == "numeric"
    assert "item_id" not in fields
    assert fields["recent_items"].table == "recent_items"  # its owner was dropped
    assert fields["recent_likes"].length == 4
    assert set(read_encoded(folder, "train", read_schema(folder)).domain.tolist()) == {0}


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Int64), pl.Array(pl.Int64, 2), pl.List(pl.String)], ids=["ints", "two ints", "texts"]
)
def test_a_list_of_the_impression_is_a_history(bench: Bench, dtype: pl.DataType) -> None:
    """Whichever of the list types a Parquet file holds."""
    items = pl.col("item_id")
    events = make_events(120).with_columns(pl.concat_list(items, items % 3).cast(dtype).alias("seen"))
    ref = bench.publish(events)
    config: dict[str, Any] = {"context": ["seen"], "domain": None, "encode": {"seen": {"kind": "sequence"}}}
    if dtype != pl.List(pl.String):
        config["encode"]["seen"]["shares"] = "item_id"
    folder = bench.folder(bench.dataset(ref, bench.features(ref), **config).outputs["training_set"])
    schema = read_schema(folder)
    seen = read_encoded(folder, "train", schema).padded()["seen"]
    assert (seen[:, :2] > 0).all() and not seen[:, 2:].any()
    if dtype != pl.List(pl.String):
        assert (seen[:, 0] == read_encoded(folder, "train", schema).features["item_id"]).all()


# --- the canary -----------------------------------------------------------------------------------

SHOCK = 123_456
PLANTS = {
    "future": (timedelta(hours=1), timedelta(hours=1)),
    "same timestamp": (timedelta(0), timedelta(0)),
    "written late": (timedelta(hours=-1), timedelta(hours=1)),
}
"""Where a shocking row stands relative to the impression: event time and created time."""


def canaries_that_arrive(tmp_path: Path, plant: str) -> int:
    """Plant a shocking activity row beside every impression and count the training rows that show one."""
    config = Config.model_validate(DATASET)
    events = tmp_path / "events.parquet"
    # One impression per user, so that no plant of one impression is rightly seen by another.
    make_events(200).unique("user_id", keep="first", maintain_order=True).write_parquet(events)
    snapshot = write_tables(tmp_path, "movielens_ranker", WINDOW, tmp_path)
    impressions = training_rows.read_impressions(events, config, tmp_path / "rows", keys=snapshot.keys)
    activity = tmp_path / "user_activity.parquet"
    table = pl.read_parquet(activity)
    event, created = PLANTS[plant]
    shock = impressions.frame(["user_id", "event_timestamp"]).select(
        "user_id",
        (pl.col("event_timestamp") + event).alias("event_timestamp"),
        # After everything else with the same event time, so that it wins the tie.
        (pl.col("event_timestamp") + created).alias("created_timestamp"),
        user_impressions=pl.lit(SHOCK, pl.Int64),
    )
    kept = table.join(shock, on=["user_id", "event_timestamp"], how="anti")
    pl.concat([kept, shock], how="diagonal_relaxed").select(table.columns).cast(dict(table.schema)).write_parquet(
        activity
    )
    joined = training_rows.join_features(impressions, config, snapshot, tmp_path, load_definitions(), tmp_path / "rows")
    return sum(value == SHOCK for value in joined.column("user_impressions").to_pylist())


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_value_never_arrives(tmp_path: Path, plant: str) -> None:
    assert canaries_that_arrive(tmp_path, plant) == 0


@pytest.mark.parametrize(
    ("plant", "broken"),
    [("future", "two hours late"), ("same timestamp", "no shift"), ("written late", "no created filter")],
)
def test_the_canary_dies_when_a_safeguard_is_off(
    tmp_path: Path, plant: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "two hours late":
        monkeypatch.setattr(training_rows, "TICK", timedelta(hours=-2))
    elif broken == "no shift":
        monkeypatch.setattr(training_rows, "TICK", timedelta(0))
    else:
        late = partial(historical_on_disk, honour_created=False)
        monkeypatch.setattr(training_rows, "historical_on_disk", late)
    assert canaries_that_arrive(tmp_path, plant) == 10


def test_an_own_history_keeps_its_newest_end_and_the_cut_is_told(bench: Bench) -> None:
    """Each impression brings what its user saw before, oldest first; a ranker must see the last two of them."""
    events = make_events(100).with_columns(seen=pl.int_ranges(0, pl.int_range(pl.len()) % 5))
    ref = bench.publish(events)
    result = bench.dataset(
        ref, bench.features(ref), context=["seen"], encode={"seen": {"length": 2, "order": "oldest_first"}}
    )
    assert (
        "seen: 40.0% of the rows list more than 2 values and keep 2, 30.0% of all values are cut, at the beginning of "
        "the list, which is its oldest end"
    ) in result.notes
    folder = bench.folder(result.outputs["training_set"])
    known = [*read_encoder(folder).vocabularies["seen"]]
    raw, encoded = read_raw(folder, "train"), read_encoded(folder, "train", read_schema(folder))
    for history, kept in zip(raw["seen"].to_pylist(), encoded.padded()["seen"].tolist(), strict=True):
        newest = history[::-1][:2]
        assert kept == [2 + known.index(value) for value in newest] + [0] * (2 - len(newest))


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_broken_funnel_names_five_rows(bench: Bench) -> None:
    events = make_events(100).with_columns(like=pl.lit(0, pl.Int8), love=pl.lit(1, pl.Int8))
    ref = bench.publish(events)
    with pytest.raises(ContractViolationError, match="100 impressions have 'love' without 'like'") as caught:
        bench.dataset(ref, bench.features(ref))
    assert str(caught.value).count("user_id") == 5


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({"like": pl.lit(2, pl.Int8)}, {}, "label 'like' of 100 impressions is not 0 or 1"),
        (
            {"like": pl.lit(1, pl.Int8), "love": pl.lit(0, pl.Int8)},
            {},
            r"feedback 'like' is 1 in all \d+ training rows",
        ),
        ({"user_id": pl.lit(None, pl.Int64)}, {}, "100 impressions have no 'user_id'"),
        ({}, {"feedback": ["like", "lov"]}, "no column 'lov' .did you mean 'love'"),
        (
            {},
            {"context": ["agee", "x"], "carry": ["y"]},
            r"no columns 'agee' \(did you mean 'age'\?\), 'x', 'y': correct",
        ),
        ({}, {"drop": ["gendr"]}, "no feature 'gendr' .did you mean 'gender'"),
        ({}, {"context": ["row_id"]}, "context names 'row_id', which is the number of a row in a training set"),
        ({}, {"context": ["gender"]}, "'gender' is a feature of service 'movielens_ranker' and a column"),
        ({}, {"feature_service": "movielens_profile"}, "made for service 'movielens_ranker', not 'movielens_profile'"),
    ],
)
def test_bad_rows_and_configs_are_one_sentence(
    bench: Bench, change: dict[str, pl.Expr], config: dict[str, Any], message: str
) -> None:
    good = make_events(100)
    features = bench.features(bench.publish(good))
    ref = bench.publish(good.with_columns(**change), key="b" * 32)
    with pytest.raises(Exception, match=message) as caught:
        bench.dataset(ref, features, **config)
    assert isinstance(caught.value, BadInputError) or "gendr" in message
    assert "\n" not in str(caught.value)


def test_a_window_without_impressions_is_one_sentence(bench: Bench) -> None:
    with pytest.raises(BadInputError, match="no impression lies in the window"):
        bench.features(bench.publish(make_events(50)), Window(start=WINDOW.end, end=WINDOW.end + timedelta(days=1)))


# --- the online store -----------------------------------------------------------------------------


def online_values(
    bench: Bench, users: list[int], items: list[int], service: str = "movielens_ranker", at: datetime = WINDOW.end
) -> list[dict[str, Any]]:
    store = open_shared(bench.settings.feast)
    with asked_at(at):
        answer = store.get_online_features(
            features=store.get_feature_service(service),
            entity_rows=[{"user_id": u, "item_id": i} for u, i in zip(users, items, strict=True)],
        ).to_dict()
    return [
        dict(zip(sorted(answer), row, strict=True)) for row in zip(*(answer[k] for k in sorted(answer)), strict=True)
    ]


def rewritten(bench: Bench, ref: ArtifactRef, window: Window = WINDOW, **config: Any) -> list[str]:
    return bench.features(ref, window, online=True, **config).notes


def test_online_values_are_the_offline_ones_at_the_window_s_end_however_often_they_are_written(bench: Bench) -> None:
    ref = bench.publish(make_events())
    users, items = [1, 2, 3, 99, 555], [1, 5, 12, 77, 555]
    result = bench.features(ref, online=True)
    once = online_values(bench, users, items)
    entities = pl.DataFrame(
        {ROW_ID: range(5), "user_id": users, "item_id": items, ENTITY_TIME: [WINDOW.end + timedelta(days=1)] * 5},
        schema_overrides={ENTITY_TIME: TIME},
    )
    with open_offline(bench.folder(result.outputs["feature_tables"])) as store:
        offline = historical(store, entities.to_arrow(), "movielens_ranker").to_pylist()
    assert any(row["user_impressions"] is not None for row in once)
    for on, off in zip(once, offline, strict=True):
        assert {name: on[name] for name in off if name != ROW_ID} == {n: v for n, v in off.items() if n != ROW_ID}
    # Another chunking is another cache key: everything is written again, in pieces, over the same values.
    again = bench.features(ref, online=True, chunks=5)
    assert not again.cached
    assert online_values(bench, users, items) == once


def test_an_older_window_never_overwrites_newer_values(bench: Bench) -> None:
    ref = bench.publish(make_events())
    older = Window(start=START, end=START + timedelta(days=1))
    rewritten(bench, ref)
    newest = online_values(bench, [1, 2], [1, 2])
    assert "left alone" in rewritten(bench, ref, older)[-1]
    # Another service shares two of the views; its older values must not slip in through it.
    assert "left alone" in rewritten(bench, ref, older, feature_service="movielens_profile")[-1]
    assert online_values(bench, [1, 2], [1, 2]) == newest
    assert bench.features(ref, older, online=True).cached  # and that is final, not tried again each time


def test_a_newer_window_replaces_older_values(bench: Bench) -> None:
    ref = bench.publish(make_events())
    rewritten(bench, ref, Window(start=START, end=START + timedelta(days=1)))
    old = online_values(bench, [1], [1])
    rewritten(bench, ref)
    assert online_values(bench, [1], [1])[0]["user_impressions"] > old[0]["user_impressions"]


def test_a_value_older_than_its_ttl_is_missing_online_as_it_is_offline(bench: Bench) -> None:
    rewritten(bench, bench.publish(make_events()))
    life = timedelta(days=180)
    [young] = online_values(bench, [1], [1], at=WINDOW.start + life)
    [old] = online_values(bench, [1], [1], at=WINDOW.end + life + timedelta(seconds=1))
    assert young["user_impressions"] is not None and young["age"] == old["age"] == 21
    assert old["user_impressions"] is None and old["recent_items"] is None


def test_a_key_that_is_gone_from_the_events_is_gone_online(bench: Bench) -> None:
    """Rows are removed by a bot filter, or because a person asks for it."""
    events = make_events()
    rewritten(bench, bench.publish(events))
    assert online_values(bench, [1], [1])[0]["age"] == 21
    rewritten(bench, bench.publish(events.filter(pl.col("user_id") != 1), key="g" * 32))
    [gone] = online_values(bench, [1], [1])
    assert gone["age"] is None and gone["user_impressions"] is None and gone["item_impressions"] is not None
    assert online_values(bench, [2], [1])[0]["age"] == 22


def test_a_cached_result_is_written_again_when_the_online_store_is_gone(bench: Bench) -> None:
    ref = bench.publish(make_events(100))
    rewritten(bench, ref)
    assert bench.features(ref, online=True).cached
    values = online_values(bench, [1], [1])
    (bench.settings.feast / "online.db").unlink()
    result = bench.features(ref, online=True)
    assert result.cached, "the tables are there: only the online store is written"
    assert online_values(bench, [1], [1]) == values
    marker = bench.settings.feast / "materialized" / "movielens_ranker.json"
    marker.write_text("{")
    assert bench.features(ref, online=True).cached
    assert json.loads(marker.read_text())["views"], "what nobody vouches for is written again"


def test_a_killed_write_leaves_no_other_service_s_word_for_views_that_both_share(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from features.joins import store

    events = make_events(100)
    ref = bench.publish(events)
    rewritten(bench, ref)
    values = online_values(bench, [1, 2], [1, 2])
    materialize = store.materialize

    def killed(*args: Any) -> Iterator[Any]:
        yield from materialize(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "materialize", killed)
        older = bench.publish(events.with_columns(pl.col("age") + 1), key="g" * 32)
        with pytest.raises(KeyboardInterrupt):
            rewritten(bench, older, feature_service="movielens_profile")
    assert online_values(bench, [1], [1])[0]["age"] == values[0]["age"] + 1, "they were overwritten"
    assert bench.features(ref, online=True).cached
    assert online_values(bench, [1, 2], [1, 2]) == values


def test_no_service_vouches_for_a_store_that_was_deleted_and_made_anew_by_another(bench: Bench) -> None:
    ref = bench.publish(make_events(100))
    rewritten(bench, ref)
    values = online_values(bench, [1, 2], [1, 2])
    (bench.settings.feast / "online.db").unlink()
    rewritten(bench, ref, feature_service="movielens_profile")
    rewritten(bench, ref)
    assert online_values(bench, [1, 2], [1, 2]) == values


def test_a_locked_or_damaged_online_store_is_one_sentence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = bench.publish(make_events(60))
    database = bench.settings.feast / "online.db"
    database.parent.mkdir(parents=True)
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    # The engine waits five seconds for a lock; the test need not.
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **({"timeout": 0.1} | k)))
    with connect(database) as holder:
        holder.execute("begin exclusive")
        with pytest.raises(RetryableError, match=r"online\.db is locked by another process"):
            rewritten(bench, ref)
        holder.rollback()
    rewritten(bench, ref)
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(BadInputError, match=r"online\.db is damaged .*delete the file"):
        rewritten(bench, ref, chunks=2)


def test_two_runs_take_turns_and_a_user_may_bring_an_own_store(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(RetryableError, match="another run holds"),
        locked(tmp_path / "lock", wait_seconds=0.2),
    ):
        raise AssertionError("two at once")
    own = tmp_path / "own" / "feature_store.yaml"
    own.parent.mkdir()
    own.write_text(
        "project: shop\nprovider: local\nregistry: r.db\nonline_store: {type: sqlite, path: o.db}\n"
        "entity_key_serialization_version: 3\n"
    )
    ref = bench.publish(make_events(60))
    rewritten(bench, ref)
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(own))
    assert bench.features(ref, online=True).cached
    assert {path.name for path in own.parent.iterdir()} == {"feature_store.yaml", "r.db", "o.db"}
    assert not Path("r.db").exists(), "a relative registry lies beside its file, not where the process runs"
    assert online_values(bench, [1], [1])[0]["user_id"] == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "online_store",
            "{type: redis, connection_string: 'localhost:port'}",
            "redis cannot write .* with base 10: 'port'",
        ),
        ("registry", "/etc/hostname", r"google\.protobuf cannot write .* Error parsing message"),
        ("registry", "{registry_type: sql, path: 'nosuch://x'}", "sqlalchemy cannot write .* Can't load plugin"),
    ],
)
def test_a_library_under_an_own_store_says_the_cause_in_one_sentence(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, said: str
) -> None:
    own = {"project": "shop", "provider": "local", "registry": "r.db", "online_store": "{type: sqlite, path: o.db}"}
    lines = (own | {"entity_key_serialization_version": "3", key: value}).items()
    path = tmp_path / "feature_store.yaml"
    path.write_text("".join(f"{name}: {text}\n" for name, text in lines))
    monkeypatch.setenv("RANKMILL_FEATURE_STORE", str(path))
    with pytest.raises(BadInputError, match=said) as caught:
        bench.features(bench.publish(make_events(60)), online=True)
    assert "\n" not in str(caught.value) and "does not answer" not in str(caught.value)
    assert "ValueError" not in str(caught.value)


def test_a_library_that_fails_in_the_join_says_so_in_one_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = bench.publish(make_events(60))
    features = bench.features(ref)
    monkeypatch.setattr(
        training_rows, "historical_on_disk", lambda *given, **options: pd.DataFrame({"age": [1]})["taste"]
    )
    with pytest.raises(BadInputError, match=r"^pandas cannot join the features: there is no 'taste'; correct the def"):
        bench.dataset(ref, features)


def test_spans_cover_the_window_once() -> None:
    parts = spans(WINDOW, 7)
    assert parts[0][0] == WINDOW.start - timedelta(microseconds=1)
    assert parts[-1][1] == WINDOW.end
    assert all(left[1] == right[0] for left, right in pairwise(parts))
