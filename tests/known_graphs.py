"""How is a ranker exported of which another was exported that differs in weights only? In a tenth of the time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from components.judge.export_onnx import graph
from components.judge.export_onnx.parity import compare
from components.judge.export_onnx.tables import Tables
from features.declaration import RankerSchema
from registry.serving.model.contract import axes_of
from registry.serving.model.session import open_session

_export = graph.export_graph
"""The exporter itself, whatever a test puts in its place."""


class KnownGraphs:
    """Exports a ranker, or puts its weights into a graph of the same shape, which then must answer as it does.

    For tests of what happens to a graph afterwards; those of the export itself export.

    Args:
        folder: where graphs of this run are kept, whichever process exported them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let stages that run in this process export by `export`."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graph, "export_graph", self.export)
            yield

    def export(
        self,
        ranker: nn.Module,
        schema: RankerSchema,
        tasks: Sequence[str],
        path: Path,
        once: Collection[str] = (),
        tables: Tables | None = None,
    ) -> None:
        """Write a ranker as `export_graph` does."""
        if tables is not None and tables.weights:
            _export(ranker, schema, tasks, path, once, tables)
            return
        shapes = {name: tuple(values.shape) for name, values in ranker.state_dict().items()}
        said = repr((repr(ranker), shapes, schema.fields, tuple(tasks), sorted(once)))
        known = self.folder / f"{hashlib.sha256(said.encode()).hexdigest()}.onnx"
        if known.exists() and _fits(known, ranker, schema, tasks, path, once):
            return
        _export(ranker, schema, tasks, path, once)
        half = known.with_suffix(f".{os.getpid()}")
        half.write_bytes(path.read_bytes())
        half.rename(known)


def _fits(
    known: Path, ranker: nn.Module, schema: RankerSchema, tasks: Sequence[str], path: Path, once: Collection[str]
) -> bool:
    """Write the known graph with a ranker's weights, and return whether it answers as the ranker does."""
    model = onnx.load(str(known))
    weights = {f"ranker.{name}": values for name, values in ranker.state_dict().items()}
    held = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in weights}
    if held.keys() != weights.keys():  # equal weights were made one
        return False
    for name, tensor in held.items():
        tensor.CopyFrom(numpy_helper.from_array(weights[name].numpy(), name))
    path.write_bytes(model.SerializeToString(deterministic=True))
    rng = np.random.default_rng(0)
    rows = {}
    for field in schema.fields:
        shape = tuple(axis if isinstance(axis, int) else field.length for axis in axes_of([field])[field.name][1:])
        values = rng.integers(0, field.size, (64, *shape)) if field.embedded else rng.normal(0, 9, (64, *shape))
        rows[field.name] = values.astype(np.int64 if field.embedded else np.float32)
    with torch.inference_mode():
        return compare(ranker, open_session(path, "cpu"), schema.fields, tasks, rows, 1e-5, once).passed
