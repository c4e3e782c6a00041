"""What would the live model answer to these rows? `rankmill score`, the served path in one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.error_memory import Memory
    from registry.serving.served_model import ServedModel
    from registry.serving.value import ValueTable

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
    value: Annotated[
        list[str] | None,
        typer.Option(help="Present value per conversion, PRODUCT=NUMBER, for this run; may be repeated."),
    ] = None,
    default_value: Annotated[
        float | None, typer.Option(help="Value of products without one, for this run; else they are refused.")
    ] = None,
) -> None:
    """Score a Parquet file with a registered version: its graph, encoder, calibration, error memory, values."""
    from components.memory.refresh_error_memory.pointer import find_memory
    from components.platform.settings import Settings
    from registry.serving.incoming import describe_unknown

    check_out(out)
    unknown = Counter[str]()
    with opened(model, which, rows, provider) as (served, version):
        table = chosen_value(served, value or [], default_value)
        held = find_memory(Settings.from_environment(), model, version) if memory else None
        count = write_scores(served, held, rows, out, table, unknown)
    calibrated = "calibrated, " if served.calibration and served.calibration.stages else ""
    state = "with its error memory" if held and held.header.enabled else "without error memory"
    typer.echo(f"{count:,} rows scored by {model} v{version} on {served.provider}, {calibrated}{state}: {out}")
    typer.echo(describe_unknown(unknown, count))


def check_out(out: Path) -> None:
    """Check that a file can be written there, before any work.

    Raises:
        MissingError: its folder does not exist.
        BadInputError: it is a folder.
    """
    from features.ground.errors import BadInputError, MissingError

    if out.is_dir():
        raise BadInputError(f"{out} is a folder: name a file to write")
    if not out.parent.is_dir():
        raise MissingError(f"there is no folder {out.parent} to write {out.name} in: create it, or name another file")


@contextmanager
def opened(model: str, which: str, rows: Path, provider: str) -> Iterator[tuple[ServedModel, int]]:
    """Check what a command was given, then yield a registered version, opened, and its number.

    Raises:
        BadInputError: there is no such provider, or the version's files were changed.
        MissingError: there is no such file, model or version.
    """
    import tempfile

    from components.platform.settings import Settings, quiet_engines
    from features.ground.errors import BadInputError, MissingError
    from registry.serving.served_model import ServedModel
    from registry.versions.client import Registry

    quiet_engines()
    if provider not in ("auto", "cpu", "cuda"):
        raise BadInputError(f"--provider is {provider!r}: use auto, cpu or cuda")
    if not rows.is_file():
        raise MissingError(f"no file {rows}: name a Parquet file of rows")
    settings = Settings.from_environment()
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    version = registry.version(model, int(which) if which.isdigit() else which)
    with tempfile.TemporaryDirectory(prefix="rankmill-") as folder:
        directory = registry.download(model, version.version, Path(folder) / "model")
        label = f"model {model} v{version.version}"
        served = ServedModel.open(directory, provider, label=label)  # type: ignore[arg-type]  # checked above
        yield served, version.version


def chosen_value(served: ServedModel, written: Sequence[str], default: float | None) -> ValueTable | None:
    """Return the value of a conversion for one run, or None where the command line changes nothing.

    Args:
        served: the model, whose own table is changed where one is written.
        written: ``PRODUCT=NUMBER``, one each.
        default: value of every other product without one.

    Raises:
        BadInputError: a value is no number of at least 0, or its product is not known.
    """
    from pydantic import ValidationError

    from features.ground.errors import BadInputError
    from registry.serving.value import ValueTable

    if not written and default is None:
        return None
    held = served.calibration.value if served.calibration else ValueTable()
    numbers = {product: number for product, _, number in (part.rpartition("=") for part in written)}
    try:
        changed = ValueTable.model_validate(
            {
                "products": held.products | numbers,
                "default": held.default if default is None else default,
            }
        )
    except ValidationError as error:
        raise BadInputError(
            f"{', '.join(written) or default} cannot be the value of a conversion: write --value PRODUCT=NUMBER, a "
            "finite number of at least 0"
        ) from error
    if "" in numbers:
        raise BadInputError(f"--value {numbers['']} names no product: write PRODUCT=NUMBER, or use --default-value")
    return changed.check(served.contract.schema_.domains)


def write_scores(
    served: ServedModel,
    memory: Memory | None,
    rows: Path,
    out: Path,
    value: ValueTable | None = None,
    unknown: Counter[str] | None = None,
) -> int:
    """Score `rows` in batches and write `score_table` of each; `unknown` counts as there.

    Returns:
        The number of rows. `out` appears when all are written, or not at all.

    Raises:
        BadInputError: `rows` is not Parquet, or a feature is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ground.errors import BadInputError

    try:
        source = pq.ParquetFile(rows)
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{rows} is not a Parquet file ({error}): write the rows as Parquet") from None
    partial = out.with_name(f".{out.name}.partial")
    writer: pq.ParquetWriter | None = None
    try:
        for batch in source.iter_batches(batch_size=ROWS):
            table = score_table(served, memory, pa.Table.from_batches([batch]), value, unknown)
            writer = writer or pq.ParquetWriter(partial, table.schema)
            writer.write_table(table)
        if writer is None:
            pq.write_table(score_table(served, memory, source.read(), value, unknown), partial)
        else:
            writer.close()
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return int(source.metadata.num_rows)


def score_table(
    served: ServedModel,
    memory: Memory | None,
    table: pa.Table,
    value: ValueTable | None = None,
    unknown: Counter[str] | None = None,
) -> pa.Table:
    """Return ids, one float64 column per task, with a memory the corrected probabilities, and `expected_value`.

    Args:
        served: gives the calibrated probabilities.
        memory: corrects them; the value is multiplied in last.
        table: raw rows.
        value: replaces the value per conversion that the model carries.
        unknown: counts values that training never held, by field.

    Raises:
        BadInputError: a feature is missing, the user column that the memory's key needs, or a product's value.
    """
    import pyarrow as pa

    from features.ground.errors import BadInputError
    from registry.serving.value import EXPECTED_VALUE

    declaration = served.contract.schema_.declaration
    scores = served.score(table)
    if unknown is not None:
        unknown.update(scores.unknown)
    tasks = scores.tasks
    if memory is not None:
        if declaration.user not in table.column_names:
            raise BadInputError(
                f"rows have no column {declaration.user!r}, which the error memory needs: add it or pass --no-memory"
            )
        tasks = memory.compensate(tasks, scores.hidden, table)
    answers = tasks | {EXPECTED_VALUE: served.expected_value(tasks, table, value)}
    return pa.table({name: table[name] for name in id_columns(served, table)} | answers)


def id_columns(served: ServedModel, table: pa.Table) -> list[str]:
    """Return which of row, user and item id the rows hold, so that answers can be told apart."""
    declaration = served.contract.schema_.declaration
    return [name for name in ("row_id", declaration.user, declaration.item) if name in table.column_names]
