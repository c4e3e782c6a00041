"""Does a changed file make exactly the results stale that depend on it, with no list kept by hand?"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from components.platform.catalog import BUILTIN, catalog
from components.platform.settings import ROOT
from components.platform.sources import ROOMS, _files_of_import, forget, imports_in, modules_of, source_files

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DOTTED = re.compile(rf"({'|'.join(ROOMS)})(\.\w+)+(:\w+)?")
LOADERS = {"import_module", "__import__", "iter_modules", "load_function", "run_module"}
PLATFORM = {"components/platform/catalog.py", "components/platform/execute.py"}
"""They load every component alike; a result does not depend on how it was called."""
BY_NAME = {
    "components/rankers/registration.py": ("components/rankers/",),
    "features/definitions/__init__.py": ("features/definitions/",),
}
"""Files that import a module whose name is not written in them, and the folders where it lies."""
NAMED = (
    "components/ingest/ingest_household/raw_files.py",
    "components/rankers/sequences/din.py",
    "components/train/train_ranker/rowwise.py",
    "features/declaration.py",
    "features/definitions/common.py",
    "registry/serving/scores/calibration.py",
    "registry/metrics/weighted.py",
)
PROBE = """
import json, sys
from pathlib import Path
from components.platform import sources
from components.platform.cache import key_parts
from components.platform.catalog import catalog
from components.platform.settings import ROOT

def keys():
    sources.forget()
    return {name: key_parts(spec, {}, {}, None)["source"] for name, spec in catalog().items()}

before, files = keys(), {}
reach = {name: set(sources.source_files(*sources.modules_of(spec))) for name, spec in catalog().items()}
own = {spec.entrypoint.partition(":")[0].replace(".", "/") + ".py" for spec in catalog().values()}
for file in sorted(own | {*sys.argv[1:]}):
    path, text = ROOT / file, (ROOT / file).read_bytes()
    path.write_bytes(text + b"#")
    after = keys()
    path.write_bytes(text)
    files[file] = sorted(name for name in after if after[name] != before[name])
print(json.dumps({"root": str(ROOT), "changed": files, "reach": {n: sorted(f) for n, f in reach.items()}}))
"""


def test_one_byte_in_a_file_changes_the_keys_that_depend_on_it_and_no_other(tmp_path: Path) -> None:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *NAMED],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["root"] == str(tmp_path)
    for file, changed in found["changed"].items():
        assert changed == sorted(name for name, files in found["reach"].items() if file in files), file
    assert set(BUILTIN) <= set(found["reach"])
    declaration = found["changed"]["features/declaration.py"]
    assert {"build_training_set", "train_ranker", "export_onnx", "evaluate_ranker"} <= set(declaration)
    assert found["changed"]["components/ingest/ingest_household/raw_files.py"] == ["ingest_household"]
    assert "components/train/train_ranker/loop.py" not in found["reach"]["ingest_table"]


def reachable(spec_name: str) -> set[str]:
    return set(source_files(*modules_of(catalog()[spec_name])))


def test_an_imported_module_is_a_source() -> None:
    """What Python itself loads with a component's code is among its sources."""
    entries = {name: catalog()[name].entrypoint.partition(":")[0] for name in BUILTIN}
    code = f"""
import importlib, sys
for name, entry in {entries!r}.items():
    for module in [m for m in sys.modules if m.partition(".")[0] in {ROOMS!r}]:
        del sys.modules[module]
    importlib.import_module(entry)
    print(name, *(m for m in sys.modules if m.partition(".")[0] in {ROOMS!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == [*BUILTIN]
    for name, *modules in lines:
        loaded = {file for module in modules for file, _ in _files_of_import(module)}
        assert entries[name].replace(".", "/") + ".py" in loaded and loaded <= reachable(name)


def test_a_module_that_was_written_since_is_found_after_forgetting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "written_since"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert [name for name, _ in _files_of_import("written_since.later.name")] == ["written_since/__init__.py"]
    for name in ("later.py", "later.html.j2"):
        (package / name).write_text("")
    forget()
    wanted = [f"written_since/{name}" for name in ("__init__.py", "later.py", "later.html.j2")]
    assert [name for name, _ in _files_of_import("written_since.later.name")] == wanted


def imports_by_syntax(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write the whole name of the module"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_import_is_seen_by_its_look(file: Path) -> None:
    ours = {name for name in imports_by_syntax(file) if name.partition(".")[0] in ROOMS}
    assert ours <= set(imports_in(file.read_text(encoding="utf-8")))


@cache
def loaded_by_name(file: str) -> tuple[set[str], list[str]]:
    """Return the files of modules whose whole name stands in a text of `file`, and what it loads by a computed name."""
    named: set[str] = set()
    computed = []
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            found = {name for name, _ in _files_of_import(node.value.partition(":")[0])}
            named |= found if len(found) > 1 else set()  # `registry.db` names no module
        if isinstance(node, ast.Call):
            word = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if word in LOADERS and not (node.args and isinstance(node.args[0], ast.Constant)):
                computed.append(word)
    return named, computed


@pytest.mark.parametrize("name", BUILTIN)
def test_a_module_loaded_by_name_is_a_source(name: str) -> None:
    """It cannot be followed, so `sources` must cover it; what a config says of its own component is no loading."""
    files = reachable(name)
    for file in sorted(file for file in files if file.endswith(".py") and file not in PLATFORM):
        named, computed = loaded_by_name(file)
        if not file.endswith("/config.py") or file.startswith("components/rankers/"):
            assert named <= files, f"{file} names modules that are no sources of {name}"
        assert not computed or file in BY_NAME, f"{file} loads a module by name ({computed}): say in BY_NAME from where"
        for folder in BY_NAME.get(file, ()):
            assert {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py")} <= files, (file, folder)
