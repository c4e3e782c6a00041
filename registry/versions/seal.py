"""Are these still the files that were registered, and may they be registered at all?

A version in the registry is a folder. Its seal lists the sha256 of every file we put there; the
sha256 of that list is a tag of the version, in the database, where the folder's owner cannot reach it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from features.declaration import Frozen
from features.ground.errors import BadInputError
from features.ground.files import sha256_file
from features.ground.plain_names import FileName
from registry.serving.model.contract import ParityReport

SEAL = "seal.json"
REQUIRED = ("model.onnx", "contract.json", "encoder.json", "schema.json", "parity.json")
"""Without one of these a version cannot be served."""
READABLE = frozenset(
    {".arrow", ".onnx", ".json", ".html", ".md", ".png", ".svg", ".txt", ".yaml", ".yml", ".safetensors", ".parquet"}
)
"""Suffixes of formats that run no code when they are read; nothing else enters the registry."""
OF_MLFLOW = frozenset({"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"})
"""Files that MLflow puts beside ours, which nothing of ours reads."""


class Seal(Frozen):
    """sha256 by relative name of every registered file."""

    files: dict[FileName, str]

    @classmethod
    def of(cls, directory: Path) -> Seal:
        """Return the seal of all files below `directory`.

        Raises:
            BadInputError: a required file is missing, or a file has a format that could run code.
        """
        paths = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != SEAL)
        names = [p.relative_to(directory).as_posix() for p in paths]
        for name in REQUIRED:
            if name not in names:
                raise BadInputError(f"{directory} has no {name}: export the model again before it is registered")
        for path, name in zip(paths, names, strict=True):
            if path.suffix not in READABLE:
                raise BadInputError(
                    f"{name} in {directory} may not be registered: "
                    f"allowed are {', '.join(sorted(READABLE))}, never pickles"
                )
        return cls(files={name: sha256_file(path) for path, name in zip(paths, names, strict=True)})

    @property
    def digest(self) -> str:
        """sha256 over the list."""
        canonical = json.dumps(self.files, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def check_seal(directory: Path, digest: str, what: str) -> None:
    """Compare a downloaded folder with the seal that the registry remembers.

    Raises:
        BadInputError: the seal or a file is missing or differs, or a file was added.
    """
    again = "register the model again from its pipeline"
    try:
        seal = Seal.model_validate_json((directory / SEAL).read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{what} has no readable {SEAL}: {again}") from error
    if seal.digest != digest:
        raise BadInputError(f"{SEAL} of {what} was changed after registration: {again}")
    for name, expected in seal.files.items():
        path = directory / name
        if not path.is_file() or sha256_file(path) != expected:
            state = "was changed after registration" if path.is_file() else "is missing"
            raise BadInputError(f"{name} of {what} {state}: {again}")
    present = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    if added := sorted(present - {*seal.files, *OF_MLFLOW, SEAL}):
        raise BadInputError(f"{added[0]} of {what} was added after registration: {again}")


def check_parity(directory: Path, what: str) -> ParityReport:
    """Return the version's own parity report if it passed.

    Raises:
        BadInputError: it failed, is missing or cannot be read.
    """
    path = directory / "parity.json"
    try:
        report = ParityReport.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(
            f"{what} has no parity.json: only a graph that was compared with torch may go live"
        ) from error
    except ValidationError as error:
        raise BadInputError(f"parity.json of {what} cannot be read: export the model again") from error
    if not report.passed or not report.cases:
        worst = max(report.cases, key=lambda case: case.max_abs_difference, default=None)
        detail = (
            f"output {worst.output!r} is off by {worst.max_abs_difference:.1e}" if worst else "nothing was compared"
        )
        raise BadInputError(
            f"parity of {what} failed ({detail}, tolerance {report.tolerance:.1e}): fix the export and register again"
        )
    return report
