"""Is an amount large for its row's kind? Groups are cut on the training rows, labels written for all."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from components.data.derive_labels.config import Config, Inputs, Outputs
from components.platform.artifacts import DerivedLabels, EventsTable
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, no_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

TIME = "event_timestamp"


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Write the table with its labels, and how they were made.

    Raises:
        BadInputError: a column is missing or there already, holds something other than numbers of at least 0, or no
            groups can be cut.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.data.derive_labels.config import MadeLabels
    from components.data.derive_labels.fair import cuts_of, edges_of
    from components.data.derive_labels.page import render
    from components.data.derive_labels.report import Rows, headlines, made_label

    source = context.local(inputs.table)
    table = pq.read_table(source / "events.parquet")
    if taken := [name for name in config.labels if name in table.column_names]:
        raise BadInputError(f"the table has a column {taken[0]!r} already: choose another name for the label")
    wanted = list(dict.fromkeys(config.named.values()))
    if absent := [name for name in wanted if name not in table.column_names]:
        raise BadInputError(f"the table has {no_columns(absent, table.column_names)}: name another, or publish it")
    times = pl.DataFrame(pl.from_arrow(table.select([TIME])))[TIME]
    fitted = early(times, config)
    made = []
    for name, rule in config.labels.items():
        amount, within = (_numbers(table, column, name) for column in (rule.amount, rule.within))
        try:
            edges = edges_of(within[fitted], rule.groups, rule.min_group)
        except BadInputError as error:
            raise BadInputError(f"label {name!r}: {rule.within!r} of {error}") from None
        cuts = cuts_of(amount[fitted], within[fitted], edges, rule.above)
        labels = cuts.labels(amount, within)
        table = table.append_column(name, pa.array(labels))
        beside = {one: _numbers(table, one, name) for one in rule.beside}
        made.append(made_label(name, rule, cuts, Rows(times, fitted, amount, within, {name: labels, **beside})))
    report = MadeLabels(
        known_until=times.filter(pl.Series(fitted)).max(),
        fitted=int(fitted.sum()),
        rows=table.num_rows,
        labels=tuple(made),
    )
    draft = context.draft("events")
    shutil.copytree(source, draft, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json", "events.parquet"))
    pq.write_table(table, draft / "events.parquet", compression="zstd", version="2.6")
    kept = context.draft("labels")
    (kept / "labels.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    (kept / DerivedLabels.page.file).write_text(render(report, context.scratch), encoding="utf-8")
    for line in (line for label in made for line in headlines(label)):
        context.note(line)
    return Outputs(events=EventsTable(uri=str(draft)), labels=DerivedLabels(uri=str(kept)))


def early(times: pl.Series, config: Config) -> NDArray[np.bool_]:
    """Return bool ``[rows]``, which rows are learned from.

    Raises:
        BadInputError: none is early enough.
    """
    import numpy as np

    limit = config.learns_until(times)
    chosen = np.ones(len(times), dtype=bool) if limit is None else (times < limit).to_numpy()
    if not chosen.any():
        raise BadInputError(f"no row is earlier than {limit}: learn from more with fit_before or fit_share")
    return chosen


def _numbers(table: pa.Table, name: str, label: str) -> NDArray[np.float64]:
    import numpy as np
    import pyarrow as pa

    column = table.column(name)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise BadInputError(f"label {label!r} needs numbers, and {name!r} is {column.type}: name a column of numbers")
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        first = int(wrong.argmax())
        raise BadInputError(
            f"label {label!r} needs numbers of at least 0, and {int(wrong.sum()):,} rows have another {name!r}, first "
            f"row {first} with {column[first].as_py()}: leave such rows out, or clean them in the ingestion"
        )
    return values
