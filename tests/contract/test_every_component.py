"""Does every catalogued component keep the contract? New components are picked up by themselves."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from components.cache import key_parts, source_digest
from components.catalog import BUILTIN, catalog
from components.contract import ComponentSpec
from components.execute import load_function

ROOT = Path(__file__).resolve().parents[2]
EVERY = [pytest.param(spec, id=spec.name) for spec in catalog().values()]
HEAVY = ("torch", "ray", "feast", "mlflow", "great_expectations", "onnxruntime", "pandas", "pyarrow", "numpy", "polars")


def folder(spec: ComponentSpec) -> Path:
    return ROOT / "components" / spec.name


@pytest.mark.parametrize("spec", EVERY)
def test_it_is_named_verb_noun_and_says_what_it_does(spec: ComponentSpec) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", spec.name)
    assert re.fullmatch(r"[A-Z][^\n]{20,140}\.", spec.summary)


@pytest.mark.parametrize("spec", EVERY)
def test_inputs_and_outputs_are_artifacts(spec: ComponentSpec) -> None:
    assert spec.output_types
    assert isinstance(spec.input_types, dict)
    assert spec.inputs.model_config["extra"] == spec.outputs.model_config["extra"] == "forbid"


def _documented(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if not field.description]


@pytest.mark.parametrize("spec", EVERY)
def test_every_config_field_is_described_and_unknown_keys_are_errors(spec: ComponentSpec) -> None:
    assert _documented(spec.config) == []
    assert spec.config.model_config["extra"] == "forbid"
    json.dumps(spec.config.model_json_schema())


@pytest.mark.parametrize("spec", EVERY)
def test_run_takes_inputs_config_context_and_returns_outputs(spec: ComponentSpec) -> None:
    run = load_function(spec.entrypoint)
    assert list(inspect.signature(run).parameters) == ["inputs", "config", "context"]
    returns = inspect.signature(run, eval_str=True).return_annotation
    assert returns is spec.outputs
    assert run.__doc__


@pytest.mark.parametrize("spec", EVERY)
def test_its_key_changes_with_its_source_and_config(spec: ComponentSpec) -> None:
    package = spec.entrypoint.partition(":")[0].rpartition(".")[0]
    assert source_digest(package, *spec.sources)
    assert key_parts(spec, {"a": 1}, {}, None) != key_parts(spec, {"a": 2}, {}, None)
    for name in spec.sources:
        assert importlib.util.find_spec(name) is not None


def _stages(block: object) -> list[dict[str, dict[str, str]]]:
    """Return every mapping with `uses:` in a YAML block, be it a stage, some stages or a pipeline."""
    if not isinstance(block, dict):
        return []
    return [block] if "uses" in block else [stage for value in block.values() for stage in _stages(value)]


@pytest.mark.parametrize("spec", EVERY)
def test_its_readme_shows_a_stage_that_is_valid(spec: ComponentSpec) -> None:
    text = (folder(spec) / "README.md").read_text()
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    stages = [stage for block in blocks for stage in _stages(block)]
    mine = [stage for stage in stages if stage.get("uses") == spec.name]
    assert mine, f"README.md of {spec.name} has no YAML example with `uses: {spec.name}`"
    for stage in mine:
        assert set(stage.get("in", {})) == set(spec.input_types)
        spec.config.model_validate(stage.get("with", {}))


def test_the_folders_and_the_catalogue_agree() -> None:
    found = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert found == set(BUILTIN)


def test_reading_the_whole_catalogue_imports_no_engine() -> None:
    code = "import sys; from components.catalog import catalog; catalog(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.partition(".")[0] for name in loaded.split()} & set(HEAVY) == set()


def test_importing_a_component_module_imports_no_training_or_tracking_engine() -> None:
    """Heavy imports belong inside `run`, so that a stage pays only for the engines it uses."""
    modules = [spec.entrypoint.partition(":")[0] for spec in catalog().values()]
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    engines = {"torch", "ray", "feast", "mlflow", "great_expectations", "onnxruntime"}
    assert {name.partition(".")[0] for name in loaded.split()} & engines == set()
