"""Is the merge behind our offline store the point-in-time join of a plain loop, and of Feast's own engine?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import Definitions
from features.ground.errors import BadInputError
from features.joins import asof, asof_store
from features.joins.asof import CREATED, EVENT, MOMENT, TIME, known_rows, known_rows_of_parts
from features.joins.store import historical, open_offline

START = datetime(2024, 1, 1, tzinfo=UTC)
hours = st.integers(0, 12).map(lambda number: START + timedelta(hours=number))
rows = st.lists(st.tuples(st.sampled_from([1, 2, None]), st.none() | hours, st.none() | hours), max_size=25)
questions = st.lists(st.tuples(st.sampled_from([1, 2, 3]), hours), min_size=1, max_size=12)
AT_ONCE = st.sampled_from([2, 7, 1_000_000])
Row = tuple[int | None, datetime | None, datetime | None]
Question = tuple[int, datetime]


def frames(table: list[Row], asked: list[Question], *, created: bool = True) -> tuple[pl.DataFrame, pl.DataFrame]:
    moments = pl.DataFrame(asked, schema={"key": pl.Int64, MOMENT: TIME}, orient="row")
    frame = pl.DataFrame(table, schema={"key": pl.Int64, EVENT: TIME, CREATED: TIME}, orient="row")
    return moments, frame if created else frame.drop(CREATED)


def by_loop(table: list[Row], asked: list[Question], ttl: timedelta, honour: bool, created: bool) -> list[int | None]:
    """Say it once more in the plainest way."""
    answers = []
    for key, moment in asked:
        visible = []
        for place, (row_key, event, made) in enumerate(table):
            if row_key != key or event is None or event > moment or (ttl and event + ttl < moment):
                continue
            if created and honour and (made is None or made > moment):
                continue
            oldest = datetime.min.replace(tzinfo=UTC)
            visible.append((event, (made or oldest) if created else oldest, place))
        answers.append(max(visible)[2] if visible else None)
    return answers


@settings(max_examples=300, deadline=None)
@given(rows, questions, st.sampled_from([0, 1, 5]), st.booleans(), st.booleans(), st.booleans(), AT_ONCE)
def test_the_chosen_row_is_the_plain_loop_s(
    table: list[Row], asked: list[Question], life: int, honour: bool, created: bool, tidy: bool, at_once: int
) -> None:
    """Null keys, null times, ties, late rows, stale rows, any order; tables that lie in order; some keys at a time."""
    if tidy:
        lowest = datetime.min.replace(tzinfo=UTC)
        table = sorted(table, key=lambda row: (row[0] or 0, row[1] or lowest, row[2] or lowest))
    ttl = timedelta(hours=life)
    moments, frame = frames(table, asked, created=created)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asof, "AT_ONCE", at_once)
        found = known_rows(moments, frame, ["key"], ttl, honour_created=honour)
    assert found.dtype == pl.UInt32
    assert found.to_list() == by_loop(table, asked, ttl, honour, created)


@settings(max_examples=40, deadline=None)
@given(rows, questions, st.booleans(), st.integers(1, 4), st.sampled_from([1, 3]))
def test_rows_that_wait_on_disk_choose_the_same_rows(
    table: list[Row], asked: list[Question], honour: bool, size: int, parts: int
) -> None:
    """In blocks of any size, laid apart by key and merged one part after the other; nothing is left on disk."""
    moments, frame = frames(table, asked)
    with TemporaryDirectory() as folder:
        found = known_rows_of_parts(
            moments.iter_slices(size) if len(moments) else [moments],
            frame.iter_slices(size) if len(frame) else [frame],
            ["key"], timedelta(hours=5), honour_created=honour, parts=parts, folder=Path(folder),
        )  # fmt: skip
        assert not [*Path(folder).iterdir()]
    assert found.to_list() == by_loop(table, asked, timedelta(hours=5), honour, created=True)


def test_a_row_that_was_outdated_when_it_became_known_is_never_chosen() -> None:
    def at(hour: int) -> datetime:
        return START + timedelta(hours=hour)

    late_and_old, news = (1, at(1), at(9)), (1, at(4), at(4))
    moments, frame = frames([late_and_old, news], [(1, at(2)), (1, at(5)), (1, at(10))])
    assert known_rows(moments, frame, ["key"], timedelta(0), honour_created=True).to_list() == [None, 1, 1]


@pytest.mark.parametrize("part", ["_in_order says yes to everything", "no running maximum"])
def test_the_loop_sees_it_when_a_part_is_missing(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if part == "no running maximum":
        monkeypatch.setattr(pl.Expr, "cum_max", lambda self: self)
    else:
        monkeypatch.setattr(asof, "_in_order", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_row_that_was_outdated_when_it_became_known_is_never_chosen()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2), hours), max_size=20),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), hours), min_size=1, max_size=8),
    AT_ONCE,
)
def test_two_keys_are_one_key(
    table: list[tuple[str, int, datetime]], asked: list[tuple[str, int, datetime]], at_once: int
) -> None:
    keys = {"left": pl.String, "right": pl.Int64}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asof, "AT_ONCE", at_once)
        found = known_rows(
            pl.DataFrame(asked, schema=keys | {MOMENT: TIME}, orient="row"),
            pl.DataFrame(table, schema=keys | {EVENT: TIME}, orient="row"),
            list(keys),
            timedelta(0),
            honour_created=True,
        )
    expected = []
    for left, right, moment in asked:
        past = [(row[2], place) for place, row in enumerate(table) if row[:2] == (left, right) and row[2] <= moment]
        expected.append(max(past)[1] if past else None)
    assert found.to_list() == expected


# --- as Feast's offline store ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    """One view with a life of a day, renamed columns, text keys and every kind of value."""
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Bool, Float32, Int64, String

    shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
    stock = FeatureView(
        name="stock",
        entities=[shop],
        ttl=timedelta(days=1),
        source=FileSource(
            name="stock", path="stock.parquet", timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp", field_mapping={"n": "pieces"},
        ),
        schema=[
            Field(name="shop", dtype=String), Field(name="pieces", dtype=Int64), Field(name="price", dtype=Float32),
            Field(name="open", dtype=Bool), Field(name="words", dtype=Array(String)),
        ],
    )  # fmt: skip
    return Definitions((shop,), (stock,), (FeatureService(name="offers", features=[stock]),), {})


def world(seed: int, count: int = 400) -> tuple[pl.DataFrame, pa.Table]:
    """Return feature rows in no order, some late, and entity rows in no order, some for ever without features."""
    number = pl.int_range(count, dtype=pl.Int64)
    draw = pl.DataFrame({"n": pl.select(number).to_series()}).with_columns(
        hour=pl.col("n").hash(seed) % 80, late=pl.col("n").hash(seed + 1) % 7, who=pl.col("n").hash(seed + 2) % 4
    )
    event = pl.lit(START).cast(TIME) + pl.duration(hours="hour")
    table = draw.select(
        "n",
        shop=pl.lit("shop ") + pl.col("who").cast(pl.String),
        event_timestamp=event,
        # No two rows agree in key, event and created time: then every engine may choose as it likes.
        created_timestamp=event + pl.duration(hours=pl.col("late") * 3, microseconds="n"),
        price=pl.when(pl.col("n") % 5 > 0).then(pl.col("n") / 7).cast(pl.Float32),
        open=pl.col("n") % 2 == 0,
        words=pl.concat_list(pl.col("n").cast(pl.String), pl.lit(None, pl.String)),
    )
    entities = draw.select(
        pl.col("n").alias("__row_id"),
        shop=pl.lit("shop ") + (pl.col("late") % 5).cast(pl.String),
        event_timestamp=pl.lit(START).cast(TIME) + pl.duration(hours=pl.col("n").hash(seed + 9) % 90),
    )
    return table, entities.to_arrow()


@pytest.mark.engine
@pytest.mark.parametrize("honour", [True, False])
def test_the_answers_are_those_of_feast_s_own_engine(
    definitions: Definitions, tmp_path: Path, honour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore

    table, entities = world(3)
    table.write_parquet(tmp_path / "stock.parquet")
    monkeypatch.setattr(asof_store, "GATHER_ROWS", 37)  # pieces, the last one shorter
    with open_offline(tmp_path, definitions) as store:
        ours = historical(store, entities, "offers", definitions, honour_created=honour)
        theirs = DuckDBOfflineStore.get_historical_features(
            store.config, store.list_feature_views(), [f"stock:{name}" for name in ours.column_names[1:]],
            entities.to_pandas(), store.registry, store.project, filter_by_created_timestamp=honour,
        ).to_arrow()  # fmt: skip
    theirs = theirs.select(ours.column_names).cast(ours.schema).sort_by("__row_id")
    assert ours.combine_chunks().equals(theirs.combine_chunks())
    found = ours.column("pieces")
    assert 0 < found.null_count < len(found)


@pytest.mark.engine
def test_long_names_and_a_view_under_another_key_work_as_in_feast(definitions: Definitions, tmp_path: Path) -> None:
    table, entities = world(4)
    table.write_parquet(tmp_path / "stock.parquet")
    renamed = entities.rename_columns({"shop": "seller"})
    with open_offline(tmp_path, definitions) as store:
        view = store.get_feature_view("stock").with_join_key_map({"shop": "seller"}).with_name("of_seller")
        answer = asof_store.AsOfOfflineStore.get_historical_features(
            store.config, [view], ["of_seller:pieces"], renamed.to_pandas(), store.registry, store.project, True
        ).to_arrow()
        plain = historical(store, entities, "offers", definitions, names=["pieces"], honour_created=False)
    assert answer.column_names == ["__row_id", "seller", "event_timestamp", "of_seller__pieces"]
    assert answer.column("of_seller__pieces").to_pylist() == plain.column("pieces").to_pylist()


@pytest.mark.engine
def test_what_it_cannot_read_is_one_sentence(definitions: Definitions, tmp_path: Path) -> None:
    from feast import FileSource
    from feast.data_format import DeltaFormat

    table, entities = world(5, 10)
    table.write_parquet(tmp_path / "stock.parquet")
    with open_offline(tmp_path, definitions) as store:
        numbers = entities.set_column(1, "shop", pa.array(range(10)))
        with pytest.raises(BadInputError, match=r"key 'shop' is Int64 in the entities and String in feature view"):
            historical(store, numbers, "offers", definitions)
        view = store.get_feature_view("stock")
        view.batch_source = FileSource(name="lake", path="lake", timestamp_field="t", file_format=DeltaFormat())
        with pytest.raises(BadInputError, match=r"'stock' reads FileSource 'lake', but .* \.parquet"):
            asof_store._file(view)
        with pytest.raises(BadInputError, match="not SQL"):
            store.get_historical_features(entity_df="select 1", features=["stock:pieces"])


def test_rows_that_feast_lost_or_moved_are_noticed(definitions: Definitions) -> None:
    _, entities = world(6, 10)
    answer = pa.table({"__row_id": entities.column("__row_id")[::-1], "pieces": pa.array([1] * 10)})
    job = SimpleNamespace(to_arrow=lambda: answer)
    store: Any = SimpleNamespace(get_historical_features=lambda **_: job)
    with pytest.raises(BadInputError, match="answered 10 rows for 10 entity rows, or in another order"):
        historical(store, entities, "offers", definitions, names=["pieces"])
