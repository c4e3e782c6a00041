"""What does `register_model` take and give? A graph and its report in, an MLflow version out."""

from __future__ import annotations

from components.platform.artifacts import EvaluationReport, ModelVersion, OnnxModel
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name


class Config(ComponentConfig):
    """Under which name."""

    model: Name
    """Name of the registered model in MLflow."""


class Inputs(Ports):
    """What the version is made of."""

    model: OnnxModel
    report: EvaluationReport


class Outputs(Ports):
    """The version."""

    model_version: ModelVersion


COMPONENT = ComponentSpec(
    name="register_model",
    version="2",
    summary="Register ONNX, encoder, contract and report as one MLflow version and make it the challenger.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.release.register_model.component:run",
    cacheable=False,
)
