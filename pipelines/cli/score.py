"""What would the live model answer to these rows? `rankmill score`, the served path in one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.row_files import check_out, id_columns, opened, replacing, whole_requests

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.memory.error_memory import Memory
    from registry.serving.served_model import ServedModel
    from registry.serving.value import ValueTable


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
    """Score a Parquet file with a registered version: its graph, encoder, calibration, error memory, values.

    Where the training rows told their request, each row's rank in it too: 1 is the largest expected value, of
    equal ones the smaller item id is first.
    """
    from components.memory.refresh_error_memory.pointer import find_memory
    from components.platform.settings import Settings
    from registry.serving.incoming import describe_unknown

    check_out(out)
    with opened(model, which, rows, provider) as (served, version):
        worth = chosen_value(served, value or [], default_value)
        held = find_memory(Settings.from_environment(), model, version) if memory else None
        count, unknown = write_scores(served, held, worth, rows, out)
    calibrated = "calibrated, " if served.calibration and served.calibration.stages else ""
    state = "with its error memory" if held and held.header.enabled else "without error memory"
    typer.echo(f"{count:,} rows scored by {model} v{version} on {served.provider}, {calibrated}{state}: {out}")
    typer.echo(describe_unknown(unknown, count))


def chosen_value(served: ServedModel, written: Sequence[str], default: float | None) -> ValueTable:
    """Return the value of a conversion for one run: the model's own, changed where the command line says so.

    Raises:
        BadInputError: a value is no number of at least 0, or its product is not known.
    """
    from pydantic import ValidationError

    from features.ground.errors import BadInputError
    from registry.serving.value import ValueTable

    held = served.value
    if not written and default is None:
        return held
    numbers = {product: number for product, _, number in (part.rpartition("=") for part in written)}
    try:
        changed = ValueTable.model_validate(
            {"products": held.products | numbers, "default": held.default if default is None else default}
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
    served: ServedModel, memory: Memory | None, value: ValueTable, rows: Path, out: Path
) -> tuple[int, Counter[str]]:
    """Write ids, one float64 column per task as served, and `expected_value` of every row of a Parquet file.

    Where the model's declaration names a request, `rank` says each row's place in it: answers, though not features, of
    all rows are then in memory.

    Returns:
        The number of rows, and of values that training never held, by field. `out` appears when all are written, or
        not at all.

    Raises:
        BadInputError: `rows` is not Parquet, columns are missing, all of them named, or a product has no value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from registry.serving.value import ranked

    count, unknown = 0, Counter[str]()
    writer: pq.ParquetWriter | None = None
    declaration = served.contract.schema_.declaration
    parts = _scored(served, memory, value, rows, unknown)
    if declaration.request:
        parts = iter([ranked(pa.concat_tables(parts), declaration.request, declaration.item)])
    with replacing(out) as partial:
        for scores in parts:
            writer = writer or pq.ParquetWriter(partial, scores.schema)
            writer.write_table(scores)
            count += scores.num_rows
        if writer is not None:
            writer.close()
    return count, unknown


def _scored(
    served: ServedModel, memory: Memory | None, value: ValueTable, rows: Path, unknown: Counter[str]
) -> Iterator[pa.Table]:
    import pyarrow as pa

    from registry.serving.answer import answer, columns_of
    from registry.serving.incoming import check_columns
    from registry.serving.value import EXPECTED_VALUE

    declaration = served.contract.schema_.declaration
    ranks = {declaration.request: "request", declaration.item: "order of equal rows"} if declaration.request else {}
    for table in whole_requests(served, rows):
        check_columns(table, ranks | columns_of(served, table.column_names, memory, value), served.called)
        found = answer(served, table, memory=memory, value=value)
        unknown.update(found.unknown)
        ids = {name: table[name] for name in id_columns(served, table)}
        yield pa.table(ids | found.tasks | {EXPECTED_VALUE: found.expected_value})
