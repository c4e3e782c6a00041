"""Which models do the export tests share? One small trained ranker of each kind, exported once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from components.export_onnx.graph import OPSET, export_graph
from components.rankers.files import load_ranker
from components.rankers.tasks import tasks_of
from components.training_set import EncodedSplit, read_encoded, read_schema
from features.declaration import RankerSchema
from registry.contract import ModelContract
from tests.trained import write_ranker


@dataclass(frozen=True)
class Exported:
    """A trained module, its graph and the rows to compare them on."""

    directory: Path
    ranker: nn.Module
    schema: RankerSchema
    tasks: tuple[str, ...]
    test: EncodedSplit

    @property
    def graph(self) -> Path:
        return self.directory / "model.onnx"


@pytest.fixture(scope="session")
def exporter(training_set_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Trains and exports each kind of ranker once."""
    return cache(lambda name: _export(name, training_set_dir, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session", params=["esmm", "gnolr", "lr"])
def exported(request: pytest.FixtureRequest, exporter: Callable[[str], Exported]) -> Exported:
    """A directory that `ServedModel` opens; read-only."""
    return exporter(request.param)


@pytest.fixture(scope="session")
def esmm(exporter: Callable[[str], Exported]) -> Exported:
    """ESMM alone, for what does not depend on the ranker."""
    return exporter("esmm")


@pytest.fixture
def copy(esmm: Exported, tmp_path: Path) -> Path:
    """A copy of the ESMM model that a test may damage."""
    return Path(shutil.copytree(esmm.directory, tmp_path / "model"))


def _export(name: str, dataset: Path, directory: Path) -> Exported:
    write_ranker(directory, dataset, name, steps=30)
    schema = read_schema(directory)
    ranker = load_ranker(directory)
    tasks = tuple(task.name for task in tasks_of(schema.declaration))
    export_graph(ranker, schema, tasks, directory / "model.onnx")
    test = read_encoded(dataset, "test", schema)
    feedback = len(schema.declaration.feedback)
    inputs = sum(field.kind != "elapsed" for field in schema.fields)
    hidden = {"esmm": 32, "gnolr": 2 * 32 * feedback, "lr": inputs * feedback}[name]
    contract = ModelContract(
        ranker=name,
        ranker_digest="r",
        schema=schema,
        tasks=tasks,
        hidden=hidden,
        hidden_mean=tuple(np.zeros(hidden)),
        opset=OPSET,
    )
    (directory / "contract.json").write_text(contract.model_dump_json(by_alias=True))
    return Exported(directory=directory, ranker=ranker, schema=schema, tasks=tasks, test=test)
