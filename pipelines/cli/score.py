"""What would the live model answer to these rows? `rankmill score`, the served path in one command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.row_files import id_columns, opened, row_file
from pipelines.cli.row_places import destination, sources

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from pipelines.cli.row_places import Destination, Sources
    from registry.memory.error_memory import Memory
    from registry.serving.model.served_model import ServedModel
    from registry.serving.scores.value import ValueTable


def score(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    rows: Annotated[
        str,
        typer.Argument(
            help="Parquet file with one column per feature of the model, a folder of such files, or an fsspec address "
            "of either, such as s3://bucket/day."
        ),
    ],
    out: Annotated[
        str,
        typer.Argument(
            help="Parquet file to write, replaced when it exists; of a folder a new folder, with a file for each."
        ),
    ],
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
    """Score Parquet files with a registered version: its graph, encoder, calibration, error memory, values.

    Files are read and written a part at a time, and appear when they are whole. Where the training rows told their
    request, each row's rank in it too: 1 is the largest expected value, of equal ones the smaller item id is first.
    """
    from components.memory.refresh_error_memory.pointer import find_memory
    from components.platform.settings import Settings
    from registry.serving.incoming import describe_unknown

    read = sources(rows)
    with destination(out, read.folder) as to, opened(model, which, provider) as (served, version):
        worth = chosen_value(served, value or [], default_value)
        held = find_memory(Settings.from_environment(), model, version) if memory else None
        unknown = score_files(served, held, worth, read, to, lambda line: typer.echo(line, err=True))
    calibrated = "calibrated, " if served.calibration and served.calibration.stages else ""
    state = "with its error memory" if held and held.header.enabled else "without error memory"
    files = f" of {len(read.files):,} files" if read.folder else ""
    typer.echo(
        f"{read.rows:,} rows{files} scored by {model} v{version} on {served.provider}, {calibrated}{state}: {out}"
    )
    typer.echo(describe_unknown(unknown, read.rows))


def score_files(
    served: ServedModel,
    memory: Memory | None,
    value: ValueTable,
    read: Sources,
    to: Destination,
    report: Callable[[str], None] | None = None,
) -> Counter[str]:
    """Score one file after the other; return how many values training never held, by field.

    Raises:
        BadInputError: as `write_scores`, or a request has rows in two files.
    """
    from features.ground.pace import Pace

    pace, unknown, seen = Pace("scoring", read.rows, report), Counter[str](), RequestsSeen()
    for file in read.files:
        with file.local() as path, to.file(file.name) as partial, naming(file.name if read.folder else ""):
            scored = write_scores(served, memory, value, path, partial, pace.done)
            seen.add(scored.requests)
        unknown.update(scored.unknown)
    return unknown


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Say which file of a folder an error is about."""
    from features.ground.errors import BadInputError

    try:
        yield
    except BadInputError as error:
        if not file:
            raise
        raise BadInputError(f"{file}: {error}") from error


@dataclass
class RequestsSeen:
    """Whether each request lies in one file, as ranks and features of a request need: by 8 bytes for each."""

    hashes: np.ndarray[Any, Any] | None = None
    """Of the requests of all files so far, ascending."""

    def add(self, requests: pa.Array | None) -> None:
        """Take the distinct requests of the next file.

        Raises:
            BadInputError: one of them lies in an earlier file too.
        """
        import numpy as np
        import polars as pl

        from features.ground.errors import BadInputError

        if requests is None:
            return
        found = pl.Series(requests.cast("string").drop_null()).hash().sort().to_numpy()
        both = found if self.hashes is None else np.sort(np.concatenate([self.hashes, found]), kind="stable")
        if twice := int((both[1:] == both[:-1]).sum()):
            raise BadInputError(
                f"{twice:,} requests have rows in files before this one too, and are ranked as a whole: write all rows "
                "of a request into one file"
            )
        self.hashes = both


def chosen_value(served: ServedModel, written: Sequence[str], default: float | None) -> ValueTable:
    """Return the value of a conversion for one run: the model's own, changed where the command line says so.

    Raises:
        BadInputError: a value is no number of at least 0, or its product is not known.
    """
    from pydantic import ValidationError

    from features.ground.errors import BadInputError
    from registry.serving.scores.value import ValueTable

    held = served.value
    if not written and default is None:
        return held
    numbers = {product: number for product, _, number in (part.rpartition("=") for part in written)}
    try:
        changed = ValueTable.model_validate(
            {
                "products": held.products | numbers,
                "default": held.default if default is None else default,
                "multiply": held.multiply,
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


@dataclass(frozen=True)
class Written:
    """What was scored of a file."""

    rows: int
    unknown: Counter[str]
    """How many values training never held, by field."""
    requests: pa.Array | None
    """Its distinct requests; None where the model knows none."""


def write_scores(
    served: ServedModel,
    memory: Memory | None,
    value: ValueTable,
    rows: Path,
    out: Path,
    done: Callable[[int], None] = lambda rows: None,
    block: int | None = None,
) -> Written:
    """Write ids, one float64 column per task as served, and `expected_value` of every row of a Parquet file.

    Where the model's declaration names a request, `rank` says each row's place in it: answers, though not features, of
    all rows are then in memory. `done` is told how many rows were just scored, and `block` are read at a time.

    Raises:
        BadInputError: `rows` is not Parquet, columns are missing, all of them named, or a product has no value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from registry.serving.answers.by_block import BLOCK
    from registry.serving.scores.value import ranked

    count, unknown = 0, Counter[str]()
    request, item = served.contract.schema_.declaration.request, served.contract.schema_.declaration.item
    requests: pa.Array | None = None
    writer: pq.ParquetWriter | None = None
    parts = _scored(served, memory, value, rows, block or BLOCK, unknown, done)
    if request:
        whole = ranked(pa.concat_tables(parts), request, item)
        parts, requests = iter([whole]), pc.unique(whole[request].combine_chunks())
    try:
        for scores in parts:
            writer = writer or pq.ParquetWriter(out, scores.schema)
            writer.write_table(scores)
            count += scores.num_rows
    finally:
        if writer is not None:
            writer.close()
    return Written(count, unknown, requests)


def _scored(
    served: ServedModel,
    memory: Memory | None,
    value: ValueTable,
    rows: Path,
    block: int,
    unknown: Counter[str],
    done: Callable[[int], None],
) -> Iterator[pa.Table]:
    import pyarrow as pa

    from registry.serving.answers.answer import answer, columns_of
    from registry.serving.answers.by_block import blocks_for
    from registry.serving.incoming import check_columns
    from registry.serving.scores.value import EXPECTED_VALUE

    declaration, file = served.contract.schema_.declaration, row_file(rows)
    ranks = {declaration.request: "request", declaration.item: "order of equal rows"} if declaration.request else {}
    ids = id_columns(served, file.column_names)
    also = {*ids, *ranks, *columns_of(served, file.column_names, memory, value)}
    for table in blocks_for(served, file, block, also):
        check_columns(table, ranks | columns_of(served, table.column_names, memory, value), served.called)
        found = answer(served, table, memory=memory, value=value)
        unknown.update(found.unknown)
        yield pa.table({name: table[name] for name in ids} | found.tasks | {EXPECTED_VALUE: found.expected_value})
        done(table.num_rows)
