"""Which items suit each user best? `rankmill retrieve`: one nearest-neighbour search with the live model's vectors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.score import check_out, opened

if TYPE_CHECKING:
    import pyarrow as pa

    from registry.serving.served_model import ServedModel


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to the command line."""
    app.command("retrieve")(retrieve)


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

    if not items.is_file():
        raise MissingError(f"no file {items}: name a Parquet file of items")
    check_out(out)
    new_users, new_items = Counter[str](), Counter[str]()
    with opened(model, which, users, provider) as (served, version):
        rows, catalogue = _read(users), _read(items)
        found = nearest_items(served, rows, catalogue, k, new_users, new_items)
    partial = out.with_name(f".{out.name}.partial")
    try:
        pq.write_table(found, partial)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    typer.echo(f"{found.num_rows:,} rows, {k} items per user, by {model} v{version} on {served.provider}: {out}")
    typer.echo(f"users: {describe_unknown(new_users, rows.num_rows)}")
    typer.echo(f"items: {describe_unknown(new_items, catalogue.num_rows)}")


def nearest_items(
    served: ServedModel,
    users: pa.Table,
    items: pa.Table,
    k: int,
    new_users: Counter[str] | None = None,
    new_items: Counter[str] | None = None,
) -> pa.Table:
    """Return one row per user and rank: both ids, `rank` from 1, and the inner product that decides.

    Args:
        served: model of a separable ranker.
        users: see `registry.serving.retrieval.side_vectors`.
        items: the same of items.
        k: items per user, at most as many as there are.
        new_users: counts values of users that training never held, by field.
        new_items: the same of items.

    Raises:
        BadInputError: an id column or a feature is missing, or `k` is larger than the catalogue.
    """
    import numpy as np
    import pyarrow as pa

    from registry.serving import retrieval

    declaration = served.contract.schema_.declaration
    found = retrieval.retrieve(
        retrieval.side_vectors(served, users, "user", new_users),
        retrieval.side_vectors(served, items, "item", new_items),
        k,
    )
    asked = np.repeat(np.arange(users.num_rows), k)
    return pa.table(
        {
            declaration.user: users[declaration.user].take(pa.array(asked)),
            "rank": pa.array(np.tile(np.arange(1, k + 1), users.num_rows)),
            declaration.item: items[declaration.item].take(pa.array(found.items.reshape(-1))),
            "score": pa.array(found.scores.reshape(-1)),
        }
    )


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from features.ground.errors import BadInputError

    try:
        return pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise BadInputError(f"{path} is not a Parquet file ({error}): write the rows as Parquet") from None
