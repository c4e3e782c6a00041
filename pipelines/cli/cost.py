"""What does a pipeline cost? `rankmill cost`: seconds, memory and rows per stage, and what the cache saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.show.terminal import frameless, show

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.record.cost import Cost


def cost(
    pipeline: Annotated[str, typer.Argument(help="Name of a pipeline.", metavar="PIPELINE")],
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="Newest runs to count.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what each stage took over the last runs: seconds, peak memory, rows, and what the cache saved.

    Memory is that of a stage's process and its children on its own machine: what a Ray cluster took elsewhere is not
    seen, and a `rankmill run` keeps what earlier stages loaded.
    """
    from dataclasses import asdict

    from components.platform.settings import Settings
    from pipelines.record.cost import cost_of
    from pipelines.record.runs import recorded_runs

    found = cost_of(pipeline, recorded_runs(Settings.from_environment(), pipeline, runs))
    if as_json:
        import json

        typer.echo(json.dumps(asdict(found) | {"spent": found.spent, "saved": found.saved}, indent=2))
        return
    show(cost_table(found))
    typer.echo(f"{found.runs} runs: {found.spent:,.1f} s spent, {found.saved:,.1f} s saved by the cache")


def cost_table(found: Cost) -> Table:
    """Return one row per stage."""
    from rich.table import Column

    headings = ("ran", "cached", "seconds", "longest", "peak MiB", "rows", "saved s")
    table = frameless("stage", *(Column(heading, justify="right", no_wrap=True) for heading in headings))
    for stage in found.stages:
        table.add_row(
            stage.stage,
            str(stage.ran),
            str(stage.cached),
            _number(stage.seconds),
            _number(stage.longest),
            f"{stage.peak_bytes / 2**20:,.0f}" if stage.peak_bytes is not None else "–",
            f"{stage.rows:,}" if stage.rows is not None else "–",
            _number(stage.saved) if stage.cached else "–",
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
