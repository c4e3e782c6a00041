"""What does `materialize_features` take and give? Events in, Feast sources and a fresh online store out."""

from __future__ import annotations

from pydantic import Field

from components.data.materialize_features.columns import FLOW
from components.platform.artifacts import EventsTable, FeatureTables
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.paths import DefinitionsFile
from features.declaration import Name


class Config(ComponentConfig):
    """Which Feast feature service to bring up to date."""

    feature_service: Name
    """Name of a feature service of the definitions."""
    definitions: DefinitionsFile | None = None
    """Python file with your own Feast definitions, beside the pipeline; left out, those in `features/definitions/`."""
    online: bool = True
    """Also write the newest values into the online store."""
    chunks: int = Field(1, ge=1, le=1000)
    """Parts the window is written online in, oldest first; more parts need less memory."""


class Inputs(Ports):
    """Impressions that the features are computed from."""

    table: EventsTable


class Outputs(Ports):
    """Parquet files behind the service's sources."""

    feature_tables: FeatureTables


COMPONENT = ComponentSpec(
    name="materialize_features",
    version="2",
    summary="Compute the tables behind a Feast feature service and materialise the window into the online store.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.data.materialize_features.component:run",
    windowed=True,
    flow=FLOW,
    sources=("features.joins.asof_store", "features.definitions"),
    after_publish="components.data.materialize_features.publish_online:publish_online",
)
