"""Does a service find the values that a training set with the same freshness was built from?"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from components.data.training_set import SPLITS, read_raw, read_schema
from components.platform.errors import BadInputError
from components.platform.settings import Settings
from features.declaration import Window
from features.encoding.files import read_encoder
from features.joins.online_read import OnlineReader
from features.services.served import ServedFeatures, read_served
from registry.serving.live.kept import ItemCache
from registry.serving.live.lookup import Lookup
from registry.serving.live.rows import Reads, Rows, rows_of
from registry.serving.log.segments import HASHED
from registry.serving.wire.protocol import Question, Tensor
from tests.integration.test_features import START, Bench, make_events

pytestmark = pytest.mark.engine
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    """Impressions of three days that are stored when they happen."""
    return make_events().with_columns(pl.col("event_timestamp").alias("created_timestamp"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Settings.at(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="module")
def folder(bench: Bench, events: pl.DataFrame) -> Path:
    """A training set with features as of the start of each day."""
    ref = bench.publish(events)
    made = bench.dataset(ref, bench.features(ref), freshness={"every": "1d"}, include=["recent_times"])
    return bench.folder(made.outputs["training_set"])


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for split in SPLITS:
        found += read_raw(folder, split).to_pylist()
    return found


def served(folder: Path) -> ServedFeatures:
    features = read_served(folder)
    assert features is not None
    return features


def question(row: dict[str, Any]) -> Question:
    moment = int(row["event_timestamp"].timestamp() * 1_000_000)
    tensors = (
        Tensor("user_id", "INT64", (1,), (row["user_id"],)),
        Tensor("item_id", "INT64", (1,), (row["item_id"],)),
        Tensor("age_band", "BYTES", (1,), (row["age_band"],)),
        Tensor("event_timestamp", "INT64", (1,), (moment,)),
    )
    return Question({tensor.name: tensor for tensor in tensors})


def asked(bench: Bench, folder: Path, row: dict[str, Any]) -> Rows:
    features = served(folder)
    schema, encoder = read_schema(folder), read_encoder(folder)
    reads = Reads.of(schema.declaration, [*encoder.columns, "recent_times"], {}, features)
    lookup = Lookup(lambda: OnlineReader.open(bench.settings.feast), cache=ItemCache(0, 1), timeout=30)
    return rows_of(question(row), reads, lookup, row["event_timestamp"], 10)


def test_each_column_has_a_source(folder: Path) -> None:
    features = served(folder)
    by_name = features.by_name
    assert (by_name["gender"].view, by_name["gender"].keys) == ("user_profile", ("user_id",))
    assert by_name["item_rated"].ttl_days == 180 if "item_rated" in by_name else True
    assert by_name["age_band"].view is None and by_name["event_timestamp"].dtype == "unix_timestamp"
    assert {"like", "love", "row_id"}.isdisjoint(by_name)
    assert str(features.freshness) == "every 1d"


def test_a_day_is_served_what_it_was_trained_on(bench: Bench, folder: Path, events: pl.DataFrame) -> None:
    joined = [column.name for column in served(folder).columns if column.view is not None]
    trained, differing, known = rows(folder), [], 0
    for day in (1, 2):
        end = START + day * DAY
        before = bench.publish(events.filter(pl.col("event_timestamp") < end), key=f"{day}" * 32)
        bench.features(before, Window(start=START, end=end), online=True)
        today = [row for row in trained if end <= row["event_timestamp"] < end + DAY]
        assert len(today) > 50
        for row in today:
            found = asked(bench, folder, row).table.to_pylist()[0]
            differing += [(name, row[name], found[name]) for name in joined if not same(row[name], found[name])]
            known += found["recent_items"] is not None
    assert differing == []
    assert known > 100


def test_without_freshness_a_row_sees_what_a_nightly_store_cannot(
    bench: Bench, folder: Path, events: pl.DataFrame
) -> None:
    ref = bench.publish(events, key="s" * 32)
    made = bench.dataset(ref, bench.features(ref), include=["recent_times"])
    streaming = {row["row_id"]: row for row in rows(bench.folder(made.outputs["training_set"]))}
    assert served(bench.folder(made.outputs["training_set"])).freshness is None
    nightly = {row["row_id"]: row for row in rows(folder)}
    differ = sum(streaming[number]["recent_times"] != nightly[number]["recent_times"] for number in nightly)
    assert differ > len(nightly) / 2


@pytest.fixture(scope="module")
def log(folder: Path, events: pl.DataFrame) -> pl.DataFrame:
    """What a service would have kept of the same rows: what was told, and every value that was read."""
    raw = pl.concat([pl.DataFrame(read_raw(folder, split)) for split in SPLITS]).sort("row_id")
    return raw.drop("row_id")


def test_rows_as_they_were_served_make_the_training_set_that_a_join_makes(
    bench: Bench, folder: Path, events: pl.DataFrame, log: pl.DataFrame
) -> None:
    features = bench.features(bench.publish(events, key="t" * 32))
    shuffled = bench.publish(log.sample(fraction=1.0, shuffle=True, seed=1), key="l" * 32)
    options: dict[str, Any] = {"include": ["recent_times"], "freshness": {"every": "1d"}, "features": "served"}
    made = bench.folder(bench.dataset(shuffled, features, **options).outputs["training_set"])
    for split in SPLITS:
        # The number of a row tells rows of one moment apart, and what else they hold decides their order.
        mine, joined = (
            sorted(repr(sorted(row.items())) for row in read_raw(each, split).drop("row_id").to_pylist())
            for each in (made, folder)
        )
        assert mine == joined
        encoder, other = read_encoder(folder), read_encoder(made)
        one, same_rows = (each.encode(read_raw(folder, split)) for each in (encoder, other))
        assert all((one[name] == same_rows[name]).all() for name in one)
    assert (made / "features.json").read_bytes() == (folder / "features.json").read_bytes()
    changed = log.with_columns(pl.col("gender").fill_null("X").str.to_uppercase() + "!")
    told = bench.dataset(bench.publish(changed, key="c" * 32), features, **options)
    genders = {str(row["gender"]) for row in rows(bench.folder(told.outputs["training_set"]))}
    assert all(gender.endswith("!") for gender in genders), "the log's values, whatever a join would give"


def test_what_was_not_served_or_is_hashed_cannot_be_learned(
    bench: Bench, events: pl.DataFrame, log: pl.DataFrame
) -> None:
    features = bench.features(bench.publish(events, key="u" * 32))
    lacking = bench.publish(log.drop("gender"), key="m" * 32)
    with pytest.raises(BadInputError, match=r"no column 'gender' .*, and features: served takes them from there"):
        bench.dataset(lacking, features, features="served")
    bench.dataset(lacking, features, features="served", drop=["gender"])
    secret = log.with_columns(pl.col("user_id").cast(pl.String))
    hashed = bench.publish(secret, key="h" * 32, notes={HASHED: json.dumps(["user_id"])})
    with pytest.raises(BadInputError, match="keeps 'user_id' hashed"):
        bench.dataset(hashed, features, features="served")


def same(trained: Any, found: Any) -> bool:
    if trained != trained and found is None:  # NaN is nothing online
        return True
    return bool(trained == found)
