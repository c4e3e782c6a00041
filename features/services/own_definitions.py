"""Which Feast objects does a file beside a pipeline define? One Python file that ends with `DEFINITIONS`.

The file takes the place of the modules in `features/definitions/`: a pipeline that names it sees its objects only.
It may use what those modules share (`features.definitions.common`), but no file of its own folder, because a cache
key holds the content of this one file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType

from features.definitions import Definitions, load_definitions, require_whole
from features.ground.errors import BadInputError, MissingError
from features.ground.quick_feast import quicken_feast


def definitions_of(file: str | Path | None) -> Definitions:
    """Return the definitions of a file, or those of `features/definitions/` when None.

    Raises:
        MissingError: there is no such file.
        BadInputError: running it fails, it has no `DEFINITIONS`, a source has no recipe, it says
            something that is not read, or it gives a name of
            `features/definitions/` to something else.
    """
    if file is None:
        return load_definitions()
    path = Path(file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MissingError(f"{path} cannot be read ({error.strerror}): put the Feast definitions there") from None
    return _loaded(path.resolve(), hashlib.sha256(content).hexdigest())


@cache
def _loaded(path: Path, digest: str) -> Definitions:
    found = getattr(_module(path, digest), "DEFINITIONS", None)
    if not isinstance(found, Definitions):
        raise BadInputError(
            f"{path} defines no DEFINITIONS: end it with DEFINITIONS = Definitions(entities=..., views=..., "
            "services=..., recipes=...) of features.definitions"
        )
    try:
        require_whole(found)
    except BadInputError as error:
        raise BadInputError(f"{path}: {error}") from None
    _refuse_taken_names(path, found)
    return dataclasses.replace(found, origin=path.name)


def _module(path: Path, digest: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"rankmill_definitions_{digest[:16]}", path)
    if spec is None or spec.loader is None:
        raise BadInputError(f"{path} is no Python file: name one that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    quicken_feast()
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # the folder is the user's
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module.__name__]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else next(reversed(lines), 1)
        raise BadInputError(f"{path}:{line}: {type(error).__name__}: {error}; correct the definitions") from None
    finally:
        sys.dont_write_bytecode = written
    return module


def _refuse_taken_names(path: Path, own: Definitions) -> None:
    """Check that no name of ours gets another meaning: one registry and one online store hold them all."""
    shipped = load_definitions()
    for kind in ("entities", "views", "services"):
        taken = {thing.name: thing for thing in getattr(shipped, kind)}
        for thing in getattr(own, kind):
            if taken.get(thing.name, thing) is not thing:
                raise BadInputError(
                    f"{path}: {type(thing).__name__} {thing.name!r} has a name of features/definitions/: "
                    "import that one, or give yours another name"
                )
