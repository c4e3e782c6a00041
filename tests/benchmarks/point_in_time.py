"""What does a leak-free training set cost through Feast, against an as-of join written by hand?"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.contract import Benchmark, Report, Series, at_most, table_of
from tests.benchmarks.lab import Lab

VIEWS = {"user_activity": "user_id", "item_activity": "item_id", "user_session": "user_id"}
"""Feature views and their keys; the last one holds a list of ten numbers beside its four features."""
LIFE = timedelta(days=30)
START, DAYS = datetime(2024, 1, 1, tzinfo=UTC), 60
WAYS = ("rankmill", "polars by hand", "duckdb by hand")
FEAST = "Feast's duckdb store"
PATIENCE = 90.0


def run(lab: Lab) -> Report:
    """Write the tables, then let each way answer the same entity rows in a process of its own, in turns."""
    sizes = (2_000,) if lab.quick else (100_000, 1_000_000, 10_000_000)
    scale = 200 if lab.quick else 1
    write_tables(lab.work, scale)
    cases = [f"{size:,}" for size in sizes]
    seconds: dict[str, dict[str, list[float]]] = {who: {case: [] for case in cases} for who in (*WAYS, FEAST)}
    cpu: dict[str, dict[str, list[float]]] = {who: {case: [] for case in cases} for who in (*WAYS, FEAST)}
    memory: dict[str, dict[str, list[float]]] = {who: {case: [] for case in cases} for who in (*WAYS, FEAST)}
    absent: dict[str, str] = {}
    for size, case in zip(sizes, cases, strict=True):
        write_entities(lab.work, size, scale)
        digests = set()
        for number in range(lab.rounds(3 if size < 10_000_000 else 2)):
            for who in WAYS if number % 2 == 0 else WAYS[::-1]:
                lab.say(f"{case} rows, round {number + 1}: {who}")
                cost = lab.child(answer, folder=str(lab.work), rows=size, who=who)
                assert cost is not None, f"{who} did not answer {case} rows"
                seconds[who][case].append(cost.seconds)
                cpu[who][case].append(cost.cpu_seconds)
                memory[who][case].append(cost.mib)
                digests.add(cost.value)
        # Feast's own join takes gigabytes at the first size already, and the square of that at the next.
        cost = None
        if size == sizes[0]:
            lab.say(f"{case} rows: {FEAST}")
            cost = lab.child(answer, PATIENCE, folder=str(lab.work), rows=size, who=FEAST)
        if cost is None:
            absent[f"{FEAST} @ {case}"] = f"over {PATIENCE:.0f} s" if size == sizes[0] else "not tried"
        else:
            seconds[FEAST][case].append(cost.seconds)
            cpu[FEAST][case].append(cost.cpu_seconds)
            memory[FEAST][case].append(cost.mib)
            digests.add(cost.value)
        assert len(digests) == 1, f"answers to {case} rows differ"
    common: dict[str, Any] = {
        "better": "lower",
        "axis": "entity rows × 3 views",
        "cases": tuple(cases),
        "absent": absent,
    }
    times = Series(title="Time of the join", unit="s", samples=table_of(seconds, cases), **common)
    work = Series(title="Processor time of the join", unit="s", samples=table_of(cpu, cases), **common)
    space = Series(title="Memory above the libraries'", unit="MiB", samples=table_of(memory, cases), **common)
    best = [min(WAYS[1:], key=lambda who: times.median(who, case) or 9e9) for case in cases]
    goals = tuple(
        at_most(times, WAYS[0], hand, case, 1.2, f"{case} rows: at most 1.2 × the time of the best by hand ({hand})")
        for case, hand in zip(cases, best, strict=True)
    )
    return Report(series=(times, work, space), goals=goals, charts=(times.title, space.title))


def answer(folder: str, rows: int, who: str) -> Iterator[None]:
    """Join in one way; the digest of the answer must be everybody's."""
    ways = {WAYS[0]: _through_feast, WAYS[1]: _polars, WAYS[2]: _duckdb, FEAST: _feast_alone}
    ask = ways[who](Path(folder), Path(folder) / f"entities_{rows}.parquet")
    next(ask)
    yield
    table = next(ask)
    yield
    return _digest(table)  # a generator that also returns: the interface of `tests.benchmarks.child`


