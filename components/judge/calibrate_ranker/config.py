"""What does `calibrate_ranker` take and give? A graph and held-out rows in, the same graph with curves out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.platform.artifacts import OnnxModel, TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from registry.serving.scores.multiplier import Multiplier

Value = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Config(ComponentConfig):
    """Kind of curve, how many rows a domain needs for its own, and what a conversion is worth."""

    method: Literal["platt", "isotonic", "none"] = "platt"
    """`platt` fits two numbers per stage and domain, `isotonic` a rising line; `none` only adds the value."""
    min_rows: int = Field(500, ge=1)
    """Validation rows that a domain needs for a curve of its own; with fewer it shares the pooled one."""
    min_positives: int = Field(50, ge=1)
    """Rows of either label that a domain needs for a curve of its own; a stage with fewer keeps the graph's answer."""
    value: dict[str, Value] = Field(default_factory=dict)
    """Present value per conversion by domain value (product); empty when all conversions are worth the same."""
    default_value: Value | None = None
    """Value of a product that `value` leaves out; without it each must be named, or none (then each counts 1)."""
    multiply: tuple[Multiplier, ...] = Field((), exclude_if=lambda factors: not factors)
    """What else the score to rank by is multiplied by, of columns that rows bring: a bid, a boost by item or place."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """The graph and the rows."""

    model: OnnxModel
    dataset: TrainingSet


class Outputs(Ports):
    """The same files with `calibration.json`."""

    onnx_model: OnnxModel


COMPONENT = ComponentSpec(
    name="calibrate_ranker",
    version="1",
    summary="Calibrate every stage of a model per domain on the validation split, and set what a conversion is worth.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.judge.calibrate_ranker.component:run",
)
