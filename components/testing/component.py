"""Does a component keep the contract? Base classes of tests that whoever writes a component subclasses.

A test module that holds this passes when the component is sound::

    class TestCountRows(ComponentKit):
        component = COMPONENT

        def example(self, folders):
            write_rows(folders["table"] / "events.parquet")
            return {"at_least": 2}

pytest finds the checks by themselves; each speaks in one sentence when it fails. `ComponentDeclaration` has those that
need no data, for a component whose `run` needs an engine or a network.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import yaml

from components.platform import execute
from components.platform.artifacts import Artifact
from components.platform.cache import key_parts
from components.platform.contract import ComponentSpec, Ports
from components.platform.settings import ROOT, Settings
from components.platform.sources import modules_of, source_files
from components.platform.store.publish import Store, open_store
from components.platform.store.records import MANIFEST, ArtifactRef
from features.declaration import Window
from features.ground.field_docs import field_docs

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
"""Window of a run unless a test names another: January 2024."""
ENGINES = frozenset({"torch", "ray", "feast", "mlflow", "great_expectations", "onnxruntime", "airflow"})
"""What a component imports inside `run`, so that a stage pays for the engines that it uses."""
HEAVY = ENGINES | {"pandas", "pyarrow", "numpy", "polars", "duckdb", "sklearn", "matplotlib"}
"""What reading a config may not import."""
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth"})


Example = Callable[[Mapping[str, Path]], Mapping[str, Any]]
"""Writes the files of each input into its folder and returns the `with:` block; an input that may be left out is left
out where its folder stays empty. Of one that takes several, each folder below is one, by the name of its stage."""


@dataclass(frozen=True)
class Tried:
    """A stage that ran by itself."""

    result: execute.StageResult
    outputs: Mapping[str, Path]
    """Local folder of each output, digests checked."""

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each output: equal when every byte is."""
        return {name: ref.digest for name, ref in self.result.outputs.items()}


def try_component(
    spec: ComponentSpec, example: Example, home: Path, changed: Mapping[str, Any] | None = None, window: Window = WINDOW
) -> Tried:
    """Run a component as a stage would run it, be it installed or not.

    Args:
        spec: the component.
        example: what it gets.
        home: folder of the store; the same one again finds what the first run left.
        changed: keys of the `with:` block that differ from the example's.
        window: of the run.

    Raises:
        RankmillError: what the component raised.
    """
    settings = Settings.at(home)
    store = open_store(settings)
    folders = {name: home / "given" / uuid.uuid4().hex / name for name in spec.input_types}
    for folder in folders.values():
        folder.mkdir(parents=True)
    config = {**example(folders), **(changed or {})}
    wired = [name for name in folders if name in spec.needed_inputs or any(folders[name].iterdir())]
    refs = {
        f"{name}.{folder.name}" if name in spec.many_inputs else name: _given(store, spec.input_types[name], folder)
        for name in wired
        for folder in (sorted(folders[name].iterdir()) if name in spec.many_inputs else [folders[name]])
    }
    request = execute.StageRequest(component=spec.name, config=config, inputs=refs, window=window, stage=spec.name)
    with mock.patch.object(execute, "component", lambda name: spec):  # it need not be installed
        result = execute.execute(request, settings)
    return Tried(result, {name: store.fetch(ref.load()) for name, ref in result.outputs.items()})


def _given(store: Store, kind: type[Artifact], folder: Path) -> ArtifactRef:
    """Publish the files that stand in for an earlier stage; the same files have the same digest."""
    name, staged = folder.name, folder.parent.with_name(uuid.uuid4().hex)
    staged.mkdir()
    folder.rename(staged / name)  # alone, since publishing moves all that lies beside it
    record = store.publish(
        staged,
        {name: kind(uri=str(staged / name))},
        component="example",
        component_version="1",
        key=staged.name,
        config_digest="",
        inputs={},
        explanation={},
        seconds=0.0,
        notes=[],
        annotations={},
    )
    return record.outputs[name]