def columns_of(view: str) -> list[str]:
    """Return the features of a view."""
    return [*(f"{view}_{number}" for number in range(4)), *([f"{view}_list"] if view == "user_session" else [])]


def _through_feast(folder: Path, entities: Path) -> Iterator[Any]:
    import polars as pl

    from features.joins.store import historical, open_offline

    importlib.import_module("features.joins.asof_store")  # Feast would import it inside the measured part
    definitions = _definitions()
    with open_offline(folder, definitions) as store:
        yield
        yield historical(store, pl.read_parquet(entities).to_arrow(), "benchmark", definitions)


def _feast_alone(folder: Path, entities: Path) -> Iterator[Any]:
    import polars as pl

    import features.joins.store as ours

    ours.OFFLINE_STORE = {"type": "duckdb"}
    with ours.open_offline(folder, _definitions()) as store:
        yield
        job = store.get_historical_features(
            entity_df=pl.read_parquet(entities).to_pandas(),
            features=[f"{view}:{name}" for view in VIEWS for name in columns_of(view)],
            filter_by_created_timestamp=True,
        )
        yield job.to_arrow()


def _polars(folder: Path, entities: Path) -> Iterator[Any]:
    import polars as pl

    yield
    joined = pl.read_parquet(entities)
    for view, key in VIEWS.items():
        rows = pl.read_parquet(folder / f"{view}.parquet").rename({"event_timestamp": "at"}).sort("created_timestamp")
        joined = joined.join_asof(
            rows, left_on="event_timestamp", right_on="created_timestamp", by=key, check_sortedness=False
        )
        fresh = pl.col("at") + LIFE >= pl.col("event_timestamp")
        joined = joined.with_columns(pl.when(fresh).then(pl.col(columns_of(view)))).drop("at", "created_timestamp")
    yield joined.to_arrow(compat_level=pl.CompatLevel.oldest())


def _duckdb(folder: Path, entities: Path) -> Iterator[Any]:
    import duckdb

    connection = duckdb.connect()
    yield
    values = ", ".join(
        f"CASE WHEN {view}.event_timestamp + INTERVAL {LIFE.days} DAY >= e.event_timestamp "
        f"THEN {view}.{name} END AS {name}"
        for view in VIEWS
        for name in columns_of(view)
    )
    joins = " ".join(
        f"ASOF LEFT JOIN '{folder}/{view}.parquet' {view} ON e.{key} = {view}.{key} "
        f"AND e.event_timestamp >= {view}.created_timestamp"
        for view, key in VIEWS.items()
    )
    yield connection.sql(f"SELECT e.__row_id, {values} FROM '{entities}' e {joins}").to_arrow_table()


def _digest(table: Any) -> str:
    """Return a digest of the features by row id, the same for every way of storing the same values."""
    import polars as pl

    columns = [name for view in VIEWS for name in columns_of(view)]
    frame = pl.from_arrow(table).select("__row_id", *columns)  # type: ignore[union-attr]  # a table gives a frame
    ordered = frame.sort("__row_id").with_columns(pl.col("user_session_list").cast(pl.List(pl.Float32)))
    return hashlib.sha256(ordered.hash_rows(1).to_numpy().tobytes()).hexdigest()


