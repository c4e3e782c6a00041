"""What would the live model answer to these rows? `rankmill score`, the served path in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.error_memory import Memory
    from registry.served_model import ServedModel

ROWS = 65_536
"""Rows read, scored and written at a time; bounds memory."""


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("score")(score)


def score(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    rows: Annotated[Path, typer.Argument(help="Parquet file with one column per feature of the model.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write; replaced when it exists.")],
    which: Annotated[str, typer.Option("--which", help="Alias, or version number.")] = "champion",
    memory: Annotated[bool, typer.Option(help="Correct the answers with the version's error memory.")] = True,
    provider: Annotated[str, typer.Option(help="Execution provider: auto, cpu or cuda.")] = "auto",
) -> None:
    """Score a Parquet file with a registered version: its ONNX graph, its encoder, its error memory."""
    import tempfile

    from components.refresh_error_memory.pointer import find_memory
    from components.settings import Settings, quiet_engines
    from features.errors import BadInputError, MissingError
    from registry.client import Registry
    from registry.served_model import ServedModel

    quiet_engines()
    if provider not in ("auto", "cpu", "cuda"):
        raise BadInputError(f"--provider is {provider!r}: use auto, cpu or cuda")
    if not rows.is_file():
        raise MissingError(f"no file {rows}: name a Parquet file of rows")
    settings = Settings.from_environment()
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    version = registry.version(model, int(which) if which.isdigit() else which)
    with tempfile.TemporaryDirectory(prefix="rankmill-") as folder:
        served = ServedModel.open(registry.download(model, version.version, Path(folder) / "model"), provider)  # type: ignore[arg-type]  # checked above
        held = find_memory(settings, model, version.version) if memory else None
        count = write_scores(served, held, rows, out)
    state = "with its error memory" if held and held.header.enabled else "without error memory"
    typer.echo(f"{count:,} rows scored by {model} v{version.version} on {served.provider}, {state}: {out}")


def write_scores(served: ServedModel, memory: Memory | None, rows: Path, out: Path) -> int:
    """Score `rows` in batches and write the tasks beside the user, item and row ids it holds.

    Returns:
        The number of rows. `out` appears when all are written, or not at all.

    Raises:
        BadInputError: `rows` is not Parquet, or a feature is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.errors import BadInputError

    try:
        source = pq.ParquetFile(rows)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{rows} is not a Parquet file ({error}): write the rows as Parquet") from None
    partial = out.with_name(f".{out.name}.partial")
    writer: pq.ParquetWriter | None = None
    try:
        for batch in source.iter_batches(batch_size=ROWS):
            table = score_table(served, memory, pa.Table.from_batches([batch]))
            writer = writer or pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        if writer is None:
            pq.write_table(score_table(served, memory, source.read()), partial)
        else:
            writer.close()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return int(source.metadata.num_rows)


def score_table(served: ServedModel, memory: Memory | None, table: pa.Table) -> pa.Table:
    """Return ids and one float64 column per task; with a memory, the corrected probabilities.

    Raises:
        BadInputError: a feature is missing, or the user column that the memory's key needs.
    """
    import pyarrow as pa

    from features.errors import BadInputError

    declaration = served.contract.schema_.declaration
    scores = served.score(table)
    tasks = scores.tasks
    if memory is not None:
        if declaration.user not in table.column_names:
            raise BadInputError(
                f"rows have no column {declaration.user!r}, which the error memory needs: add it or pass --no-memory"
            )
        tasks = memory.compensate(tasks, scores.hidden, table[declaration.user].combine_chunks())
    ids = [name for name in ("row_id", declaration.user, declaration.item) if name in table.column_names]
    return pa.table({name: table[name] for name in ids} | {name: pa.array(values) for name, values in tasks.items()})
