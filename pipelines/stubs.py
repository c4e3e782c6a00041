"""Does every pipeline have its stub in `dags/`, and is it the one we would write?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.settings import ROOT

DAGS = ROOT / "dags"
"""What Airflow sees."""

_MARK = "written by `rankmill stubs --write`"
_STUB = '''"""Airflow DAG of pipelines/{name}.yaml, {mark}."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipelines.airflow_dag import dag_of_stub

dag = dag_of_stub(__file__)
'''


def stub_of(name: str) -> str:
    """Return the text of a pipeline's stub.

    Airflow's safe mode skips files that do not hold both words ``dag`` and ``airflow``: the stub's
    first line does. The stub puts its own tree first on the path, so that the bare tree of a DAG
    bundle works uninstalled and never mixes with an installed copy.
    """
    return _STUB.format(name=name, mark=_MARK)


def stale_stubs(names: Sequence[str], folder: Path = DAGS) -> list[str]:
    """Return one sentence per stub that is missing, changed, or belongs to no pipeline."""
    problems = []
    for name in names:
        file = folder / f"{name}.py"
        if not file.exists():
            problems.append(f"{file} is missing")
        elif file.read_text(encoding="utf-8") != stub_of(name):
            problems.append(f"{file} differs from what is generated")
    return problems + [f"{file} has no pipelines/{file.stem}.yaml" for file in _orphans(names, folder)]


def write_stubs(names: Sequence[str], folder: Path = DAGS) -> list[str]:
    """Write missing and changed stubs, delete our own that belong to no pipeline.

    Returns:
        One line per file touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for name in names:
        file = folder / f"{name}.py"
        if not file.exists() or file.read_text(encoding="utf-8") != stub_of(name):
            file.write_text(stub_of(name), encoding="utf-8")
            done.append(f"wrote {file}")
    for file in _orphans(names, folder):
        file.unlink()
        done.append(f"deleted {file}")
    return done


def _orphans(names: Sequence[str], folder: Path) -> list[Path]:
    """Return stubs that we wrote for pipelines that are gone; a hand-written DAG is none of ours."""
    return [f for f in sorted(folder.glob("*.py")) if f.stem not in names and _MARK in f.read_text(encoding="utf-8")]
