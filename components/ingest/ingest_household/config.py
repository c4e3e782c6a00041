"""What does `ingest_household` take and give? A grocer's files in, campaign exposures and the logs around them out."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from components.platform.artifacts import EventsTable
from components.platform.columns import Columns, Flow, Role, published
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports

ATTRIBUTES = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
COLUMNS: dict[str, str] = {
    **{"household_id": "int64", "campaign_id": "int64"},
    **{"event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"campaign_type": "string", "redeem": "int8", "observed": "float64"},
    **{"duration_days": "int64", "coupons": "int64", "products": "int64", "departments": "array<string>"},
    **dict.fromkeys(ATTRIBUTES, "string"),
}
"""Columns of `events.parquet` in order, with their types."""
ROLES: dict[str, Role] = {
    **{"household_id": "user", "campaign_id": "item", "campaign_type": "domain", "redeem": "feedback"},
    **{"event_timestamp": "timestamp", "created_timestamp": "timestamp"},
}
"""What columns are for; a label, or what it is made of, is known only after the impression."""


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


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"events": published(COLUMNS, ROLES)}


COMPONENT = ComponentSpec(
    name="ingest_household",
    version="1",
    summary="Turn simulated grocery data into campaign exposures labelled redeem, with shopping and campaign logs.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_household.component:run",
    windowed=True,
    flow=Flow(gives=_gives),
    recheck="components.ingest.ingest_household.recheck:raw_files_are_unchanged",
)
