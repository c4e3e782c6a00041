"""Do the examples of `docs/add-a-ranker.md` work as they stand: build, learn, export, and keep every contract?"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from components.data.training_set import read_schema
from components.rankers import config
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.tasks import HIDDEN, tasks_of
from tests.exports import check_graph
from tests.unit.components.rankers.conftest import make_batch, make_schema, widened, without_events

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "add-a-ranker.md"
BLOCKS = dict(re.findall(r"^```python\n# ([^\n]+)\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE))
OWN = {title: text for title, text in BLOCKS.items() if title.endswith(".py")}


def module_of(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import one example under the name that its place in the repository would give it."""
    name = title.removesuffix(".py").replace("/", ".")
    assert importlib.util.find_spec(name) is None, f"{name} exists: the example needs a name of its own"
    path = folder / Path(title).name
    path.write_text(OWN[title], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def entry_of(registry: str) -> tuple[str, Any]:
    """Return name and value of the line that the document adds to a registry."""
    line = ast.parse("{" + BLOCKS[f"components/rankers/config.py, {registry}"] + "}", mode="eval").body
    assert isinstance(line, ast.Dict)
    [key], [value] = line.keys, line.values
    if isinstance(value, ast.Call):  # frozenset({...})
        value = value.args[0]
    assert key is not None
    return ast.literal_eval(key), ast.literal_eval(value)


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The examples' modules, registered by the lines of the document."""
    name, place = entry_of("RANKERS")
    monkeypatch.setitem(config.RANKERS, name, place)
    name, options = entry_of("OPTIONS")
    monkeypatch.setitem(config.OPTIONS, name, frozenset(options))
    name, defaults = entry_of("_NAMED")
    monkeypatch.setattr(config, "DEFAULTS", {**config.DEFAULTS, name: {**config._BASE, **defaults}})
    name, place = entry_of("SEQUENCES")
    monkeypatch.setitem(config.SEQUENCES, name, place)
    return {title: module_of(title, tmp_path, monkeypatch) for title in OWN}


def chosen(name: str) -> RankerConfig:
    if name == "fm":
        return RankerConfig(name="fm")
    # As if the name were in the Literal of the key.
    return RankerConfig(name="dnn", hidden=(8, 4)).complete().model_copy(update={"sequence": "last"})


def test_there_are_the_examples_that_are_tested() -> None:
    assert set(OWN) == {
        "components/rankers/fm.py",
        "tests/unit/components/rankers/test_fm.py",
        "components/rankers/sequences/last.py",
    }
    assert len(BLOCKS) == len(OWN) + 4


def test_the_documents_own_test_passes(registered: dict[str, ModuleType]) -> None:
    tests = [
        value
        for name, value in vars(registered["tests/unit/components/rankers/test_fm.py"]).items()
        if name[:5] == "test_"
    ]
    assert len(tests) == 1
    tests[0]()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["fm", "last"])
def test_an_example_keeps_the_contract_of_rankers(name: str) -> None:
    schema, batch = make_schema("like", "love"), make_batch(40)
    torch.manual_seed(0)
    ranker = build_ranker(chosen(name), schema)
    outputs = ranker(batch)
    assert {task.name for task in tasks_of(schema.declaration)} | {HIDDEN} <= outputs.keys()
    alone = ranker({field: values[3:4] for field, values in batch.items()})
    for output, values in ranker(widened(batch, 4)).items():
        torch.testing.assert_close(values, outputs[output])
        torch.testing.assert_close(alone[output], outputs[output][3:4])
    assert all(torch.isfinite(values).all() for values in ranker(without_events(batch)).values())
    labels = {"like": (torch.arange(40) % 2).float(), "love": (torch.arange(40) % 4 == 1).float()}
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        loss = ranker.loss(ranker(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05
    for parameter_name, parameter in ranker.named_parameters():
        assert parameter.grad is not None, parameter_name


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", ["fm", "last"])
def test_the_graph_of_an_example_answers_as_torch_does(name: str, training_set_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ranker = build_ranker(chosen(name), read_schema(training_set_dir)).eval()
    check_graph(ranker, training_set_dir, tmp_path)
