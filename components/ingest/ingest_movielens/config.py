"""What does `ingest_movielens` take and give? MovieLens files in, a typed events table out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import EventsTable
from components.platform.columns import Columns, Flow, Role, published
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports

COLUMNS: dict[str, str] = {
    **{"user_id": "int64", "item_id": "int64", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"rating": "int8", "like": "int8", "love": "int8"},
    **{"age": "int16", "age_band": "string", "gender": "string", "occupation": "string", "zip_code": "string"},
    **{"title": "string", "release_year": "int16", "genres": "array<string>"},
}
"""Columns of `events.parquet` in order, with their types."""
ROLES: dict[str, Role] = {
    **{"user_id": "user", "item_id": "item", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"rating": "feedback", "like": "feedback", "love": "feedback"},
}
"""What columns are for; a label, or what it is made of, is known only after the impression."""


class Config(ComponentConfig):
    """Which MovieLens release, and what counts as a like."""

    release: Literal["ml-100k", "ml-1m"] = "ml-100k"
    """Release to read; its files are downloaded once into the data folder."""
    like_at: int = Field(4, ge=1, le=5)
    """Lowest rating that is a `like`."""
    love_at: int = Field(5, ge=1, le=5)
    """Lowest rating that is a `love`; not below `like_at`, so that the funnel is nested."""
    download: bool = True
    """Fetch the files when they are absent; false makes absence an error."""
    verify: bool = True
    """Compare the files with the release's published sha256; false reads your own files in the same format."""

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if self.love_at < self.like_at:
            raise ValueError(
                f"love_at is {self.love_at}, below like_at {self.like_at}: "
                "a love would not be a like; raise love_at or lower like_at"
            )
        return self


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"events": published(COLUMNS, ROLES)}


COMPONENT = ComponentSpec(
    name="ingest_movielens",
    version="1",
    summary="Turn MovieLens ratings inside the window into a typed table of impressions with like and love labels.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_movielens.component:run",
    windowed=True,
    flow=Flow(gives=_gives),
    recheck="components.ingest.ingest_movielens.recheck:raw_files_are_unchanged",
)
