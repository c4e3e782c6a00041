"""Which components are there, and what does each take and give? One page, generated from their configs."""

from __future__ import annotations

from components.catalog import BUILTIN, component
from components.contract import ComponentSpec
from components.settings import ROOT
from pipelines.describe import config_rows

PAGE = ROOT / "docs" / "components.md"
"""Where the page lies."""


def page() -> str:
    """Return the page about the components of this tree as Markdown."""
    specs = [component(name) for name in BUILTIN]
    listed = [f"| [`{spec.name}`](#{spec.name}) | {_kinds(spec)} | {spec.summary} |" for spec in specs]
    return "\n".join(
        [
            "# Components",
            "",
            "What `uses:` may name, generated from the configs by `rankmill reference --write`. In a terminal",
            "`rankmill components NAME` shows the same with a YAML example, also for components of other packages.",
            "",
            "| component | reads → makes | what it does |",
            "|---|---|---|",
            *listed,
            *(line for spec in specs for line in _section(spec)),
            "",
        ]
    )


def _section(spec: ComponentSpec) -> list[str]:
    lines = ["", f"## {spec.name}", "", f"{spec.summary} [More](../components/{spec.name}/README.md)", ""]
    ports = [("`in`", name, kind) for name, kind in spec.input_types.items()]
    ports += [("output", name, kind) for name, kind in spec.output_types.items()]
    lines += ["| | name | type | what it is |", "|---|---|---|---|"]
    lines += [f"| {side} | `{name}` | {kind.kind} | {_cell(kind.describe())} |" for side, name, kind in ports]
    rows = config_rows(spec)
    if rows:
        lines += ["", "| `with` | takes | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        default = "required" if row.default is None else f"`{_cell(row.default)}`"
        takes = _cell(row.type).replace("<", "\\<")  # outside of code it would be HTML
        lines.append(f"| `{row.key}` | {takes} | {default} | {_cell(row.description)} |")
    return lines


def _kinds(spec: ComponentSpec) -> str:
    reads, makes = (", ".join(kind.kind for kind in kinds.values()) for kinds in (spec.input_types, spec.output_types))
    return f"{reads or '–'} → {makes}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
