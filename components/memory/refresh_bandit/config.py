"""What does `refresh_bandit` take and give? Labelled rows in, what the champion should still find out out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.platform.artifacts import Bandit, LabelledRows
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name


class Config(ComponentConfig):
    """The champion, its clusters of users, and the weight of the bonus (Diag-LinUCB, Yi et al., RecSys 2023)."""

    model: Name
    """Registered model whose champion gets the bandit; its ranker must have vectors of users, as `gnolr` has."""
    clusters: int = Field(64, ge=1, le=10_000)
    """Clusters of users, C."""
    nearest: int = Field(3, ge=1, le=100)
    """Clusters that a user is a mixture of, K."""
    alpha: float = Field(0.05, gt=0, le=10)
    """Bonus of an item that nobody like the user has seen, as a probability; it falls with 1 / √rows."""
    feedback: Name | None = None
    """Label that is the reward; the shallowest feedback when left out."""
    seed: int = Field(0, ge=0)
    """Seed of the clusters."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """Rows with labels, all of which are counted: of a training set, or of the log of a service."""

    dataset: LabelledRows


class Outputs(Ports):
    """Clusters, and the sums of every cluster and item."""

    bandit: Bandit


COMPONENT = ComponentSpec(
    name="refresh_bandit",
    version="1",
    summary="Count what was earned by cluster of users and item: a bonus for what the champion still knows little of.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.memory.refresh_bandit.component:run",
    cacheable=False,
    after_publish="components.memory.refresh_bandit.pointer:announce",
)
