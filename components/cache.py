"""What goes into the cache key of a stage, and how is a changed key explained?"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from components.contract import ComponentSpec
from components.store import sha256_json
from features.declaration import Window


@cache
def source_digest(*modules: str) -> str:
    """Return a sha256 over the Python sources of packages and modules, found without importing them.

    Raises:
        ModuleNotFoundError: a name is not importable.
    """
    digest = hashlib.sha256()
    for module in sorted(modules):
        spec = importlib.util.find_spec(module)
        if spec is None:
            raise ModuleNotFoundError(f"no module named {module!r}")
        if spec.submodule_search_locations:
            root = Path(next(iter(spec.submodule_search_locations)))
            files = sorted(root.rglob("*.py")) + sorted(root.rglob("*.yaml"))
        else:
            root = Path(str(spec.origin)).parent
            files = [Path(str(spec.origin))]
        for file in files:
            digest.update(f"{module}/{file.relative_to(root).as_posix()}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def key_parts(
    spec: ComponentSpec, config: Mapping[str, Any], inputs: Mapping[str, str], window: Window | None
) -> dict[str, str]:
    """Return the named parts of a stage's cache key.

    Args:
        spec: the component.
        config: canonical JSON value of its validated config.
        inputs: digest of each input.
        window: the run's window; it counts only for windowed components.

    Returns:
        ``component``, ``source``, ``config.<key>`` per config key, ``input.<name>`` per input, and
        ``window`` where it counts; each a short readable value or digest.
    """
    parts = {
        "component": f"{spec.name}@{spec.version}",
        "source": source_digest(spec.entrypoint.partition(":")[0].rpartition(".")[0], *spec.sources)[:16],
    }
    parts |= {f"config.{name}": sha256_json(value)[:16] for name, value in sorted(config.items())}
    parts |= {f"input.{name}": digest for name, digest in sorted(inputs.items())}
    if spec.windowed and window is not None:
        parts["window"] = str(window)
    return parts


def cache_key(parts: Mapping[str, str]) -> str:
    """Return the key: 32 hex digits over the named parts."""
    return sha256_json(dict(parts))[:32]


def explain(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Return one clause that names the first differences between two keys' parts."""
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    clauses = [f"{name} {old.get(name, 'absent')[:12]} → {new.get(name, 'absent')[:12]}" for name in changed[:3]]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return ", ".join(clauses) + more if clauses else "nothing changed"
