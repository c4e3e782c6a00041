"""What does `ingest_kuairand` take and give? KuaiRand-Pure files in, a typed events table out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.artifacts import EventsTable
from components.contract import ComponentConfig, ComponentSpec, NoInputs, Ports


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


COMPONENT = ComponentSpec(
    name="ingest_kuairand",
    version="1",
    summary="Turn the KuaiRand-Pure log inside the window into a typed table of impressions with nested labels.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest_kuairand.component:run",
    windowed=True,
    sources=("components.csv_table", "components.events_table", "components.raw_table"),
    recheck="components.ingest_kuairand.recheck:raw_files_are_unchanged",
)
