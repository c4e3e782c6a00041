"""What does `ingest_served` take and give? The log of a service in, labelled rows of a window out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from pydantic import Field

from components.platform.artifacts import EventsTable, LabelledRows
from components.platform.columns import Column, Columns, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name
from features.ground.durations import Duration


class Config(ComponentConfig):
    """Which service, and when an answer is old enough to be labelled."""

    serving: Name
    """Service whose log is read; its file has a `log`."""
    feedback: tuple[Name, ...] = Field(min_length=1)
    """Labels to make, shallow to deep: 1 where such feedback came in time, else 0."""
    funnel: bool = True
    """Whether a deeper feedback implies the shallower ones, which are then 1 too."""
    after: Duration = timedelta(minutes=10)
    """How long after an answer feedback counts, the same for all of it. Answers whose time is not over when the
    window is read are left out: else clicks, known at once, would make everything look clicked."""
    features: bool = False
    """Whether the events keep the features as they were served, for `build_training_set: {features: served}`."""
    user: Name = "user_id"
    """Column of the user id."""
    item: Name = "item_id"
    """Column of the item id."""
    time: Name = "event_timestamp"
    """Column of the request's time."""


class Inputs(Ports):
    """Nothing: the log lies beside the artifacts."""


class Outputs(Ports):
    """The same rows twice: what the question told, and all that the model read."""

    events: EventsTable
    rows: LabelledRows


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    labels = {name: Column("int8", "feedback") for name in config.feedback}
    roles = {
        config.user: Column(role="user"),
        config.item: Column(role="item"),
        config.time: Column("timestamp", "timestamp"),
    }
    return {"events": Columns(roles | labels, whole=False)}


COMPONENT = ComponentSpec(
    name="ingest_served",
    version="3",
    summary="Join the log of a service with the feedback that came in time: labelled rows as they were served.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_served.component:run",
    cacheable=False,
    windowed=True,
    flow=Flow(gives=_gives),
)