class ComponentDeclaration:
    """What must hold of a component without any data."""

    component: ClassVar[ComponentSpec]
    """What is checked."""
    readme: ClassVar[Path | None] = None
    """Its page; README.md beside its `config.py`, or one folder up, when None."""

    def test_it_is_named_verb_noun_and_says_what_it_does(self) -> None:
        """The name is two words or more, the summary one sentence."""
        spec = self.component
        _require(re.fullmatch(r"[a-z]+(_[a-z]+)+", spec.name), f"{spec.name!r} is no verb_noun")
        _require(
            re.fullmatch(r"[A-Z][^\n]{20,140}\.", spec.summary),
            f"summary {spec.summary!r} is not one sentence, `Do … .`",
        )

    def test_inputs_and_outputs_are_artifacts(self) -> None:
        """Every port has a type, there is an output, and unknown ports are errors."""
        spec = self.component
        _require(spec.output_types, "the component publishes nothing")
        for ports, types in ((spec.inputs, spec.input_types), (spec.outputs, spec.output_types)):
            _require(issubclass(ports, Ports), f"{ports.__name__} is no Ports")
            _require(set(types) == set(ports.model_fields), f"a field of {ports.__name__} is no artifact")
            may = ports is spec.inputs or all(info.is_required() for info in ports.model_fields.values())
            _require(may, f"an output of {ports.__name__} may be left out")
            _require(ports.model_config.get("extra") == "forbid", f"{ports.__name__} takes unknown keys")
            undocumented = [kind.__name__ for kind in types.values() if not kind.describe()]
            _require(not undocumented, f"{undocumented} have no docstring with their files")

    def test_every_config_field_is_described_and_unknown_keys_are_errors(self) -> None:
        """The editor shows a sentence for each key, and a misspelt key is noticed."""
        config = self.component.config
        told = field_docs(config)
        undescribed = [n for n, field in config.model_fields.items() if not (field.description or told.get(n))]
        _require(not undescribed, f"config keys without a docstring below them: {undescribed}")
        _require(config.model_config.get("extra") == "forbid", "unknown config keys are not errors")
        _require(config.model_config.get("frozen"), "a config can be changed")
        json.dumps(config.model_json_schema())

    def test_run_takes_inputs_config_context_and_returns_outputs(self) -> None:
        """The entrypoint exists and has the signature that stages call."""
        run = execute.load_function(self.component.entrypoint)
        signature = inspect.signature(run, eval_str=True)
        _require(list(signature.parameters) == ["inputs", "config", "context"], "run must take inputs, config, context")
        _require(
            signature.return_annotation is self.component.outputs, f"run must return {self.component.outputs.__name__}"
        )
        _require(run.__doc__, "run has no docstring")
        for name in ("recheck", "after_publish"):
            if entrypoint := getattr(self.component, name):
                _require(callable(execute.load_function(entrypoint)), f"{name} {entrypoint!r} is no function")

    def test_its_key_changes_with_its_source_and_config(self) -> None:
        """Every file that its code imports of this tree and of its package, and every key of its config, count."""
        spec = self.component
        files = source_files(*modules_of(spec))
        entry = f"{spec.entrypoint.partition(':')[0].replace('.', '/')}.py"
        _require(entry in files, f"its source {entry} is not found")
        one, other = key_parts(spec, {"a": 1}, {}, None), key_parts(spec, {"a": 2}, {}, None)
        for name in files:
            edited = key_parts(spec, {"a": 1}, {}, None, {**files, name: "another"})
            _require(edited != one, f"its source {name} is not in the cache key")
        _require(one != other, "the config is not in the cache key")
        absent = {*spec.unkeyed} - {*spec.config.model_fields}
        _require(not absent, f"unkeyed names {sorted(absent)}, which its config has not")
        edition = key_parts(replace(spec, version=f"{spec.version}x"), {"a": 1}, {}, None)
        _require(one != edition, "the version is not in the cache key")

    def test_its_readme_shows_a_stage_that_is_valid(self) -> None:
        """The page has a YAML block with `uses:` of this component, whose ports and config fit."""
        spec, page = self.component, self.readme or _readme(self.component)
        _require(page is not None and page.is_file(), f"no README.md with a YAML example of {spec.name}")
        text = page.read_text(encoding="utf-8") if page else ""
        blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
        mine = [stage for block in blocks for stage in _stages(block) if stage.get("uses") == spec.name]
        _require(mine, f"{page} has no YAML example with `uses: {spec.name}`")
        for stage in mine:
            ports = set(stage.get("in", {}))
            fits = {*spec.needed_inputs} <= ports <= {*spec.input_types}
            _require(fits, f"the example of {page} wires {sorted(ports)}")
            spec.config.model_validate(stage.get("with", {}))


