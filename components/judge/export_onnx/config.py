"""What does `export_onnx` take and give? A ranker in, a graph that answers the same out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import OnnxModel, Ranker, TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name
from registry.serving.model.contract import Precision

TOLERANCE: dict[Precision, float] = {"float32": 1e-5, "float16": 1e-2}
"""Largest difference between torch and onnxruntime by what the graph computes in."""


class Config(ComponentConfig):
    """How exact the graph must be, and on which provider it is checked."""

    precision: Precision = "float32"
    """Numbers of the graph inside: `float16` halves the file and is what GPUs have units for. Inputs, answers and the
    last layer stay float32; a CPU computes it by casts, and slower."""
    tolerance: float | None = Field(None, gt=0)
    """Largest difference between torch and onnxruntime: absolute up to 1, relative above (only `hidden` gets there).
    Left out, 1e-5, or 1e-2 of `float16`."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider of the check; `cuda` fails where CUDA does not load, `auto` takes what loads."""

    shape: Literal["row", "request"] = "row"
    """`request` also writes `request.onnx`, which reads the user's fields once for all candidates of a request."""
    context: tuple[Name, ...] = ()
    """Of a `request`: features that another candidate would not change, besides the user's, the domain and the time."""

    @property
    def allowed(self) -> float:
        """Return the largest difference that the graph may have."""
        return TOLERANCE[self.precision] if self.tolerance is None else self.tolerance

    @model_validator(mode="after")
    def _of_a_request(self) -> Self:
        if self.context and self.shape == "row":
            raise ValueError("context is read by shape: request, and this shape is row: leave it out")
        return self


class Inputs(Ports):
    """The ranker, and rows to compare its answers on."""

    ranker: Ranker
    dataset: TrainingSet


class Outputs(Ports):
    """The graph with its contract and parity report."""

    onnx_model: OnnxModel


COMPONENT = ComponentSpec(
    name="export_onnx",
    version="1",
    summary="Export the ranker to ONNX with dynamic batch and history, and fail unless it answers as torch does.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.judge.export_onnx.component:run",
    sources=("components.rankers",),
)
