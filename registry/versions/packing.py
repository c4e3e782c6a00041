"""How does a folder become something that MLflow can load too? Its description is written beside our files."""

from __future__ import annotations

import shutil
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from features.ground.files import lay
from registry.serving.model.contract import ModelContract, axes_of
from registry.versions.seal import SEAL, Seal

if TYPE_CHECKING:
    from mlflow.models.signature import ModelSignature


def pack(directory: Path, to: Path, seal: Seal, model_id: str, run_id: str | None) -> Path:
    """Write MLflow's description of an ONNX model, then our files over it, byte for byte.

    Returns:
        `to`, which `mlflow.onnx.load_model` and `ServedModel.open` can both open.
    """
    import mlflow.onnx
    import onnx
    from mlflow.models import Model

    contract = ModelContract.model_validate_json((directory / "contract.json").read_bytes())
    mlflow.onnx.save_model(
        onnx.load(str(directory / "model.onnx"), load_external_data=False),  # large tables stay where they lie
        str(to),
        mlflow_model=Model(model_id=model_id, run_id=run_id),
        signature=_signature(contract),
        pip_requirements=[
            f"{name}=={installed_version(name)}" for name in ("onnxruntime-gpu", "onnx", "numpy", "pandas")
        ],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    shutil.copytree(directory, to, dirs_exist_ok=True, copy_function=lay)
    (to / SEAL).write_text(seal.model_dump_json(indent=2), encoding="utf-8")
    return to


def _signature(contract: ModelContract) -> ModelSignature:
    import numpy as np
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    integer, real = np.dtype(np.int64), np.dtype(np.float32)
    axes = axes_of(contract.fields)
    inputs = [
        TensorSpec(
            integer if f.embedded else real,
            tuple(axis if isinstance(axis, int) else -1 for axis in axes[f.name]),
            f.name,
        )
        for f in contract.fields
    ]
    outputs = [TensorSpec(real, (-1,), task) for task in contract.tasks]
    return ModelSignature(Schema(inputs), Schema([*outputs, TensorSpec(real, (-1, contract.hidden), "hidden")]))
