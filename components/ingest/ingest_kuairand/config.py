"""What does `ingest_kuairand` take and give? KuaiRand-Pure files in, a typed events table out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from components.platform.artifacts import EventsTable
from components.platform.columns import Columns, Flow, Role, published
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports

LABELS = {
    "is_click": "click",
    "long_view": "long_view",
    "is_like": "like",
    "is_follow": "follow",
    "is_comment": "comment",
    "is_forward": "forward",
    "is_hate": "hate",
}
"""Official name → name of the 0/1 column."""
USER_NUMBERS = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
USER_CODES = ("is_live_streamer", "is_video_author", *(f"onehot_feat{i}" for i in range(18)))
VIDEO_WORDS = ("video_type", "upload_type")
VIDEO_NUMBERS = ("author_id", "music_id", "music_type", "video_duration", "server_width", "server_height")
COLUMNS: dict[str, str] = {
    **{"user_id": "int64", "video_id": "int64", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"tab": "string", "hour": "int8", "weekday": "int8"},
    **dict.fromkeys(LABELS.values(), "int8"),
    **{"play_time_ms": "int64", "duration_ms": "int64", "user_active_degree": "string"},
    **dict.fromkeys((*USER_NUMBERS, *USER_CODES), "int64"),
    **dict.fromkeys(VIDEO_WORDS, "string"),
    **dict.fromkeys(VIDEO_NUMBERS, "int64"),
    "tags": "array<string>",
}
"""Columns of `events.parquet` in order, with their types."""
ROLES: dict[str, Role] = {
    **{"user_id": "user", "video_id": "item", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **dict.fromkeys((*LABELS.values(), "play_time_ms"), "feedback"),
    "tab": "domain",
}
"""What columns are for; a label, or what it is made of, is known only after the impression."""


class Config(ComponentConfig):
    """Which parts of the log, and what happens to rows that break the funnel."""

    logs: tuple[Literal["4_08_to_4_21", "4_22_to_5_08"], ...] = Field(("4_22_to_5_08",), min_length=1)
    """Periods of the standard log to read, as in the official file names `log_standard_<period>_pure.csv`."""
    funnel: Literal["drop", "force_click", "keep"] = "drop"
    """What to do with a long view without a click: `drop` the row, `force_click` makes it a click, `keep` leaves
    it for a pipeline with `funnel: false`."""


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"events": published(COLUMNS, ROLES)}


COMPONENT = ComponentSpec(
    name="ingest_kuairand",
    version="1",
    summary="Turn the KuaiRand-Pure log inside the window into a typed table of impressions with nested labels.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_kuairand.component:run",
    windowed=True,
    flow=Flow(gives=_gives),
    recheck="components.ingest.ingest_kuairand.recheck:raw_files_are_unchanged",
)
