"""How does a test export a ranker by itself? A model folder that can be served, or a graph against its module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from components.data.training_set import read_encoded, read_schema
from components.judge.export_onnx.graph import OPSET, export_graph
from components.judge.export_onnx.parity import compare, require
from components.rankers.base import RankerModule
from components.rankers.tasks import tasks_of
from components.train.ranker_files import load_ranker
from registry.serving.model.contract import ModelContract, ParityReport, Precision
from registry.serving.model.session import open_session
from tests.known_graphs import KnownGraphs
from tests.trained import write_ranker


def write_model(
    directory: Path, dataset: Path, name: str, steps: int, graphs: KnownGraphs, seed: int = 0
) -> ModelContract:
    """Write what `ServedModel` opens for a ranker of a few steps, and return its contract."""
    write_ranker(directory, dataset, name, steps, seed)
    schema = read_schema(directory)
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    graphs.export(load_ranker(directory), schema, tasks, directory / "model.onnx")
    outputs = open_session(directory / "model.onnx", "cpu").get_outputs()
    hidden = next(int(output.shape[1]) for output in outputs if output.name == "hidden")
    contract = ModelContract(
        ranker=name,
        ranker_digest="r",
        schema=schema,
        tasks=tasks,
        hidden=hidden,
        hidden_mean=(0.0,) * hidden,
        opset=OPSET,
    )
    (directory / "contract.json").write_text(contract.model_dump_json(by_alias=True))
    return contract


def check_graph(ranker: RankerModule, dataset: Path, directory: Path) -> ParityReport:
    """Export a ranker and return how its graph agrees with torch on the test rows, which it must.

    Weights are moved away from where they start, so that every one of them is in the answers, and the answers of
    every task must differ between rows.
    """
    schema = read_schema(dataset)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    export_graph(ranker, schema, tasks, directory / "model.onnx")
    return agreement(ranker, dataset, directory / "model.onnx")


def agreement(
    ranker: nn.Module, dataset: Path, graph: Path, tolerance: float = 1e-5, precision: Precision = "float32"
) -> ParityReport:
    """Return how the graph of a ranker agrees with torch on the test rows, which it must; answers differ by row."""
    schema = read_schema(dataset)
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    test = read_encoded(dataset, "test", schema)
    session = open_session(graph, "cpu")
    report = compare(ranker, session, schema.fields, tasks, test.padded(), tolerance, precision=precision)
    require(report, "")
    with torch.inference_mode():
        some = ranker({name: torch.from_numpy(values) for name, values in test.padded().items()})
    assert all(np.std(some[name].numpy()) > 1e-3 for name in tasks), "answers that differ between rows"
    return report
