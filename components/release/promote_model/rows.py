"""What do challenger and champion answer to the same held-out rows?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.training_set import SplitName, raw_file, read_schema
from components.platform.errors import BadInputError, RankmillError
from registry.gate.decide import PairedPredictions
from registry.gate.paired import judged_columns, paired

if TYPE_CHECKING:
    from features.declaration import Declaration
    from features.ground.pace import Report
    from features.joins.row_file import RowFile
    from registry.serving.model.served_model import ServedModel
    from registry.serving.model.session import Provider

SPLIT: SplitName = "test"


class CannotScoreError(RankmillError):
    """The champion cannot answer these rows, so nothing can be compared."""


def score_both(
    dataset: Path,
    challenger: Path,
    champion: Path | None,
    champion_name: str,
    provider: Provider,
    report: Report | None = None,
) -> tuple[PairedPredictions, list[str]]:
    """Return both models' answers to the raw rows of the test split, and remarks for the reader.

    Both answer without an error memory: the champion's may have learned the labels of these rows, and the challenger
    has none before it is champion. `report` is told how far each is.

    Raises:
        BadInputError: the split is empty, lacks a label, or the challenger cannot answer it.
        CannotScoreError: the champion cannot answer it.
    """
    from registry.serving.model.served_model import ServedModel

    file = raw_file(dataset, SPLIT)
    roles = read_schema(dataset).declaration
    if file.num_rows == 0:
        raise BadInputError(f"the {SPLIT} split of the training set has no rows: the gate needs some, change the split")
    model = ServedModel.open(challenger, provider, label="the challenger")
    new, new_shown = _answers(model, file, report)
    old: dict[str, Any] | None = None
    old_shown: dict[str, Any] | None = None
    remarks: list[str] = []
    if champion is not None:
        try:
            served = ServedModel.open(champion, provider, label=champion_name)
            old, old_shown = _answers(served, file, report)
        except RankmillError as error:
            raise CannotScoreError(
                f"champion {champion_name} cannot score the rows that the challenger is judged on ({error}): give the "
                "training set what it needs, or promote by hand with `rankmill promote`"
            ) from error
        seen = served.contract.schema_.trained_until
        first = _first(file, roles)
        if seen is not None and first is not None and seen > first:
            remarks.append(
                f"{champion_name} was trained until {seen:%Y-%m-%d}, past the first judged row: it is favoured"
            )
    present = [name for name in file.column_names if name in judged_columns(roles)]
    pair = paired(file.read(present), roles, new, old, f"the {SPLIT} split", "build the training set again")
    return replace(pair, challenger_shown=new_shown, champion_shown=old_shown), remarks


def _answers(model: ServedModel, file: RowFile, report: Report | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a model's answers as served and, where it knows positions, for those that the rows were shown in."""
    from registry.serving.answers.by_block import said

    found = said(model, file, shown=model.contract.schema_.declaration.position is not None, report=report)
    return found.base, found.shown


def _first(rows: RowFile, roles: Declaration) -> Any:
    import pyarrow.compute as pc

    return pc.min(rows.column(roles.time)).as_py()