def write_tables(folder: Path, scale: int) -> None:
    """Write the three feature tables: 1.0, 0.6 and 1.0 million rows over 100,000 users and 20,000 items.

    Items are asked for in proportion to ``rank ** -0.8``, users evenly. A row becomes known a minute after its event.
    """
    import numpy as np
    import polars as pl

    generator = np.random.default_rng(7)
    for view, key in VIEWS.items():
        rows = (600_000 if key == "item_id" else 1_000_000) // scale
        ids = _items(generator, rows, scale) if key == "item_id" else generator.integers(0, 100_000 // scale, rows)
        seconds = generator.integers(0, DAYS * 86_400, rows)
        columns: dict[str, Any] = {key: ids, "seconds": seconds}
        columns |= {f"{view}_{number}": generator.random(rows, dtype=np.float32) for number in range(4)}
        if view == "user_session":
            lists = generator.random((rows, 10), dtype=np.float32)
            columns[f"{view}_list"] = pl.Series(lists, dtype=pl.Array(pl.Float32, 10)).cast(pl.List(pl.Float32))
        moment = pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="seconds")
        frame = pl.DataFrame(columns).unique([key, "seconds"], keep="first", maintain_order=True).sort(key, "seconds")
        frame.select(
            key, moment.alias("event_timestamp"), (moment + timedelta(minutes=1)).alias("created_timestamp"),
            *columns_of(view),
        ).write_parquet(folder / f"{view}.parquet", compression="zstd")  # fmt: skip


def write_entities(folder: Path, rows: int, scale: int) -> None:
    """Write entity rows in the order of their times."""
    import numpy as np
    import polars as pl

    generator = np.random.default_rng(8)
    frame = pl.DataFrame(
        {
            "__row_id": np.arange(rows),
            "user_id": generator.integers(0, 100_000 // scale, rows),
            "item_id": _items(generator, rows, scale),
            "seconds": np.sort(generator.integers(0, DAYS * 86_400, rows)),
        }
    )
    moment = pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="seconds")
    frame.select("__row_id", "user_id", "item_id", event_timestamp=moment).write_parquet(
        folder / f"entities_{rows}.parquet"
    )


def _items(generator: Any, rows: int, scale: int) -> Any:
    import numpy as np

    share = np.cumsum(np.arange(1, 20_000 // scale + 1) ** -0.8)
    return np.searchsorted(share, generator.random(rows) * share[-1]).astype(np.int64)


def _definitions() -> Any:
    from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, Int64

    from features.definitions import Definitions

    entities = {key: Entity(name=key, join_keys=[key], value_type=ValueType.INT64) for key in set(VIEWS.values())}
    views = tuple(
        FeatureView(
            name=view,
            entities=[entities[key]],
            ttl=LIFE,
            source=FileSource(
                name=view, path=f"{view}.parquet", timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
            schema=[
                Field(name=key, dtype=Int64),
                *(
                    Field(name=name, dtype=Array(Float32) if name.endswith("_list") else Float32)
                    for name in columns_of(view)
                ),
            ],
        )
        for view, key in VIEWS.items()
    )  # fmt: skip
    services = (FeatureService(name="benchmark", features=list(views)),)
    return Definitions(tuple(entities.values()), views, services, {})


BENCHMARK = Benchmark(
    title="Point-in-time training sets",
    question="What does a leak-free training set cost through Feast, against an as-of join written by hand?",
    run=run,
    order=20,
    notes=(
        "Three views of 1.0, 0.6 and 1.0 million rows in Parquet; every way reads the files, joins, and gives an Arrow "
        "table. Each measurement is a process of its own; importing libraries is not counted. Answers are compared "
        "by digest and are equal. The joins by hand know that rows become known in the order of their events; ours "
        "and Feast's do not, and pay for finding out.",
        "Feast's own query joins every entity row to all earlier rows of its key, feature columns included, gives each "
        "pair a row number in a window over a text made of key and time, and keeps the first: its cost is the number "
        "of such pairs, so one popular item multiplies it. `features/joins/asof_store.py` is an offline store of "
        "Feast that finds the row's number by one sorted merge per view over keys and times alone, and fetches the "
        "features of the rows found afterwards.",
    ),
)
