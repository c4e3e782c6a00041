"""How do MovieLens ratings become impressions with ordered labels, attributes and a domain?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import EventsTable
from components.contract import NoInputs, RunContext
from components.errors import BadInputError
from components.ingest_movielens.config import Config, Outputs
from components.ingest_movielens.download import ensure
from components.ingest_movielens.recheck import ANNOTATION
from components.ingest_movielens.releases import Release, release
from features.declaration import Window
from features.files import sha256_file

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

ADULT, MATURE = 25, 35
"""First age of the second and of the third age band."""


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, or the window holds no rating.
        MissingError: a file is absent and may not be downloaded.
    """
    import pyarrow.parquet as pq

    folder = ensure(
        config.release,
        context.settings.data,
        download=config.download,
        verify=config.verify,
        report=context.progress,
    )
    source = release(config.release)
    for file in source.files:
        context.annotate(ANNOTATION + file.name, sha256_file(folder / file.name))
    frame = read_events(folder, source, config, context.window)
    draft = context.draft("events")
    pq.write_table(as_arrow(frame), draft / "events.parquet", compression="zstd", version="2.6")
    (draft / "window.json").write_text(context.window.model_dump_json(), encoding="utf-8")
    for line in _summary(frame):
        context.note(line)
    return Outputs(events=EventsTable(uri=str(draft)))


def read_events(folder: Path, source: Release, config: Config, window: Window) -> pl.DataFrame:
    """Return the impressions of `window`, one row per rating, sorted by time, user and item.

    A user or item without attributes keeps its rows, with nulls: whether such rows may be used is the
    data contract's decision.

    Raises:
        BadInputError: a file breaks its format, or `window` holds no rating.
    """
    import polars as pl

    ratings = _ratings(folder / source.ratings.name, config)
    inside = ratings.filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))
    if inside.is_empty():
        time = pl.col("event_timestamp").dt.to_string("%Y-%m-%d %H:%M")
        first, last = ratings.select(time.min().alias("first"), time.max().alias("last")).row(0)
        raise BadInputError(
            f"no rating lies in the window {window}: {folder / source.ratings.name} covers {first} to {last} UTC; "
            "move the window of the pipeline there"
        )
    return (
        inside.join(_users(folder / source.users.name), on="user_id", how="left")
        .join(_items(folder / source.items.name), on="item_id", how="left")
        .sort("event_timestamp", "user_id", "item_id", "rating", maintain_order=True)
        .select(events_schema().names)
    )


def _ratings(path: Path, config: Config) -> pl.DataFrame:
    import polars as pl

    from components.ingest_movielens import raw_files

    raw = raw_files.read(path, raw_files.RATINGS)
    time = raw.seconds("timestamp")
    rating = raw.integers("rating", pl.Int8)
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64),
            "item_id": raw.integers("item_id", pl.Int64),
            "event_timestamp": time,
            "created_timestamp": time,  # the release does not say when a rating was stored
            "rating": rating,
            "like": (rating >= config.like_at).cast(pl.Int8),
            "love": (rating >= config.love_at).cast(pl.Int8),
        }
    )


def _users(path: Path) -> pl.DataFrame:
    import polars as pl

    from components.ingest_movielens import raw_files

    raw = raw_files.read(path, raw_files.USERS)
    raw.unique("user_id")
    age = pl.col("age")
    band = pl.when(age < ADULT).then(pl.lit("under_25")).when(age < MATURE).then(pl.lit("25_34"))
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64),
            "age": raw.integers("age", pl.Int16, optional=True),
            "gender": raw.strings("gender"),
            "occupation": raw.strings("occupation"),
            "zip_code": raw.strings("zip_code"),
        }
    ).with_columns(band.when(age >= MATURE).then(pl.lit("35_plus")).alias("age_band"))


def _items(path: Path) -> pl.DataFrame:
    import polars as pl

    from components.ingest_movielens import raw_files

    raw = raw_files.read(path, raw_files.ITEMS)
    raw.unique("item_id")
    year = raw.text["release_year"]
    genres = raw.text["class"].str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return pl.DataFrame(
        {
            "item_id": raw.integers("item_id", pl.Int64),
            "title": raw.strings("movie_title"),
            # Two films of ml-100k carry a word here: what is not a year of four digits is unknown.
            "release_year": year.set(~year.str.contains(r"^\d{4}$"), None).cast(pl.Int16),
            "genres": genres,
        }
    )


def events_schema() -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    import pyarrow as pa

    time = pa.timestamp("us", "UTC")
    return pa.schema(
        [
            ("user_id", pa.int64()),
            ("item_id", pa.int64()),
            ("event_timestamp", time),
            ("created_timestamp", time),
            ("rating", pa.int8()),
            ("like", pa.int8()),
            ("love", pa.int8()),
            ("age", pa.int16()),
            ("age_band", pa.string()),
            ("gender", pa.string()),
            ("occupation", pa.string()),
            ("zip_code", pa.string()),
            ("title", pa.string()),
            ("release_year", pa.int16()),
            ("genres", pa.list_(pa.string())),
        ]
    )


def as_arrow(frame: pl.DataFrame) -> pa.Table:
    """Return the frame with the exact Arrow types of `events_schema`."""
    import polars as pl

    return frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(events_schema()).combine_chunks()


def _summary(frame: pl.DataFrame) -> list[str]:
    import polars as pl

    users, items = frame["user_id"].n_unique(), frame["item_id"].n_unique()
    rates = frame.select(pl.col("like", "love").mean() * 100).row(0)
    lines = [
        f"{len(frame):,} impressions of {users:,} users, {items:,} items; like {rates[0]:.1f} %, love {rates[1]:.1f} %"
    ]
    without = frame.select(pl.col("age").is_null().sum(), pl.col("title").is_null().sum()).row(0)
    lines += [
        f"{count:,} impressions without {what}"
        for count, what in zip(without, ("a user's age", "an item's title"), strict=True)
        if count
    ]
    return lines
