"""Which source files does the result of a component depend on? What its code imports inside this tree, computed.

A component's own folder counts whole. From there every import of a module of this tree is followed, wherever in a file
it stands, so that nobody keeps a list: a changed file changes the key of exactly the components that can reach it.
The template of a page counts with the module beside it: `page.html.j2` with `page.py`.
What is loaded by name (a part of a ranker, a module of feature definitions) and data files cannot be seen in an import;
`ComponentSpec.sources` names the packages they lie in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from components.platform.contract import ComponentSpec

ROOMS = ("pipelines", "components", "registry", "features")
"""Packages of this tree: imports of others are libraries, whose versions are pinned. Their names are common words, so
somebody else's may shadow them."""
TEMPLATE = ".html.j2"
"""Suffix of a page's template: `page.html.j2` is that of `page.py`."""
_OWN = ("*.py", "*.yaml", f"*{TEMPLATE}")
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)|import[ \t]+([^\n#]+))", re.MULTILINE
)
"""Imports by their look: parsing every file would cost a plan ten times as long, and an import too many, in a text
that only looks like one, costs at most a cache that is missed."""


def modules_of(spec: ComponentSpec) -> tuple[str, ...]:
    """Return the packages and modules that a component's imports are followed from; all their files count."""
    named = (spec.entrypoint.partition(":")[0].rpartition(".")[0], *spec.sources)
    if not spec.package:
        return named
    # The whole package is among them: what lies inside it would be told twice.
    return tuple(dict.fromkeys(name for name in named if not any(name.startswith(f"{other}.") for other in named)))


@cache
def source_files(*modules: str) -> Mapping[str, str]:
    """Return the sha256 of every Python and YAML file of packages and modules, and of what they import of this tree.

    Nothing is imported to find it.

    Returns:
        Path from the folder of the top package, such as ``features/casts.py``, → 64 hex digits; sorted.

    Raises:
        ModuleNotFoundError: a name is not importable.
    """
    found = own_files(*modules) | {name: path for module in modules for name, path in _files_of_import(module)}
    waiting = [path for path in found.values() if path.suffix == ".py"]
    while waiting:
        for module in _scanned(waiting.pop())[1]:
            for name, path in _files_of_import(module):
                if name not in found:
                    found[name] = path
                    waiting.append(path)
    return MappingProxyType({name: _scanned(found[name])[0] for name in sorted(found)})


@cache
def source_digest(*modules: str) -> str:
    """Return a sha256 over `source_files`."""
    return digest_of(source_files(*modules))


def own_digest(*modules: str) -> str:
    """Return a sha256 over the files of packages and modules themselves, without what they import."""
    return digest_of({name: _scanned(path)[0] for name, path in sorted(own_files(*modules).items())})


def digest_of(files: Mapping[str, str]) -> str:
    """Return a sha256 over the names and digests of files."""
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in files.items()).encode()).hexdigest()


def own_files(*modules: str) -> dict[str, Path]:
    """Return the Python and YAML files and templates of packages and modules by their path from the top's folder."""
    found: dict[str, Path] = {}
    for module in modules:
        root, inner = _top(module), module.partition(".")[2]
        place = _place(root, inner) if root.is_dir() else root
        if place is None:
            raise ModuleNotFoundError(f"no module named {module!r}")
        files = [place] if place.is_file() else [file for kind in _OWN for file in sorted(place.rglob(kind))]
        found |= {file.relative_to(root.parent).as_posix(): file for file in files}
    return found


def _top(module: str) -> Path:
    """Return the folder of the top package of a dotted name, or the file of a top module.

    `find_spec` of a dotted name would import the packages around it, and with them what they import.
    """
    place = _top_package(module.partition(".")[0])
    if place is None:
        raise ModuleNotFoundError(f"no module named {module!r}")
    return place


@cache
def _top_package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None else Path(next(iter(spec.submodule_search_locations or ()), str(spec.origin)))


def _place(folder: Path, dotted: str) -> Path | None:
    """Return the folder of a package below `folder` or the file of a module, or None when there is neither."""
    place = folder.joinpath(*dotted.split(".")) if dotted else folder
    folders, files = _listed(place.parent)
    if place.name in folders:
        return place
    return file if (file := place.with_suffix(".py")).name in files else None


@cache
def _listed(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the folders and of the files in a folder: thousands are asked for, of few folders."""
    try:
        with os.scandir(folder) as entries:
            kinds = {entry.name: entry.is_dir() for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        kinds = {}
    folders = frozenset(name for name, is_folder in kinds.items() if is_folder)
    return folders, frozenset(kinds) - folders


def forget() -> None:
    """Read every file anew when it is asked for next: a process that lives on sees no edit by itself."""
    for remembered in (source_files, source_digest, _scanned, _files_of_import, _top_package, _listed):
        remembered.cache_clear()


@cache
def _scanned(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the sha256 of a file and, of a Python file, the modules of this tree that it imports."""
    data = file.read_bytes()
    text = data.decode("utf-8", errors="replace") if file.suffix == ".py" else ""
    return hashlib.sha256(data).hexdigest(), tuple(dict.fromkeys(imports_in(text)))


def imports_in(source: str) -> Iterator[str]:
    """Yield the modules of this tree that a source imports; a name imported from a package may be a module of it."""
    for match in _IMPORT.finditer(source):
        package, names, plain = match.groups()
        if package is None:
            yield from (module for name in plain.split(",") if _ours(module := name.split()[0] if name.split() else ""))
        elif _ours(package):
            yield package
            words = re.sub(r"#[^\n]*", "", names).strip("() \t\n").split(",")
            yield from (f"{package}.{word.split()[0]}" for word in words if word.split())


def _ours(module: str) -> bool:
    return module.partition(".")[0] in ROOMS


@cache
def _files_of_import(module: str) -> tuple[tuple[str, Path], ...]:
    """Return the file of a module, if it is one, and those of the packages around it, which an import of it runs."""
    top, package = _top(module), module.rpartition(".")[0]
    around = _files_of_import(package) if package else ()
    place = _place(top, module.partition(".")[2])
    if place is None:
        return around
    file = place / "__init__.py" if place.name in _listed(place.parent)[0] else place
    files = _listed(file.parent)[1]
    own = (one for one in (file, file.with_suffix(TEMPLATE)) if one.name in files)
    return (*around, *((one.relative_to(top.parent).as_posix(), one) for one in own))
