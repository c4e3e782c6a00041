"""Which items suit each user best? `rankmill retrieve`: one nearest-neighbour search with the live model's vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.row_files import check_out, check_rows, opened, replacing, table_of

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.answers.excluded import Pairs
    from registry.serving.model.served_model import ServedModel

SEEN = "seen"
"""Word that excludes what the users' rows tell."""


def retrieve(
    model: Annotated[str, typer.Argument(help="Name of a registered model of the ranker gnolr.")],
    users: Annotated[Path, typer.Argument(help="Parquet file with one row per user: features of users and request.")],
    items: Annotated[Path, typer.Argument(help="Parquet file with one row per item: features of items.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write; replaced when it exists.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items per user.")] = 10,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out what a user had: `seen` takes it from the histories of items in the users' rows, a .csv "
            "or Parquet file from its columns of users and items; may be repeated."
        ),
    ] = None,
    which: Annotated[str, typer.Option("--which", help="Alias, or version number.")] = "champion",
    provider: Annotated[str, typer.Option(help="Execution provider: auto, cpu or cuda.")] = "auto",
) -> None:
    """Write the k best items of each user, best first, ranked by the deepest feedback."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from features.ground.errors import MissingError
    from registry.serving.answers.retrieval import nearest_items
    from registry.serving.incoming import describe_unknown

    if not items.is_file():
        raise MissingError(f"no file {items}: name a Parquet file of items")
    if absent := [name for name in exclude or () if name != SEEN and not Path(name).is_file()]:
        raise MissingError(f"no file {absent[0]}: exclude {SEEN!r}, or name a Parquet or CSV file of pairs")
    check_out(out)
    new_users, new_items = Counter[str](), Counter[str]()
    check_rows(users)
    with opened(model, which, provider) as (served, version):
        rows, catalogue = table_of(users), table_of(items)
        excluded = excluded_pairs(served, exclude or (), rows, catalogue)
        found = nearest_items(served, rows, catalogue, k, new_users, new_items, excluded)
    with replacing(out) as partial:
        pq.write_table(found, partial)
    left_out = f", {len(excluded):,} user-item pairs left out" if exclude else ""
    told = f"{found.num_rows:,} rows, {k} items per user{left_out}, by {model} v{version} on {served.provider}: {out}"
    typer.echo(told)
    if short := rows.num_rows - int(pc.sum(pc.equal(found["rank"], k)).as_py() or 0):
        typer.echo(f"{short:,} of {rows.num_rows:,} users have fewer than {k} items left")
    typer.echo(f"users: {describe_unknown(new_users, rows.num_rows)}")
    typer.echo(f"items: {describe_unknown(new_items, catalogue.num_rows)}")


def excluded_pairs(served: ServedModel, exclude: Sequence[str], users: pa.Table, items: pa.Table) -> Pairs:
    """Return the pairs that ``--exclude`` names, each once.

    Raises:
        BadInputError: a file cannot be read or lacks a column, or the rows tell nothing that was seen.
    """
    import pyarrow as pa
    from pyarrow import csv

    from registry.serving.answers.excluded import joined, pairs_listed, pairs_seen

    schema = served.contract.schema_
    pairs = []
    for name in exclude:
        if name == SEEN:
            pairs.append(pairs_seen(schema, users, items))
            continue
        if name.endswith(".csv"):
            texts = {column: pa.string() for column in (schema.declaration.user, schema.declaration.item)}
            listed = csv.read_csv(name, convert_options=csv.ConvertOptions(column_types=texts))
        else:
            listed = table_of(Path(name))
        pairs.append(pairs_listed(schema, listed, users, items, name))
    return joined(pairs)
