"""Does a history by reference hold what a list per row held, in training and when served, in a file of one length?"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.types import Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.materialize_features.component import write_tables
from components.data.training_set import SPLITS, SplitName, read_raw, write_raw
from features.declaration import LONGEST, FieldEncoding, Window
from features.definitions import Definitions
from features.definitions.common import listed_field, source, times_field
from features.definitions.recipe import Activity, History
from features.encoding.encoder import Encoder
from features.joins.histories import files_of, listed, view
from features.joins.online import asked_at
from features.joins.row_file import RowFile
from features.joins.store import ENTITY_TIME, ROW_ID, historical, materialize, open_offline, open_shared
from features.recipes.table import compute

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(start=START, end=START + timedelta(days=4))
TICK = timedelta(microseconds=1)
TIME = pl.Datetime("us", "UTC")
RULE = "item > 2 or click"
KEYS = ["user", "shop"]
LENGTHS = {"items": 3, "clicked": 2, "odd": 4}
RECIPE = Activity(
    key=("user", "shop"),
    prefix="u",
    history=(
        History({"items": "item", "clicks": "click", "times": "event_timestamp"}, length=LENGTHS["items"]),
        History({"clicked": "item", "words": "word"}, length=LENGTHS["clicked"], where="click"),
        History({"odd": "item"}, length=LENGTHS["odd"], where=RULE),
    ),
)
LISTS = [name for history in RECIPE.histories for name in history.columns]
SCHEMA: dict[str, Any] = {
    "user": pl.Int64, "shop": pl.String, "event_timestamp": TIME, "created_timestamp": TIME, "item": pl.Int64,
    "click": pl.Int8, "word": pl.String,
}  # fmt: skip
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, None]),
        st.sampled_from(["a", "b"]),
        st.integers(0, 12),
        st.sampled_from([0, 0, 0, 3, 300]),
        st.integers(1, 4),
        st.sampled_from([0, 1, None]),
        st.sampled_from(["Rom", "é", None]),
    ),
    min_size=1,
    max_size=30,
)


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    times = [START + timedelta(hours=row[2]) for row in rows]
    made = [time + timedelta(hours=row[3]) for time, row in zip(times, rows, strict=True)]
    data = [(*row[:2], time, late, *row[4:]) for row, time, late in zip(rows, times, made, strict=True)]
    return pl.DataFrame(data, schema=SCHEMA, orient="row")


def a_list_per_state(
    history: History, ordered: pl.DataFrame, counts: Any, positions: Any, labels: Collection[str]
) -> list[pl.Series]:
    """What recipes did before histories were kept by reference: list the values at each position and before it."""
    if history.where is not None:
        kept = pl.col("click") == 1 if history.where == "click" else (pl.col("item") > 2) | (pl.col("click") == 1)
        met = ordered.select(kept.fill_null(False)).to_series()
        running = np.concatenate(([0], np.cumsum(met.to_numpy())))
        so_far = running[positions + 1]
        counts, positions, ordered = so_far - running[positions + 1 - counts], so_far - 1, ordered.filter(met)
    lengths = np.minimum(counts, history.length)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    back = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    rows = np.repeat(positions, lengths) - back

    def made(column: pl.Series, name: str) -> pl.Series:
        if isinstance(column.dtype, pl.Datetime):
            column = column.to_physical()
        elif column.name in labels:
            column = column.fill_null(0).cast(pl.Int64)
        values = column.to_arrow(compat_level=pl.CompatLevel.oldest()).take(pa.array(rows))
        return pl.Series(name, pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), values)))

    return [made(ordered[column], name) for name, column in history.columns.items()]


def as_before(events: pl.DataFrame) -> pl.DataFrame:
    """Return key, time and the lists of every state, as recipes gave them before."""
    order = [*KEYS, "event_timestamp", "item", "created_timestamp", "click", "event_timestamp", "word"]
    ordered = events.drop_nulls(KEYS).sort(list(dict.fromkeys(order)))
    ordered = ordered.with_columns(
        count=pl.int_range(1, pl.len() + 1).over(KEYS), position=pl.int_range(pl.len()).cast(pl.Int64)
    )
    states = ordered.unique([*KEYS, "event_timestamp"], keep="last", maintain_order=True)
    counts, positions = states["count"].to_numpy(), states["position"].to_numpy()
    lists = [each for h in RECIPE.histories for each in a_list_per_state(h, ordered, counts, positions, ())]
    return states.select(*KEYS, "event_timestamp").with_columns(lists)


@settings(max_examples=80, deadline=None)
@given(rows=EVENTS, random=st.randoms(use_true_random=False))
def test_a_reference_gives_the_list_of_before(rows: list[tuple[Any, ...]], random: Any) -> None:
    expected = as_before(frame(rows))
    random.shuffle(rows)
    table = compute(RECIPE, frame(rows).lazy(), WINDOW)
    assert table.whole().select(expected.columns).to_dicts() == expected.to_dicts()
    assert all(len(history.events) <= len(rows) for history in table.histories)  # whatever the states list


def definitions(recipe: Activity = RECIPE, lengths: dict[str, int] = LENGTHS, ttl: int = 2) -> Definitions:
    entities = (
        Entity(name="user", join_keys=["user"], value_type=ValueType.INT64),
        Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING),
    )
    fields = [
        field
        for history in recipe.histories
        for name in history.columns
        if (length := lengths[next(iter(history.columns))])
        for field in [times_field(name, length) if name == "times" else listed_field(
            name, length, "times", text=name == "words"
        )]
    ]  # fmt: skip
    state = FeatureView(
        name="state", entities=list(entities), ttl=timedelta(days=ttl), source=source("state", "x"),
        schema=[Field(name="user", dtype=Int64), Field(name="shop", dtype=String), *fields],
    )  # fmt: skip
    return Definitions(entities, (state,), (FeatureService(name="all", features=[state]),), {"state": recipe})


def joined(folder: Path, asked: pl.DataFrame, own: Definitions) -> pa.Table:
    """Return what was known at each row's `event_timestamp`."""
    entities = asked.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW_ID))
    with open_offline(folder, own) as store:
        return historical(store, entities.to_arrow(compat_level=pl.CompatLevel.oldest()), "all", own)


