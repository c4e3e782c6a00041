"""Which commands look after pipelines? `ui`, `doctor`, `stubs`."""

from __future__ import annotations

from typing import Annotated

import typer

from components.platform.settings import Settings, quiet_engines
from pipelines.run.airflow_home import AIRFLOW_PORT, MLFLOW_PORT


def ui(
    airflow_port: Annotated[int, typer.Option(help="Port of Airflow's UI on 127.0.0.1.")] = AIRFLOW_PORT,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI on 127.0.0.1.")] = MLFLOW_PORT,
) -> None:
    """Start Airflow and MLflow on this machine only, until Ctrl-C."""
    from pipelines.run.servers import serve

    quiet_engines()
    code = serve(Settings.from_environment(), typer.echo, airflow_port=airflow_port, mlflow_port=mlflow_port)
    raise typer.Exit(code)


def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also import torch and onnxruntime.")] = False,
) -> None:
    """Check this machine and say what to do about what is wrong."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipelines.run.doctor import examine

    checks = examine(Settings.from_environment(), deep=deep)
    table = Table("check", "", "found")
    for check in checks:
        state = Text("ok", "green") if check.passed else Text("failed", "bold red")
        table.add_row(check.name, state, Text(check.found, overflow="fold"))
    Console(highlight=False).print(table)
    raise typer.Exit(0 if all(check.passed for check in checks) else 1)


def stubs(
    write: Annotated[bool, typer.Option("--write/--check", help="Write them, or only compare.")] = False,
) -> None:
    """Compare the stubs in dags/ with the pipelines, or write them; exit status 2 when a pipeline can have none."""
    from pipelines.run.stubs import every_stale_stub, left_out, write_every_stub

    found = write_every_stub() if write else every_stale_stub()
    for line in found:
        typer.echo(line)
    if found and not write:
        typer.echo("run `rankmill stubs --write`")
    for sentence in (without := left_out()):
        typer.echo(sentence, err=True)
    if without or (found and not write):
        raise typer.Exit(2 if without else 1)
    typer.echo("stubs are up to date")
