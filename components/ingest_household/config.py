"""What does `ingest_household` take and give? A grocer's files in, campaign exposures and the logs around them out."""

from __future__ import annotations

from pydantic import Field

from components.artifacts import EventsTable
from components.contract import ComponentConfig, ComponentSpec, NoInputs, Ports


class Config(ComponentConfig):
    """Which exposures count."""

    min_observed: float = Field(0.0, ge=0, le=1)
    """Least share of a campaign's days that tills and window cover; exposures of other campaigns are left out."""
    download: bool = True
    """Fetch the files when they are absent; false makes absence an error."""
    verify: bool = True
    """Compare the files with their published sha256; false reads your own files in the same format."""


class Outputs(Ports):
    """Exposures with the label `redeem`, and the logs `transactions`, `actions` and `outcomes`."""

    events: EventsTable


COMPONENT = ComponentSpec(
    name="ingest_household",
    version="1",
    summary="Turn simulated grocery data into campaign exposures labelled redeem, with shopping and campaign logs.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest_household.component:run",
    windowed=True,
    sources=("components.events_table", "components.wheel_files"),
    recheck="components.ingest_household.recheck:raw_files_are_unchanged",
)
