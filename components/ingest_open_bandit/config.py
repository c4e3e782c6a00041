"""What does `ingest_open_bandit` take and give? One policy's log in, impressions with true propensities out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.artifacts import EventsTable
from components.contract import ComponentConfig, ComponentSpec, NoInputs, Ports


class Config(ComponentConfig):
    """Whose log, and of which campaigns."""

    policy: Literal["random", "bts"] = "random"
    """Policy that chose the products: uniformly at random, or by Bernoulli Thompson sampling."""
    campaigns: tuple[Literal["all", "men", "women"], ...] = Field(("all", "men", "women"), min_length=1)
    """Campaigns to read, by their official names; each has its own products. Campaign `all` becomes `everyone`."""
    download: bool = True
    """Fetch the files when they are absent; false makes absence an error."""
    verify: bool = True
    """Compare the files with their published sha256; false reads your own files in the same format."""


class Outputs(Ports):
    """Typed impressions."""

    events: EventsTable


COMPONENT = ComponentSpec(
    name="ingest_open_bandit",
    version="1",
    summary="Turn a log of the Open Bandit data into impressions with click, position and the policy's propensity.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest_open_bandit.component:run",
    windowed=True,
    sources=("components.csv_table", "components.events_table", "components.raw_table", "components.wheel_files"),
    recheck="components.ingest_open_bandit.recheck:raw_files_are_unchanged",
)
