"""Does every pipeline have its stub in `dags/`, and is it the one we would write?

Pipelines of your own folder (``RANKMILL_PIPELINES``) have theirs in its subfolder `dags/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.platform.settings import ROOT
from pipelines.language.load import PIPELINES, hidden_files, own_folder, pipelines_in

DAGS = ROOT / "dags"
"""What Airflow sees."""

_MARK = "written by `rankmill stubs --write`"
_STUB = '''"""Airflow DAG of pipelines/{name}.yaml, {mark}."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from pipelines.run.airflow_dag import dag_of_stub

dag = dag_of_stub(__file__)
'''

_OWN_STUB = '''"""Airflow DAG of {name}.yaml, {mark}."""

from pathlib import Path

from pipelines.run.airflow_dag import build_dag

dag = build_dag(Path(__file__).resolve().parents[1] / "{name}.yaml")
'''


def every_stale_stub() -> list[str]:
    """Return one sentence per stub that is not what would be written, of this tree and of your own folder."""
    return [line for folder, names, text in _folders() for line in stale_stubs(names, folder, text)]


def write_every_stub() -> list[str]:
    """Write the stubs of this tree and of your own folder; see `write_stubs`."""
    return [line for folder, names, text in _folders() for line in write_stubs(names, folder, text)]


def _folders() -> list[tuple[Path, list[str], str]]:
    """Return each folder of stubs, the names of its pipelines and the text of a stub."""
    found = [(DAGS, [*pipelines_in(PIPELINES)], _STUB)]
    if (own := own_folder()) is not None:
        hidden = hidden_files()
        names = [name for name, path in pipelines_in(own).items() if path not in hidden]
        found.append((own / "dags", names, _OWN_STUB))
    return found


def left_out() -> list[str]:
    """Return one sentence per own pipeline that gets no stub, since no name leads to it."""
    return [
        f"{path} gets no stub: "
        + (
            f"it is no .yaml file, rename it to {path.stem}.yaml"
            if path.suffix == ".yml"
            else f"a shipped pipeline is named {path.stem!r} and two DAGs cannot share a name, rename it"
        )
        for path in hidden_files()
    ]


def stub_of(name: str, text: str = _STUB) -> str:
    """Return the text of a pipeline's stub.

    Airflow's safe mode skips files that do not hold both words ``dag`` and ``airflow``: the stub's
    first line does. The stub puts its own tree first on the path, so that the bare tree of a DAG
    bundle works uninstalled and never mixes with an installed copy.
    """
    return text.format(name=name, mark=_MARK)


def stale_stubs(names: Sequence[str], folder: Path = DAGS, text: str = _STUB) -> list[str]:
    """Return one sentence per stub that is missing, changed, or belongs to no pipeline."""
    problems = []
    for name in names:
        file = folder / f"{name}.py"
        if not file.exists():
            problems.append(f"{file} is missing")
        elif file.read_text(encoding="utf-8") != stub_of(name, text):
            problems.append(f"{file} differs from what is generated")
    return problems + [f"{file} has no pipeline {file.stem}.yaml" for file in _orphans(names, folder)]


def write_stubs(names: Sequence[str], folder: Path = DAGS, text: str = _STUB) -> list[str]:
    """Write missing and changed stubs, delete our own that belong to no pipeline.

    Returns:
        One line per file touched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for name in names:
        file = folder / f"{name}.py"
        if not file.exists() or file.read_text(encoding="utf-8") != stub_of(name, text):
            file.write_text(stub_of(name, text), encoding="utf-8")
            done.append(f"wrote {file}")
    for file in _orphans(names, folder):
        file.unlink()
        done.append(f"deleted {file}")
    return done


def _orphans(names: Sequence[str], folder: Path) -> list[Path]:
    """Return stubs that we wrote for pipelines that are gone; a hand-written DAG is none of ours."""
    return [f for f in sorted(folder.glob("*.py")) if f.stem not in names and _MARK in f.read_text(encoding="utf-8")]
