"""What does `promote_model` take and give? A challenger in, a verdict and perhaps a new champion out."""

from __future__ import annotations

from typing import Literal

from components.artifacts import ModelVersion, Promotion, TrainingSet
from components.contract import ComponentConfig, ComponentSpec, Ports
from registry.policy import GatePolicy


class Config(ComponentConfig):
    """The gate, and the provider that scores both models."""

    gate: GatePolicy = GatePolicy()
    """What the challenger must show against the champion."""
    allow_older: bool = False
    """Whether a ranker of a window that ends before the champion's may replace it; otherwise a run for a past day, such
    as a backfill, ends well and leaves the champion."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """The challenger, and the rows that both models are scored on."""

    version: ModelVersion
    dataset: TrainingSet


class Outputs(Ports):
    """The verdict and what was done."""

    promotion: Promotion


COMPONENT = ComponentSpec(
    name="promote_model",
    version="1",
    summary="Compare challenger and champion on the same rows and move the champion alias when the gate agrees.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.promote_model.component:run",
    cacheable=False,
)
