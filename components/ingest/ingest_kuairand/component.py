"""How does the KuaiRand log become impressions with a nested funnel, attributes and a domain?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.ingest.events_table import inside, raw_annotations, schema_of, with_attributes, write_events
from components.ingest.ingest_kuairand.config import (
    COLUMNS,
    LABELS,
    USER_CODES,
    USER_NUMBERS,
    VIDEO_NUMBERS,
    VIDEO_WORDS,
    Config,
    Outputs,
)
from components.ingest.ingest_kuairand.files import USERS, VIDEOS, find, log_name, needed
from components.platform.contract import NoInputs, RunContext
from features.declaration import Window

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

LOCAL = "Asia/Shanghai"
"""The zone of the data set's own days and hours; it has no daylight saving time."""
DELIVERY = ("date", "hourmin")
"""When a row was delivered: one impression may be delivered twice, in two hours."""


@dataclass(frozen=True)
class Repairs:
    """Rows of the window that are not published as they were, in counts.

    Attributes:
        duplicates: rows that repeat another one in every column.
        redelivered: rows that repeat another one in every column but `DELIVERY`.
        broken: rows with a long view but no click, after the duplicates are gone.
    """

    duplicates: int
    redelivered: int
    broken: int


def run(inputs: NoInputs, config: Config, context: RunContext) -> Outputs:
    """Write the events table of the run's window.

    Raises:
        BadInputError: a file is damaged, or the window holds no impression.
        MissingError: a file is absent.
    """
    files = {name: find(context.settings.data, name) for name in needed(config.logs)}
    for name, digest in raw_annotations(files).items():
        context.annotate(name, digest)
    frame, repairs = read_events(context.settings.data, config, context.window)
    events = write_events(context.draft("events"), frame, events_schema(), context.window)
    for line in _summary(frame, repairs, config):
        context.note(line)
    return Outputs(events=events)


def read_events(data: Path, config: Config, window: Window) -> tuple[pl.DataFrame, Repairs]:
    """Return the impressions of `window`, sorted by time, user and video, and what was repaired.

    A user or video without attributes keeps its rows, with nulls.

    Args:
        data: data folder of the settings.
        config: periods to read, and the policy for rows that break the funnel.
        window: half-open.

    Raises:
        BadInputError: a file breaks its format, or `window` holds no impression.
        MissingError: a file is absent.
    """
    import polars as pl

    paths = [find(data, log_name(period)) for period in sorted(set(config.logs))]
    rows = inside(
        window,
        pl.concat([_log(path) for path in paths]),
        what="impression",
        where=", ".join(map(str, paths)),
        remedy="move the window of the pipeline there, or name more periods in logs",
    )
    once = rows.unique(keep="first", maintain_order=True)
    same = [name for name in once.columns if name not in DELIVERY]
    impressions = once.unique(same, keep="first", maintain_order=True)
    broken = (pl.col("long_view") == 1) & (pl.col("click") == 0)
    repairs = Repairs(
        duplicates=len(rows) - len(once),
        redelivered=len(once) - len(impressions),
        broken=len(impressions.filter(broken)),
    )
    if config.funnel == "drop":
        impressions = impressions.filter(~broken)
    elif config.funnel == "force_click":
        impressions = impressions.with_columns(pl.when(broken).then(1).otherwise("click").cast(pl.Int8).alias("click"))
    users, videos = find(data, USERS), find(data, VIDEOS)
    impressions = with_attributes(impressions, _users(users), "user_id", users)
    impressions = with_attributes(impressions, _videos(videos), "video_id", videos)
    order = ("event_timestamp", "user_id", "video_id", "tab", *LABELS.values(), "play_time_ms")
    return impressions.sort(order, maintain_order=True).select(events_schema().names), repairs


def _log(path: Path) -> pl.DataFrame:
    import polars as pl

    from components.ingest import csv_table

    ids = ("user_id", "video_id", "time_ms", "tab", "duration_ms", "play_time_ms")
    raw = csv_table.read(path, (*ids, *LABELS, *DELIVERY))
    time = raw.milliseconds("time_ms")
    rest = [name for name in raw.text.columns if name not in {*ids, *LABELS}]
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64),
            "video_id": raw.integers("video_id", pl.Int64),
            "event_timestamp": time,
            "created_timestamp": time,  # the release does not say when a row was stored
            "tab": raw.integers("tab", pl.Int64).cast(pl.String),
            "hour": time.dt.convert_time_zone(LOCAL).dt.hour(),
            "weekday": time.dt.convert_time_zone(LOCAL).dt.weekday(),
            **{new: raw.flags(old) for old, new in LABELS.items()},
            "play_time_ms": raw.integers("play_time_ms", pl.Int64),
            "duration_ms": raw.integers("duration_ms", pl.Int64),
            # Not published, but two rows are the same only when these agree, too.
            **{name: raw.text[name] for name in rest},
        }
    )


def _users(path: Path) -> pl.DataFrame:
    import polars as pl

    from components.ingest import csv_table

    raw = csv_table.read(path, ("user_id", "user_active_degree", *USER_NUMBERS, *USER_CODES))
    raw.unique("user_id")
    return pl.DataFrame(
        {
            "user_id": raw.integers("user_id", pl.Int64),
            "user_active_degree": raw.strings("user_active_degree"),
            **{name: raw.integers(name, pl.Int64, optional=True) for name in (*USER_NUMBERS, *USER_CODES)},
        }
    )


def _videos(path: Path) -> pl.DataFrame:
    import polars as pl

    from components.ingest import csv_table

    raw = csv_table.read(path, ("video_id", "tag", *VIDEO_WORDS, *VIDEO_NUMBERS))
    raw.unique("video_id")
    tags = raw.text["tag"].str.split(",").list.eval(pl.element().filter(pl.element() != ""))
    return pl.DataFrame(
        {
            "video_id": raw.integers("video_id", pl.Int64),
            **{name: raw.strings(name) for name in VIDEO_WORDS},
            **{name: raw.integers(name, pl.Int64, optional=True) for name in VIDEO_NUMBERS},
            "tags": tags,
        }
    )


def events_schema() -> pa.Schema:
    """Return the columns of `events.parquet`, in order."""
    return schema_of(COLUMNS)


def _summary(frame: pl.DataFrame, repairs: Repairs, config: Config) -> list[str]:
    import polars as pl

    users, videos, tabs = (frame[name].n_unique() for name in ("user_id", "video_id", "tab"))
    rates = frame.select(pl.col("click", "long_view").mean().fill_null(0.0) * 100).row(0)
    done = {"drop": "dropped", "force_click": "made clicks", "keep": "kept"}[config.funnel]
    counts = {
        "exact duplicates dropped": repairs.duplicates,
        f"repeats that differ in {' or '.join(DELIVERY)} only dropped": repairs.redelivered,
        f"long views without a click {done}": repairs.broken,
        "impressions without a user's attributes": int(frame["user_active_degree"].null_count()),
        "impressions without a video's attributes": int(frame["video_type"].null_count()),
    }
    return [
        f"{len(frame):,} impressions of {users:,} users, {videos:,} videos in {tabs} tabs; "
        f"click {rates[0]:.1f} %, long_view {rates[1]:.1f} %",
        *(f"{count:,} {what}" for what, count in counts.items() if count),
    ]
