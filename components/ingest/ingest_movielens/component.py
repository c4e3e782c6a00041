"""How do MovieLens ratings become impressions with ordered labels, attributes and a domain?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.events_table import inside, raw_annotations, schema_of, with_attributes, write_events
from components.ingest.ingest_movielens.config import COLUMNS, Config, Outputs
from components.ingest.ingest_movielens.download import ensure
from components.ingest.ingest_movielens.releases import Layout, Release, release
from components.platform.contract import NoInputs, RunContext
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from components.ingest.fields import RawTable

ADULT, MATURE = 25, 35
"""First age of the second and of the third age band."""


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, or the window holds no rating.
        MissingError: a file is absent and may not be downloaded.
    """
    folder = ensure(
        config.release,
        context.settings.data,
        download=config.download,
        verify=config.verify,
        report=context.progress,
    )
    chosen = release(config.release)
    for name, digest in raw_annotations(chosen.source.paths(folder)).items():
        context.annotate(name, digest)
    frame = read_events(folder, chosen, config, context.window)
    events = write_events(context.draft("events"), frame, events_schema(), context.window)
    for line in _summary(frame):
        context.note(line)
    return Outputs(events=events)


def read_events(folder: Path, source: Release, config: Config, window: Window) -> pl.DataFrame:
    """Return the impressions of `window`, one row per rating, sorted by time, user and item.

    A user or item without attributes keeps its rows, with nulls: whether such rows may be used is the
    data contract's decision.

    Raises:
        BadInputError: a file breaks its format, or `window` holds no rating.
    """
    import polars as pl

    from components.ingest.ingest_movielens import raw_files

    layout = source.layout
    items = raw_files.read(folder / source.items, layout.items)
    items.unique("item_id")
    ratings = raw_files.read(folder / source.ratings, raw_files.RATINGS)
    item_id = (
        ratings.places("item_id", items.text["item_id"], items.path)
        if layout.titled
        else ratings.integers("item_id", pl.Int64)
    )
    rows = inside(window, _ratings(ratings, item_id, layout, config), what="rating", where=str(ratings.path))
    users = raw_files.read(folder / source.users, layout.users)
    rows = with_attributes(rows, _users(users, layout), "user_id", users.path)
    rows = with_attributes(rows, _items(items, layout), "item_id", items.path)
    order = ("event_timestamp", "user_id", "item_id", "rating")
    return rows.sort(order, maintain_order=True).select(events_schema().names)


def _ratings(raw: RawTable, item_id: pl.Series, layout: Layout, config: Config) -> pl.DataFrame:
    import polars as pl

    time = raw.seconds("timestamp")
    rating = raw.integers("rating", pl.Int8)
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64, prefix=layout.user_prefix),
            "item_id": item_id,
            "event_timestamp": time,
            "created_timestamp": time,  # the release does not say when a rating was stored
            "rating": rating,
            "like": (rating >= config.like_at).cast(pl.Int8),
            "love": (rating >= config.love_at).cast(pl.Int8),
        }
    )


def _users(raw: RawTable, layout: Layout) -> pl.DataFrame:
    import polars as pl

    raw.unique("user_id")
    age = pl.col("age")
    band = pl.when(age < ADULT).then(pl.lit("under_25")).when(age < MATURE).then(pl.lit("25_34"))
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64, prefix=layout.user_prefix),
            "age": raw.integers("age", pl.Int16, optional=True),
            "gender": raw.strings("gender"),
            "occupation": raw.strings("occupation"),
            "zip_code": raw.strings("zip_code"),
        }
    ).with_columns(band.when(age >= MATURE).then(pl.lit("35_plus")).alias("age_band"))


def _items(raw: RawTable, layout: Layout) -> pl.DataFrame:
    import polars as pl

    year = raw.text["release_year"]
    genres = raw.text[layout.genres].str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    numbered = pl.Series(range(1, len(raw.text) + 1), dtype=pl.Int64)
    return pl.DataFrame(
        {
            "item_id": numbered if layout.titled else raw.integers("item_id", pl.Int64),
            "title": raw.strings("movie_title"),
            # Two films of ml-100k carry a word here: what is not a year of four digits is unknown.
            "release_year": year.set(~year.str.contains(r"^\d{4}$"), None).cast(pl.Int16),
            "genres": genres,
        }
    )


def events_schema() -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(COLUMNS)


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
