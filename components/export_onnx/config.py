"""What does `export_onnx` take and give? A ranker in, a graph that answers the same out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.artifacts import OnnxModel, Ranker, TrainingSet
from components.contract import ComponentConfig, ComponentSpec, Ports


class Config(ComponentConfig):
    """How exact the graph must be, and on which provider it is checked."""

    tolerance: float = Field(1e-5, gt=0)
    """Largest difference between torch and onnxruntime: absolute up to 1, relative above (only `hidden` gets there)."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider of the check; `cuda` fails where CUDA does not load, `auto` takes what loads."""


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
    entrypoint="components.export_onnx.component:run",
    sources=(
        "components.rankers",
        "components.training_set",
        "registry.axes",
        "registry.contract",
        "registry.served_model",
        "registry.session",
        "features.encode",
        "features.declaration",
    ),
)
