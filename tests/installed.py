"""How does a test install a small package? Modules and metadata written into a folder, as an installer leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, version: str, modules: Mapping[str, str], **groups: Mapping[str, str]) -> None:
    """Write a package as installed.

    Args:
        site: folder on the import path.
        name: of the distribution.
        version: of the distribution.
        modules: text of each file by its path below `site`.
        groups: entry points by name per group, dots of the group written as `__`.
    """
    for path, text in modules.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")
    for old in site.glob(f"{name.replace('-', '_')}-*.dist-info/*"):
        old.unlink()
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    for old in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        if old != info:
            old.rmdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group.replace('__', '.')}]", *(f"{entry} = {value}" for entry, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
