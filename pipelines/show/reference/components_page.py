"""Which components are there, and what does each take and give? One page, generated from their configs."""

from __future__ import annotations

from components.platform.catalog import BUILTIN, component
from components.platform.contract import ComponentSpec
from components.platform.settings import ROOT
from features.ground.markdown import code, prose, table, text
from pipelines.show.reference.describe import config_rows, reads_and_makes

PAGE = ROOT / "docs" / "components.md"
"""Where the page lies."""


def page() -> str:
    """Return the page about the components of this tree as Markdown."""
    specs = [component(name) for name in BUILTIN]
    listed = [(f"[`{spec.name}`](#{spec.name})", _kinds(spec), prose(spec.summary)) for spec in specs]
    return "\n".join(
        [
            "# Components",
            "",
            "What `uses:` may name, generated from the configs by `rankmill reference --write`. In a terminal",
            "`rankmill components NAME` shows the same with a YAML example, also for components of other packages.",
            "",
            table(["component", "reads → makes", "what it does"], listed),
            *(line for spec in specs for line in component_section(spec)),
            "",
        ]
    )


def component_section(spec: ComponentSpec) -> list[str]:
    """Return the lines about one component."""
    folder = spec.entrypoint.rpartition(".")[0].replace(".", "/")
    lines = ["", f"## {spec.name}", "", f"{prose(spec.summary)} [More](../{folder}/README.md)", ""]
    needed = spec.needed_inputs
    ports = [
        ("`in`, many" if name in spec.many_inputs else "`in`" if name in needed else "`in`, if any", name, kind)
        for name, kind in spec.input_types.items()
    ]
    ports += [("output", name, kind) for name, kind in spec.output_types.items()]
    cells = [(side, code(name), kind.kind, prose(kind.describe())) for side, name, kind in ports]
    lines.append(table(["", "name", "type", "what it is"], cells))
    rows = [
        (
            code(row.key),
            text(row.type),
            "required" if row.default is None else code(row.default),
            prose(row.description),
        )
        for row in config_rows(spec)
    ]
    if rows:
        lines += ["", table(["`with`", "takes", "default", "meaning"], rows)]
    return lines


def _kinds(spec: ComponentSpec) -> str:
    reads, makes = reads_and_makes(spec)
    return f"{reads or '–'} → {makes}"
