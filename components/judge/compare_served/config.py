"""What does `compare_served` take and give? Rows of a service's log in, a verdict about its challenger out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.platform.artifacts import LabelledRows, ServedComparison
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name
from registry.gate.policy import GatePolicy


class Config(ComponentConfig):
    """Whose answers are compared, and what the challenger must show."""

    model: Name
    """Registered model whose versions answered."""
    by: Literal["shadow", "canary"] = "shadow"
    """`shadow` compares what both answered to the same rows, `canary` what the users of each version did."""
    answers: Literal["base", "served"] = "base"
    """`base` compares answers before the error memory, which a challenger has none of yet; `served` those that were
    given."""
    gate: GatePolicy = GatePolicy()
    """What the challenger must show; of a canary `auc_margin`, the rule and the resampling."""
    rate_margin: float = Field(0.02, ge=0, le=1)
    """Of a canary: share of a feedback's rate that it may lose over all rows."""
    domain_rate_margin: float = Field(0.1, ge=0, le=1)
    """The same within each domain."""


class Inputs(Ports):
    """Labelled rows of a log, as `ingest_served` gives them."""

    rows: LabelledRows


class Outputs(Ports):
    """The verdict."""

    comparison: ServedComparison


COMPONENT = ComponentSpec(
    name="compare_served",
    version="1",
    summary="Compare what champion and challenger answered to people's questions, as shadow or canary of a service.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.judge.compare_served.component:run",
    cacheable=False,
    after_publish="components.judge.compare_served.announce:announce",
)
