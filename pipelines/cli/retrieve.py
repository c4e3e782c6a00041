"""Which items suit each user best? `rankmill retrieve`: one nearest-neighbour search with the live model's vectors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.row_files import check_out, opened, replacing, tables_of


def retrieve(
    model: Annotated[str, typer.Argument(help="Name of a registered model of the ranker gnolr.")],
    users: Annotated[Path, typer.Argument(help="Parquet file with one row per user: features of users and request.")],
    items: Annotated[Path, typer.Argument(help="Parquet file with one row per item: features of items.")],
    out: Annotated[Path, typer.Argument(help="Parquet file to write; replaced when it exists.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items per user.")] = 10,
    which: Annotated[str, typer.Option("--which", help="Alias, or version number.")] = "champion",
    provider: Annotated[str, typer.Option(help="Execution provider: auto, cpu or cuda.")] = "auto",
) -> None:
    """Write the k best items of each user, best first, ranked by the deepest feedback."""
    import pyarrow.parquet as pq

    from features.ground.errors import MissingError
    from registry.serving.incoming import describe_unknown
    from registry.serving.retrieval import nearest_items

    if not items.is_file():
        raise MissingError(f"no file {items}: name a Parquet file of items")
    check_out(out)
    new_users, new_items = Counter[str](), Counter[str]()
    with opened(model, which, users, provider) as (served, version):
        (rows,), (catalogue,) = tables_of(users, None), tables_of(items, None)
        found = nearest_items(served, rows, catalogue, k, new_users, new_items)
    with replacing(out) as partial:
        pq.write_table(found, partial)
    typer.echo(f"{found.num_rows:,} rows, {k} items per user, by {model} v{version} on {served.provider}: {out}")
    typer.echo(f"users: {describe_unknown(new_users, rows.num_rows)}")
    typer.echo(f"items: {describe_unknown(new_items, catalogue.num_rows)}")
