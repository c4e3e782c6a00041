"""How does a new pipeline, component, ranker, feature view or service begin? As a small example that works."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from components.platform.errors import BadInputError
from registry.serving.wire.config import MODEL

Kind = Literal["pipeline", "component", "ranker", "feature-view", "serving"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TEMPLATES = Path(__file__).with_name("templates")
"""A folder per kind; `NAME` in a path stands for the name, `<<name>>` and the like in a text."""
NEXT: Mapping[Kind, tuple[str, ...]] = {
    "pipeline": (
        "python {name}_data.py",
        "python -m pytest test_{name}.py",
        "rankmill validate {name}.yaml",
        "rankmill run {name}.yaml",
    ),
    "component": (
        "cd {name} && python -m pytest",
        "python -m pip install --no-deps --editable {name}",
        "rankmill components {name}",
    ),
    "ranker": (
        "cd {name} && python -m pytest",
        "python -m pip install --no-deps --editable {name}",
    ),
    "feature-view": ("python -m pytest test_{name}.py",),
    "serving": (
        "rankmill serve {name}.yaml",
        "rankmill ask {model} --user ID --items ID,ID",
    ),
}
"""Commands to go on with, run in the folder that was written into."""


def write_example(kind: Kind, name: str, folder: Path, model: str = "") -> list[Path]:
    """Write the files of an example.

    Args:
        kind: of what.
        name: what it will be called.
        folder: to write into.
        model: registered model that a service answers with; of nothing else.

    Returns:
        The files, in the order of their names.

    Raises:
        BadInputError: the name is taken or none, or the model's, or a file exists already; nothing was written.
    """
    _require_free(kind, name)
    _require_model(kind, model)
    files = {folder / path: text for path, text in rendered(kind, name, model).items()}
    if existing := [path for path in files if path.exists()]:
        raise BadInputError(f"{existing[0]} exists already: choose another name or another folder with --into")
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise BadInputError(f"{error.filename}: {error.strerror}: name a folder to write into with --into") from None
    return list(files)


def rendered(kind: Kind, name: str, model: str = "") -> dict[Path, str]:
    """Return the text of each file of an example, by its path below the folder, sorted."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / kind),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        variable_start_string="<<",
        variable_end_string=">>",
        autoescape=False,  # noqa: S701  # Python, YAML and TOML, no HTML
    )
    words = {
        "name": name,
        "model": model,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "dashed": name.replace("_", "-"),
        "stage": name.partition("_")[0],
    }
    sources = sorted((TEMPLATES / kind).rglob("*.j2"))
    texts = {}
    for source in sources:
        path = source.relative_to(TEMPLATES / kind)
        target = Path(*(part.replace("NAME", name) for part in path.with_suffix("").parts))
        texts[target] = environment.get_template(path.as_posix()).render(words)
    return texts


def _require_free(kind: Kind, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", name) or keyword.iskeyword(name):
        raise BadInputError(f"{name!r} is no name: use up to 60 lower-case letters, digits and _, such as `shop_daily`")
    if reason := _TAKEN[kind](name):
        raise BadInputError(f"{kind} {name!r}: {reason}: choose another name")


def _require_model(kind: Kind, model: str) -> None:
    """Refuse a service without a model that may be served, and a model of anything else."""
    if kind == "serving" and not re.fullmatch(MODEL, model):
        said = f"{model!r} is no name of a model that can be served" if model else "a service answers with a model"
        raise BadInputError(f"{said}: name a registered one, --model shop_ranker")
    if kind != "serving" and model:
        raise BadInputError(f"a {kind} has no --model: leave it out")


def _serving(name: str) -> str | None:
    from pipelines.language.serving import serving_files

    files = serving_files()
    return f"{files[name]} is a service of that name" if name in files else None


def _pipeline(name: str) -> str | None:
    from pipelines.language.extend import DEFAULTS
    from pipelines.language.load import pipeline_files

    if f"{name}.yaml" == DEFAULTS:
        return f"{DEFAULTS} is what the pipelines of a folder share"
    if name in (files := pipeline_files()):
        return f"{files[name]} is a pipeline of that name"
    return _definition(name)


def _component(name: str) -> str | None:
    from components.platform.catalog import catalog

    if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
        return "a component is named by a verb and a noun, such as `count_rows`"
    return "there is a component of that name" if not catalog().fault(name) else _module(name)


def _ranker(name: str) -> str | None:
    from components.rankers.registration import registered

    return "there is a ranker of that name" if name in registered("ranker") else _module(name)


def _module(name: str) -> str | None:
    return "there is a Python module of that name" if importlib.util.find_spec(name) is not None else None


def _definition(name: str) -> str | None:
    """Return which Feast object of ours has a name that the example would give."""
    from features.definitions import load_definitions

    ours = load_definitions()
    names = sorted(thing.name for kind in (ours.entities, ours.views, ours.services) for thing in kind)
    taken = next((other for other in names if other == name or other.startswith(f"{name}_")), None)
    return f"features/definitions/ has {taken!r}, and names there are taken" if taken else None


_TAKEN = {
    "pipeline": _pipeline,
    "component": _component,
    "ranker": _ranker,
    "feature-view": _definition,
    "serving": _serving,
}
"""Per kind, what says in a clause why a name cannot be had, or None."""
