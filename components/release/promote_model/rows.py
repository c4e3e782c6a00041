"""What do challenger and champion answer to the same held-out rows?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.training_set import SplitName, read_raw, read_schema
from components.platform.errors import BadInputError, RankmillError
from registry.gate.decide import PairedPredictions
from registry.gate.paired import paired

if TYPE_CHECKING:
    import pyarrow as pa

    from features.declaration import Declaration
    from registry.serving.served_model import ServedModel
    from registry.serving.session import Provider

SPLIT: SplitName = "test"


class CannotScoreError(RankmillError):
    """The champion cannot answer these rows, so nothing can be compared."""


def score_both(
    dataset: Path, challenger: Path, champion: Path | None, champion_name: str, provider: Provider
) -> tuple[PairedPredictions, list[str]]:
    """Return both models' answers to the raw rows of the test split, and remarks for the reader.

    Both answer without an error memory: the champion's may have learned the labels of these rows, and the challenger
    has none before it is champion.

    Raises:
        BadInputError: the split is empty, lacks a label, or the challenger cannot answer it.
        CannotScoreError: the champion cannot answer it.
    """
    from registry.serving.served_model import ServedModel

    rows = read_raw(dataset, SPLIT, shared=True)
    roles = read_schema(dataset).declaration
    if rows.num_rows == 0:
        raise BadInputError(f"the {SPLIT} split of the training set has no rows: the gate needs some, change the split")
    model = ServedModel.open(challenger, provider, label="the challenger")
    new, new_shown = _answers(model, rows)
    old: dict[str, Any] | None = None
    old_shown: dict[str, Any] | None = None
    remarks: list[str] = []
    if champion is not None:
        try:
            served = ServedModel.open(champion, provider, label=champion_name)
            old, old_shown = _answers(served, rows)
        except RankmillError as error:
            raise CannotScoreError(
                f"champion {champion_name} cannot score the rows that the challenger is judged on ({error}): give the "
                "training set what it needs, or promote by hand with `rankmill promote`"
            ) from error
        seen = served.contract.schema_.trained_until
        first = _first(rows, roles)
        if seen is not None and first is not None and seen > first:
            remarks.append(
                f"{champion_name} was trained until {seen:%Y-%m-%d}, past the first judged row: it is favoured"
            )
    pair = paired(rows, roles, new, old, f"the {SPLIT} split", "build the training set again")
    return replace(pair, challenger_shown=new_shown, champion_shown=old_shown), remarks


def _answers(model: ServedModel, rows: pa.Table) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return a model's answers as served and, where it knows positions, for those that the rows were shown in."""
    from registry.serving.answer import answer

    positioned = model.contract.schema_.declaration.position is not None
    return answer(model, rows).base, answer(model, rows, as_shown=True).base if positioned else None


def _first(rows: pa.Table, roles: Declaration) -> Any:
    import pyarrow.compute as pc

    return pc.min(rows.column(roles.time)).as_py()
