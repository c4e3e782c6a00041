"""Do the rules of the house hold in every file? Small files, one question each, names that clash with nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("dags", "features", "components", "pipelines", "registry")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LIBRARIES = {
    "airflow", "ray", "torch", "mlflow", "feast", "great_expectations", "onnxruntime", "onnx", "onnxscript", "duckdb",
    "polars", "pandas", "pyarrow", "pydantic", "yaml", "numpy", "sklearn", "typer", "rich",
    "onnx_model", "psutil", "jinja2",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_small_and_opens_with_what_it_answers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 600, "split it: one idea per file"
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    if path.name != "__init__.py" and "dags" not in path.parts:
        assert "?" in docstring.partition("\n\n")[0], "the first paragraph says which question the file answers"


def test_no_module_is_named_after_a_library() -> None:
    assert [path for path in FILES if path.stem in LIBRARIES] == []


def test_nobody_else_provides_our_packages() -> None:
    owners = packages_distributions()
    for room in ("features", "components", "pipelines", "registry"):
        assert set(owners.get(room, ["rankmill"])) <= {"rankmill"}


def test_nothing_loads_a_pickle() -> None:
    """No `pickle`, no `torch.load`, no `allow_pickle`: weights are safetensors, tables are Arrow."""
    forbidden = ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True", "cloudpickle", "joblib")
    found = [(path.name, word) for path in FILES for word in forbidden if word in path.read_text(encoding="utf-8")]
    assert found == []


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_the_compiler_imports_airflow() -> None:
    importers = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "airflow" for name in names):
                importers.append(path.relative_to(ROOT).as_posix())
    assert set(importers) == {"pipelines/airflow_dag.py"}