@pytest.mark.engine
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=EVENTS)
def test_what_is_served_is_what_was_trained_and_what_a_list_per_row_was(rows: list[tuple[Any, ...]]) -> None:
    """Late arrivals, missing keys, a TTL, and conditions that nothing meets."""
    own, events = definitions(), frame(rows)
    before = as_before(events).with_columns(
        pl.col("words").list.eval(pl.element().fill_null("")),
        pl.col("clicks").list.eval(pl.element().fill_null(-(2**63)).cast(pl.Int64)),
    )
    asked = events.select(*KEYS, pl.col("event_timestamp") - TICK).vstack(
        events.select(*KEYS, pl.lit(WINDOW.end - TICK).cast(TIME).alias("event_timestamp"))
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        events.write_parquet(folder / "events.parquet")
        if events.drop_nulls(KEYS).is_empty():
            return
        write_tables(folder, "all", WINDOW, folder, own)
        trained = joined(folder, asked, own)
        list(materialize(folder / "feast", folder, ["state"], [(START, WINDOW.end)], own))
        shared = open_shared(folder / "feast", own)
        keys = events.select(KEYS).to_dicts()
        with asked_at(WINDOW.end - TICK):
            answer = shared.get_online_features(shared.get_feature_service("all"), entity_rows=keys).to_dict()
    assert all(pa.types.is_list_view(trained.schema.field(name).type) for name in LISTS)
    arrived = {(*key, t): max(  # by state the time at which everything behind it had arrived
        e["created_timestamp"] for e in events.to_dicts() if (e["user"], e["shop"]) == key and e["event_timestamp"] <= t
    ) for *key_, t in before.select(*KEYS, "event_timestamp").rows() for key in [tuple(key_)]}  # fmt: skip
    for row, got in zip(asked.to_dicts(), trained.to_pylist(), strict=True):
        known = [
            state for state in before.to_dicts()
            if all(state[key] == row[key] for key in KEYS) and state["event_timestamp"] <= row["event_timestamp"]
            and arrived[state["user"], state["shop"], state["event_timestamp"]] <= row["event_timestamp"]
            and state["event_timestamp"] + timedelta(days=2) >= row["event_timestamp"]
        ]  # fmt: skip
        assert {name: got[name] for name in LISTS} == {name: known[-1][name] if known else None for name in LISTS}
    late = events.filter(pl.col("created_timestamp") > WINDOW.end - TICK).select(KEYS).rows()
    for at, key in enumerate(keys):
        if (key["user"], key["shop"]) not in late:  # the online store knows no time of arrival
            end = len(events) + at
            assert {name: answer[name][at] for name in LISTS} == {n: trained[n][end].as_py() for n in LISTS}


@pytest.mark.engine
def test_the_online_store_holds_as_many_events_as_the_tags_say(tmp_path: Path) -> None:
    recipe = Activity(key=("user", "shop"), prefix="u", history=History({"items": "item"}, length=LONGEST))
    frame([(1, "a", hour % 90, 0, hour % 4, 0, "x") for hour in range(500)]).write_parquet(tmp_path / "events.parquet")
    held = {}
    for length in (7, 400):
        own = definitions(recipe, {"items": length}, ttl=9)
        write_tables(tmp_path, "all", WINDOW, tmp_path, own)
        list(materialize(tmp_path / "feast", tmp_path, ["state"], [(START, WINDOW.end)], own))
        shared = open_shared(tmp_path / "feast", own)
        with asked_at(WINDOW.end - TICK):
            answer = shared.get_online_features(["state:items"], entity_rows=[{"user": 1, "shop": "a"}]).to_dict()
        [held[length]] = answer["items"]
        asked = pl.DataFrame(
            {"user": [1], "shop": ["a"], ENTITY_TIME: [WINDOW.end]}, schema_overrides={ENTITY_TIME: TIME}
        )
        assert joined(tmp_path, asked, own)["items"].to_pylist() == [held[length]]
    assert (len(held[7]), len(held[400])) == (7, 400) and held[400][:7] == held[7]


def test_splits_share_one_log_and_are_read_as_lists(tmp_path: Path) -> None:
    values = pa.array(np.arange(100))
    starts, counts = pa.array([90, None, 0, 5, 40, 7]), pa.array([10, None, 0, 60, 1, 1])
    table = pa.table(
        {
            "row_id": pa.array(range(6)),
            "items": view(starts, counts, values),
            "own": pa.array([[1], None, [], [2, 3], [4], [5]], pa.list_(pa.int64())),
            "words": view(starts, counts, values.cast(pa.string())),
            "other": view(pa.array([1] * 6), pa.array([1] * 6), values),
        }
    )
    parts: dict[SplitName, pa.Table] = {
        name: table.take(pa.array(rows)) for name, rows in zip(SPLITS, ([0, 3, 1], [2], [4, 5]), strict=True)
    }
    write_raw(tmp_path, parts)
    names = {path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.parquet")}
    assert names == {"train.parquet", "validation.parquet", "test.parquet", "events/0.parquet", "events/1.parquet"}
    for name, part in parts.items():
        found = read_raw(tmp_path, name)
        assert found["items"].type == pa.list_(pa.int64())
        assert found.select(table.column_names).to_pylist() == part.to_pylist()
        assert read_raw(tmp_path, name, ["words", "row_id"]).column_names == ["words", "row_id"]
        file = RowFile(tmp_path / "raw" / f"{name}.parquet")
        blocks = list(file.blocks(table.column_names, 2))
        assert [block.num_rows for block in blocks] == [2] * (part.num_rows // 2) + [1] * (part.num_rows % 2)
        assert [row for block in blocks for row in listed(block).to_pylist()] == part.to_pylist()
        assert {*file.column_names} == {*table.column_names} and file.num_rows == part.num_rows
        last = file.take(np.array([part.num_rows - 1]), ["words", "row_id"])
        assert last.to_pylist() == part.select(["words", "row_id"]).to_pylist()[-1:]
        again = read_raw(tmp_path, name, ["items"], shared=True)["items"].chunk(0)
        assert len(again.values) == len(values)


def test_lists_are_made_in_pieces_that_their_offsets_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"a": view(pa.array([3, None, 0, 2]), pa.array([2, None, 4, 1]), pa.array([1, 2, 3, 4, 5]))})
    whole = listed(table)
    monkeypatch.setattr("features.joins.histories.PIECE", 3)
    assert listed(table)["a"].num_chunks > 1 and listed(table)["a"].to_pylist() == whole["a"].to_pylist()
    assert whole["a"].to_pylist() == [[4, 5], None, [1, 2, 3, 4], [3]]
    assert listed(table.slice(4))["a"].to_pylist() == []


@pytest.mark.parametrize("order", ["newest_first", "oldest_first"])
def test_an_encoder_reads_shared_events_as_it_reads_lists(order: Any) -> None:
    shared = pa.table({"a": view(pa.array([3, None, 0, 2]), pa.array([2, None, 4, 1]), pa.array([1, 2, 3, 4, 5]))})
    plain, options = listed(shared), {"a": FieldEncoding(length=3, order=order)}
    fitted = [Encoder.fit(table, {"a": "array<int64>"}, options) for table in (plain, shared)]
    assert fitted[0] == fitted[1]
    assert fitted[0].encode(shared)["a"].tolist() == fitted[0].encode(plain)["a"].tolist()


def test_the_files_of_a_table_are_its_own_and_its_events() -> None:
    files = ["a.parquet", "a.events/0.parquet", "a.events/1.parquet", "ab.parquet", "ab.events/0.parquet"]
    assert files_of("a.parquet", files) == ["a.events/0.parquet", "a.events/1.parquet", "a.parquet"]
    assert files_of("c.parquet", [*files, "c.parquet"]) == ["c.parquet"]


@pytest.mark.parametrize("length", [0, LONGEST + 1])
def test_a_history_has_a_limit(length: int) -> None:
    with pytest.raises(ValueError, match=rf"a history of {length:,} events is not between 1 and 10,000"):
        History({"items": "item"}, length=length)
