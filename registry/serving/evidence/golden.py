"""Does a model answer here as it did where it was exported? Sixteen rows travel with it, and the answers they got.

Another onnxruntime, numpy, processor or a changed encoder answers otherwise without an error. Whoever serves a model
answers its golden rows first and refuses it when they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from features.declaration import UNKNOWN
from features.ground.errors import BadInputError
from registry.serving.answers.answer import answer, columns_of
from registry.serving.incoming import check_columns
from registry.serving.model.contract import ParityReport
from registry.serving.model.served_model import ServedModel

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from features.joins.row_file import RowFile
    from registry.serving.model.request_graph import RequestGraph

GOLDEN = "golden.parquet"
"""Raw rows, and `ANSWER` with each task's name: float64, through encoder, graph and calibration, no error memory."""
ANSWER = "answer."
"""No column of a row is called so: a name has no dot."""
ROWS = 16
LOOKED_AT = 4096
"""Rows, spread evenly, that golden ones are chosen from."""
TOLERANCE = 1e-5
"""Largest difference of a probability, as of the parity that an export must keep."""


def write_golden(model: ServedModel, rows: pa.Table, directory: Path) -> None:
    """Write golden rows and the model's answers to them; the same rows and model give the same bytes.

    Args:
        model: as it will be opened, with its calibration.
        rows: raw rows that it can be asked about, such as `golden_rows`.
        directory: the model's folder.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [name for name in rows.column_names if not name.startswith(ANSWER)]
    found = answer(model, rows.select(columns)).tasks
    table = rows.select(columns)
    for task, values in found.items():
        table = table.append_column(f"{ANSWER}{task}", pa.array(values, pa.float64()))
    pq.write_table(table, directory / GOLDEN)


def golden_rows(model: ServedModel, table: RowFile) -> pa.Table:
    """Return rows that ask the most of a model: the longest histories, the most gaps, values that training never held.

    Four of each and others spread evenly, in the table's order; only the columns that the model reads.

    Args:
        model: whose columns they are.
        table: raw rows of a split, at least one.
    """
    from features.joins.histories import listed

    columns = [name for name in table.column_names if name in {*columns_of(model, table.column_names)}]
    looked = np.unique(np.linspace(0, table.num_rows - 1, min(table.num_rows, LOOKED_AT)).astype(np.int64))
    rows = listed(table.take(looked, columns))
    batch = model.encoder.encode(model.rows(rows))
    embedded = [batch[field.name].reshape(rows.num_rows, -1) for field in model.contract.fields if field.embedded]
    unknown = sum((np.count_nonzero(values == UNKNOWN, axis=1) for values in embedded), np.zeros(rows.num_rows, int))
    chosen: list[int] = []
    for weight in (_events(rows), _gaps(rows), unknown):
        first = [int(at) for at in np.argsort(-weight, kind="stable") if weight[at] > 0 and at not in chosen]
        chosen += first[: ROWS // 4]
    spread = np.unique(np.linspace(0, rows.num_rows - 1, min(rows.num_rows, 4 * ROWS)).astype(np.int64)).tolist()
    others = [at for at in spread if at not in chosen]
    left = min(ROWS - len(chosen), len(others))
    chosen += [others[int(at)] for at in np.linspace(0, len(others) - 1, left)] if left else []
    return rows.take(sorted(chosen))


def check_golden(model: ServedModel, request: RequestGraph | None = None) -> float:
    """Return the largest difference between a model's answers here and where it was exported; 0 without golden rows.

    With `request` its graph is asked as well, one row at a time.

    Raises:
        BadInputError: it is larger than `TOLERANCE` or the parity that the export was allowed, or the file cannot be
            read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = model.directory / GOLDEN
    if not path.is_file():
        return 0.0
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInputError(f"{GOLDEN} of {model.called} cannot be read ({error}): register the model again") from None
    rows = table.select([name for name in table.column_names if not name.startswith(ANSWER)])
    check_columns(rows, columns_of(model, rows.column_names), f"{GOLDEN} of {model.called}")
    expected = {task: table[f"{ANSWER}{task}"].to_numpy() for task in model.contract.tasks}
    worst = _difference(expected, answer(model, rows).tasks)
    if request is not None:
        for place in range(rows.num_rows):
            one = answer(model, rows.slice(place, 1), request=request).tasks
            worst = max(worst, _difference({task: v[place : place + 1] for task, v in expected.items()}, one))
    if not worst <= (allowed := _allowed(model)):
        raise BadInputError(
            f"{model.called} answers its golden rows with other numbers than where it was exported (by up to "
            f"{worst:.1e}, allowed {allowed:.1e}): serve it with the versions of onnxruntime and numpy that it was "
            "exported with, or export it here"
        )
    return worst


def _allowed(model: ServedModel) -> float:
    path = model.directory / "parity.json"
    parity = ParityReport.model_validate_json(path.read_bytes()).tolerance if path.is_file() else TOLERANCE
    return max(TOLERANCE, parity)


def _difference(expected: dict[str, np.ndarray[Any, Any]], found: dict[str, np.ndarray[Any, Any]]) -> float:
    return max(float(np.abs(found[task] - values).max(initial=0.0)) for task, values in expected.items())


def _events(rows: pa.Table) -> np.ndarray[Any, Any]:
    """Return int64 ``[rows]``: how many values the lists of a row hold."""
    import pyarrow as pa
    import pyarrow.compute as pc

    total = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        if pa.types.is_list(column.type):
            total += pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    return total


def _gaps(rows: pa.Table) -> np.ndarray[Any, Any]:
    """Return int64 ``[rows]``: how many columns of a row hold nothing."""
    import pyarrow.compute as pc

    total = np.zeros(rows.num_rows, dtype=np.int64)
    for column in rows.columns:
        total += pc.is_null(column, nan_is_null=True).to_numpy().astype(np.int64)
    return total
