"""What does `ingest_open_bandit` take and give? One policy's log in, impressions with true propensities out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from components.platform.artifacts import EventsTable
from components.platform.columns import Columns, Flow, Role, published
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports

USER_CODES = tuple(f"user_feature_{i}" for i in range(4))
PRODUCT_CODES = tuple(f"item_feature_{i}" for i in range(1, 4))
COLUMNS: dict[str, str] = {
    **{"segment": "string", "product_id": "string", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"campaign": "string", "policy": "string", "position": "int8", "click": "int8", "propensity": "float64"},
    **dict.fromkeys(USER_CODES, "string"),
    "product_feature_0": "float64",
    **{name.replace("item", "product"): "string" for name in PRODUCT_CODES},
}
"""Columns of `events.parquet` in order, with their types."""
ROLES: dict[str, Role] = {
    **{"segment": "user", "product_id": "item", "event_timestamp": "timestamp", "created_timestamp": "timestamp"},
    **{"campaign": "domain", "click": "feedback"},
}
"""What columns are for; a label, or what it is made of, is known only after the impression."""


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


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    return {"events": published(COLUMNS, ROLES)}


COMPONENT = ComponentSpec(
    name="ingest_open_bandit",
    version="1",
    summary="Turn a log of the Open Bandit data into impressions with click, position and the policy's propensity.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_open_bandit.component:run",
    windowed=True,
    flow=Flow(gives=_gives),
    recheck="components.ingest.ingest_open_bandit.recheck:raw_files_are_unchanged",
)
