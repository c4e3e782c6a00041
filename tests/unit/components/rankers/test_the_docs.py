"""Do the examples of `docs/add-a-ranker.md` work as they stand: build, learn, export, and keep every contract?"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
import torch

from components.data.training_set import read_schema
from components.rankers import registration
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.registration import Registered
from components.rankers.tasks import HIDDEN, tasks_of
from tests.exports import check_graph
from tests.unit.components.rankers.conftest import make_batch, make_schema, widened, without_events

ROOT = Path(__file__).resolve().parents[4]
DOCUMENT = ROOT / "docs" / "add-a-ranker.md"
BLOCKS = dict(re.findall(r"^```python\n# ([^\n]+)\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE))
OWN = {title: text for title, text in BLOCKS.items() if title.endswith(".py")}


def module_of(title: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import one example under the name that its place in the repository would give it."""
    name = title.removesuffix(".py").replace("/", ".")
    assert not (ROOT / title).exists(), f"{name} exists: the example needs a name of its own"
    path = folder / name
    path.write_text(OWN[title], encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def class_in(file: str) -> type[Registered]:
    """Return the class that the document adds to a config file, as if it stood there."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    before = {*vars(module)}
    exec(compile(BLOCKS[f"{file}, a class"], file, "exec"), vars(module))
    (added,) = {*vars(module)} - before
    made: type[Registered] = vars(module)[added]
    return made


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The examples' modules, found as those of the room are."""
    monkeypatch.setitem(sys.modules, "components.rankers.fm", ModuleType("components.rankers.fm"))
    files = ("components/rankers/composed/config.py", "components/rankers/sequences/config.py")
    made = [class_in(file) for file in files]
    modules = {title: module_of(title, tmp_path, monkeypatch) for title in sorted(OWN)}
    made.append(modules["components/rankers/fm/config.py"].FmConfig)
    found = {kind: dict(names) for kind, names in registration.ours().items()}
    for config in made:
        found[config.kind][config.called] = config
    monkeypatch.setattr(registration, "ours", lambda: found)
    yield modules
    for config in made[:2]:
        delattr(sys.modules[config.__module__], config.__name__)


EXAMPLES = {
    "fm": {"name": "fm"},
    "last": {"name": "dnn", "sequence": "last", "events": 2},
    "esmm_din": {"name": "esmm_din"},
}


def chosen(name: str) -> RankerConfig:
    return RankerConfig.model_validate(EXAMPLES[name])


def test_there_are_the_examples_that_are_tested() -> None:
    assert set(OWN) == {
        "components/rankers/fm/config.py",
        "components/rankers/fm/ranker.py",
        "tests/unit/components/rankers/test_fm.py",
        "components/rankers/sequences/last.py",
    }
    (quoted,) = [title for title in BLOCKS if title.endswith("from two methods")]
    lines = (ROOT / quoted.partition(",")[0]).read_text("utf-8").splitlines()
    assert {line for line in BLOCKS[quoted].splitlines() if line} <= {*lines}, f"{quoted} is quoted as it is"
    assert len(BLOCKS) == len(OWN) + 3


def test_the_documents_own_test_passes(registered: dict[str, ModuleType]) -> None:
    tests = [
        value
        for name, value in vars(registered["tests/unit/components/rankers/test_fm.py"]).items()
        if name[:5] == "test_"
    ]
    assert len(tests) == 1
    tests[0]()


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("name", [*EXAMPLES])
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
@pytest.mark.parametrize("name", [*EXAMPLES])
def test_the_graph_of_an_example_answers_as_torch_does(name: str, training_set_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ranker = build_ranker(chosen(name), read_schema(training_set_dir)).eval()
    check_graph(ranker, training_set_dir, tmp_path)
