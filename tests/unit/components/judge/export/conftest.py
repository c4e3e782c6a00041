"""Which models do the export tests share? One small trained ranker of each kind, exported once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from torch import nn

from components.data.training_set import EncodedSplit, read_encoded, read_schema
from components.rankers.tasks import tasks_of
from components.train.ranker_files import load_ranker
from features.declaration import RankerSchema
from registry.serving.model.contract import ModelContract


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
def exporter(training_set_dir: Path, model_of: Callable[[str], Path]) -> Callable[[str], Exported]:
    """Trains and exports each kind of ranker once."""
    return cache(lambda name: _export(name, training_set_dir, model_of(name)))


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
    schema = read_schema(directory)
    feedback = len(schema.declaration.feedback)
    inputs = sum(field.kind != "elapsed" for field in schema.fields)
    hidden = ModelContract.model_validate_json((directory / "contract.json").read_bytes()).hidden
    assert hidden == {"esmm": 32, "gnolr": 2 * 32 * feedback, "lr": inputs * feedback}.get(name, hidden)
    return Exported(
        directory=directory,
        ranker=load_ranker(directory),
        schema=schema,
        tasks=tuple(task.name for task in tasks_of(schema.declaration)),
        test=read_encoded(dataset, "test", schema),
    )
