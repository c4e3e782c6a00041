"""Why does the live model answer these rows as it does? `rankmill explain`: reason codes by groups of inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipelines.cli.row_files import check_out, check_rows, id_columns, opened, replacing, row_file
from pipelines.show.terminal import frameless, show

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.table import Table

    from registry.serving.answers.reasons import Group
    from registry.serving.answers.shapley import Orders
    from registry.serving.model.served_model import ServedModel

PROBABILITY = "probability"
"""Column with the served probability: calibrated, without error memory."""
LOGIT, REFERENCE = "logit", "reference_logit"
"""Columns with the graph's logit of the row, and of a row without any group: Shapley values are what lies between."""
FORMATS = (".parquet", ".json")
FEATURE = "feature"
"""Word of ``--by`` that makes each feature a group."""


def explain(
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    rows: Annotated[Path, typer.Argument(help="Parquet file with one column per feature of the model.")],
    task: Annotated[str | None, typer.Option(help="Predicted task; the deepest feedback when left out.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Reasons per row.")] = 3,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="`feature` makes each feature a group; ATTRIBUTE or ATTRIBUTE=VALUE divides a stream of events by it; "
            "may be repeated."
        ),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="A group of your own, NAME=FEATURE,FEATURE; the others keep the rest. May be repeated."),
    ] = None,
    method: Annotated[
        Literal["leave-out", "shapley"],
        typer.Option(
            help="`leave-out` takes each group away alone; `shapley` shares what groups do together, and the effects "
            "add up, for many more passes of the graph."
        ),
    ] = "leave-out",
    orders: Annotated[
        int, typer.Option(min=2, help="Orders of the groups to draw for `shapley`, in pairs; few groups take all.")
    ] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn orders.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write every row there too, .parquet or .json.")] = None,
    shown: Annotated[int, typer.Option(min=0, help="Rows to print.")] = 20,
    which: Annotated[str, typer.Option("--which", help="Alias, or version number.")] = "champion",
    provider: Annotated[str, typer.Option(help="Execution provider: auto, cpu or cuda.")] = "auto",
) -> None:
    """Say which groups of inputs raised or lowered each row's logit most, by taking groups away.

    The last lines say how many passes of the graph each row cost.
    """
    from features.ground.errors import BadInputError
    from registry.serving.answers.reasons import passes
    from registry.serving.answers.shapley import orders_of
    from registry.serving.incoming import describe_unknown
    from registry.serving.scores.value import deepest

    if out is not None and out.suffix not in FORMATS:
        raise BadInputError(f"--out is {out}: give it the suffix {' or '.join(FORMATS)}")
    if out is not None:
        check_out(out)
    unknown = Counter[str]()
    check_rows(rows)
    with opened(model, which, provider) as (served, version):
        chosen = task or deepest(served.contract.schema_.declaration, served.contract.tasks)
        groups = chosen_groups(served, by or [], group or [])
        drawn = orders_of(len(groups), orders, seed) if method == "shapley" else ()
        found = explain_file(served, rows, chosen, groups, top, unknown, drawn)
    if out is not None:
        write(found, out)
    if shown:
        show(reasons_table(found.slice(0, shown)))
    typer.echo(
        f"{found.num_rows:,} answers of {model} v{version} for {chosen} explained by {len(groups)} groups, {method}, "
        f"{passes(len(groups), drawn):,} passes of the graph" + (f": {out}" if out is not None else "")
    )
    typer.echo(describe_unknown(unknown, found.num_rows))


def chosen_groups(served: ServedModel, by: Sequence[str], own: Sequence[str] = ()) -> tuple[Group, ...]:
    """Return the model's groups, or its features, with groups of somebody's own and the streams that `by` divides.

    Raises:
        BadInputError: a feature, attribute or value is not known, or a feature is in two groups.
    """
    from features.ground.errors import BadInputError
    from registry.serving.answers.reasons import features_of, grouped, groups_of, split_stream

    schema = served.contract.schema_
    named: dict[str, list[str]] = {}
    for part in own:
        name, _, fields = part.partition("=")
        if not name or not fields:
            raise BadInputError(f"--group {part} makes no group: write NAME=FEATURE,FEATURE")
        named.setdefault(name, []).extend(fields.split(","))
    groups = grouped(features_of(schema) if FEATURE in by else groups_of(schema), schema, named)
    asked: dict[str, list[str]] = {}
    for part in (part for part in by if part != FEATURE):
        attribute, _, value = part.partition("=")
        asked.setdefault(attribute, []).extend([value] if value else [])
    for attribute, values in asked.items():
        groups = split_stream(groups, schema, served.encoder, attribute, values)
    return groups


def explain_file(
    served: ServedModel,
    rows: Path,
    task: str,
    groups: Sequence[Group],
    top: int,
    unknown: Counter[str] | None = None,
    orders: Orders = (),
) -> pa.Table:
    """Return ids, the served probability and the top reasons of every row of a Parquet file.

    With `orders` the reasons are Shapley values, and two columns more say between which logits they lie. `unknown`
    counts values that training never held, by field.

    Raises:
        BadInputError: `rows` is not Parquet, a feature is missing, or there is no such task.
    """
    import pyarrow as pa

    from features.joins.histories import listed
    from registry.serving.answers.by_block import BLOCK, whole_requests

    file = row_file(rows)
    tables = whole_requests(served, file.blocks(rows=BLOCK), file.read)
    return pa.concat_tables([_explained(served, listed(table), task, groups, top, unknown, orders) for table in tables])


def write(found: pa.Table, out: Path) -> None:
    """Write the reasons as Parquet, or as a JSON list with one object per row, whole or not at all."""
    import json

    import pyarrow.parquet as pq

    with replacing(out) as partial:
        if out.suffix == ".parquet":
            pq.write_table(found, partial)
        else:
            partial.write_text(json.dumps(found.to_pylist(), indent=1, default=str), encoding="utf-8")


def reasons_table(found: pa.Table) -> Table:
    """Return one row per answer: ids, probability, and each reason with its signed effect on the logit."""
    table = frameless()
    ids = found.column_names[: found.column_names.index(PROBABILITY)]
    reasons = [name for name in found.column_names if name.startswith("reason_")]
    for heading in (*ids, PROBABILITY, *(name.replace("_", " ") for name in reasons)):
        table.add_column(heading, overflow="fold")
    for row in found.to_pylist():
        effects = ((row[name], row[name.replace("reason", "effect")]) for name in reasons)
        cells = [f"{effect:+.3f} {reason}" if reason is not None else "–" for reason, effect in effects]
        table.add_row(*(str(row[name]) for name in ids), f"{row[PROBABILITY]:.4f}", *cells)
    return table


def _explained(
    served: ServedModel,
    table: pa.Table,
    task: str,
    groups: Sequence[Group],
    top: int,
    unknown: Counter[str] | None,
    orders: Orders,
) -> pa.Table:
    import pyarrow as pa

    from registry.serving.answers.answer import answer
    from registry.serving.answers.reasons import effects_of, top_reasons

    effects = effects_of(served, table, task, groups, orders=orders)  # first: it names a task that is not there
    said = answer(served, table)
    if unknown is not None:
        unknown.update(said.unknown)
    found = top_reasons(effects, top)
    columns = {name: table[name] for name in id_columns(served, table.column_names)} | {
        PROBABILITY: pa.array(said.base[task])
    }
    if effects.reference is not None:
        columns |= {LOGIT: pa.array(effects.logit), REFERENCE: pa.array(effects.reference)}
    return pa.table(columns | {name: found[name] for name in found.column_names})