class ComponentKit(ComponentDeclaration):
    """What must hold of a component, with a run on a small example of its inputs."""

    def example(self, folders: Mapping[str, Path]) -> Mapping[str, Any]:
        """Write the files of each input into `folders[name]` and return the `with:` block. To be overridden."""
        raise NotImplementedError("write the inputs' files into their folders and return the `with:` block")

    def run(self, home: Path, **changed: Any) -> Tried:
        """Run the example in a home folder of its own, with some keys of the config changed."""
        return try_component(self.component, self.example, home, changed)

    def test_reading_its_config_imports_no_engine(self) -> None:
        """Validation, plan and DAG parsing import this module: it must be light."""
        loaded = imported_by([self.component.config.__module__]) & HEAVY
        _require(not loaded, f"{self.component.config.__module__} imports {sorted(loaded)}: import them inside run")

    def test_importing_its_code_imports_no_engine(self) -> None:
        """Engines are imported inside `run`."""
        module = self.component.entrypoint.partition(":")[0]
        loaded = imported_by([module]) & ENGINES
        _require(not loaded, f"{module} imports {sorted(loaded)}: import them inside run")

    def test_a_run_publishes_what_it_declares(self, tmp_path: Path) -> None:
        """Every output has files, none of them a pickle."""
        tried = self.run(tmp_path)
        _require(set(tried.outputs) == set(self.component.output_types), f"it published {sorted(tried.outputs)}")
        for name, folder in tried.outputs.items():
            files = [path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST]
            _require(files, f"output {name!r} is empty")
            pickles = [path.name for path in files if path.suffix in PICKLES]
            _require(not pickles, f"output {name!r} has {pickles}: write JSON, Parquet, safetensors or ONNX")

    def test_two_runs_give_the_same_bytes(self, tmp_path: Path) -> None:
        """The same inputs and config give the same outputs: seed what is random, sort, leave the clock out."""
        one, other = self.run(tmp_path / "one"), self.run(tmp_path / "other")
        differ = sorted(name for name in one.digests if one.digests[name] != other.digests[name])
        _require(not differ, f"outputs {differ} differ between two runs of the same inputs and config")

    def test_a_result_is_taken_again_where_that_is_allowed(self, tmp_path: Path) -> None:
        """A second run in the same place comes from the cache, unless the component says that it may not."""
        self.run(tmp_path)
        again = self.run(tmp_path).result.cached
        _require(again == self.component.cacheable, f"cacheable is {self.component.cacheable}, a second run {again}")

    def test_every_key_of_its_config_is_in_the_cache_key(self, tmp_path: Path) -> None:
        """Two values of a key must not share a result."""
        folders = {name: tmp_path / name for name in self.component.input_types}
        for folder in folders.values():
            folder.mkdir()
        config = self.component.config.model_validate(self.example(folders))
        absent = set(self.component.config.model_fields) - set(config.model_dump(mode="json"))
        _require(not absent, f"config keys that the cache key does not have: {sorted(absent)}")


def imported_by(modules: Iterable[str]) -> set[str]:
    """Return the top-level packages that importing some modules loads, in a process of its own."""
    code = f"import sys, importlib\nfor m in {list(modules)!r}: importlib.import_module(m)\nprint(*sys.modules)"
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    _require(done.returncode == 0, f"cannot import {list(modules)}: {done.stderr.strip()[-400:]}")
    return {name.partition(".")[0] for name in done.stdout.split()}


def _require(holds: object, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)


def _readme(spec: ComponentSpec) -> Path | None:
    config = Path(inspect.getfile(spec.config)).parent
    return next((page for folder in (config, config.parent) if (page := folder / "README.md").is_file()), None)


def _stages(block: object) -> list[dict[str, Any]]:
    """Return every mapping with `uses:` in a YAML block, be it a stage, some stages or a pipeline."""
    if not isinstance(block, dict):
        return []
    return [block] if "uses" in block else [stage for value in block.values() for stage in _stages(value)]
