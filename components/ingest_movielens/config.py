"""What does `ingest_movielens` take and give? MovieLens files in, a typed events table out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.artifacts import EventsTable
from components.contract import ComponentConfig, ComponentSpec, NoInputs, Ports


class Config(ComponentConfig):
    """Which MovieLens release, and what counts as a like."""

    release: Literal["ml-100k"] = "ml-100k"
    """Release to read; its files are downloaded once into the data folder."""
    like_at: int = Field(4, ge=1, le=5)
    """Lowest rating that is a `like`."""
    love_at: int = Field(5, ge=1, le=5)
    """Lowest rating that is a `love`; not below `like_at`, so that the funnel is nested."""
    download: bool = True
    """Fetch the files when they are absent; false makes absence an error."""


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


COMPONENT = ComponentSpec(
    name="ingest_movielens",
    version="1",
    summary="Turn MovieLens ratings inside the window into a typed table of impressions with like and love labels.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest_movielens.component:run",
    windowed=True,
)
