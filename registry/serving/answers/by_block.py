"""What does a model say about more rows than memory should hold? `answer` is asked about a block after the other.

Blocks are whole multiples of the rows that are scored at a time, so that answers are those of one call, to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from features.ground.pace import Pace
from features.within import with_within
from registry.serving.answers.answer import answer, columns_of
from registry.serving.model.served_model import CHUNK, Probabilities, ServedModel

if TYPE_CHECKING:
    import pyarrow as pa

    from features.ground.pace import Report
    from registry.serving.answers.answer import Answers

BLOCK = 8 * CHUNK
"""Rows that are read at a time."""
Floats = np.ndarray[Any, np.dtype[np.float64]]


class Rows(Protocol):
    """Rows that are read a block after the other: a `RowFile`, or several in one order."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""

    @property
    def column_names(self) -> list[str]:
        """Names of their columns."""

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all rows."""

    def blocks(self, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """Yield some columns of so many rows after the other; of no rows one empty table."""


@dataclass(frozen=True)
class Said:
    """What a model without an error memory says about B rows, in their order."""

    base: dict[str, Probabilities]
    """By task: float64 ``[B]``, as it is served."""
    shown: dict[str, Probabilities] | None
    """The same for the places that rows were shown in; None where it was not asked for them."""
    unknown: Counter[str]
    """By field with a vocabulary, how many rows hold a value that training never held."""
    seen: Floats | None
    """float64 ``[B, n]``, the representation in the directions that were asked for; None without any."""


def said(
    model: ServedModel,
    rows: Rows,
    *,
    shown: bool = False,
    directions: Floats | None = None,
    report: Report | None = None,
    block: int | None = None,
) -> Said:
    """Return what a model says about the rows of a file.

    Args:
        model: without an error memory.
        rows: with the columns that it needs, all in one order.
        shown: whether it is also asked about the places that the rows stood in.
        directions: float64 ``[hidden, n]`` in which the representation is looked at.
        report: told how far it is.
        block: rows read at a time, `BLOCK` when left out.

    Raises:
        BadInputError: as `registry.serving.answers.answer.answer`.
    """
    pace = Pace("scoring", rows.num_rows, report)
    base, placed, seen = list[dict[str, Probabilities]](), list[dict[str, Probabilities]](), list[Floats]()
    unknown = Counter[str]()
    for table in blocks_for(model, rows, block or BLOCK):
        found = answer(model, table)
        base.append(found.base)
        unknown.update(found.unknown)
        if directions is not None:
            seen.append(looked_at(found, directions))
        if shown:
            placed.append(answer(model, table, as_shown=True).base)
        pace.done(table.num_rows)
    return Said(
        base=joined(base),
        shown=joined(placed) if shown else None,
        unknown=unknown,
        seen=np.concatenate(seen) if directions is not None else None,
    )


def looked_at(answers: Answers, directions: Floats) -> Floats:
    """Return the representation of answered rows in some directions, float64 ``[B, n]``."""
    return np.asarray(answers.hidden.astype(np.float64) @ directions)


def joined(parts: Sequence[dict[str, Probabilities]]) -> dict[str, Probabilities]:
    """Return the answers to blocks as those to all rows; at least one block."""
    return {task: np.concatenate([part[task] for part in parts]) for task in parts[0]}


def blocks_for(model: ServedModel, rows: Rows, block: int = BLOCK, also: Collection[str] = ()) -> Iterator[pa.Table]:
    """Yield what a model reads of so many rows after the other, with the features that are made of whole requests.

    Columns in `also` come too, where the rows have them.
    """
    declaration, names = model.contract.schema_.declaration, rows.column_names
    wanted = {*columns_of(model, names), *declaration.within, *also}
    if declaration.position is not None:
        wanted.add(declaration.position.column)
    return whole_requests(model, rows.blocks([name for name in names if name in wanted], block), rows.read)


def whole_requests(
    model: ServedModel, blocks: Iterable[pa.Table], read: Callable[[list[str]], pa.Table]
) -> Iterator[pa.Table]:
    """Yield blocks of rows with the features that are made of all rows of a request, wherever these lie.

    Args:
        model: whose features they are.
        blocks: rows in any number of parts.
        read: returns some columns of all of these rows, in the order of the blocks.

    Raises:
        BadInputError: a feature is made of what is no number.
    """
    declaration, start = model.contract.schema_.declaration, 0
    made: pa.Table | None = None
    for block in blocks:
        names = [name for name in declaration.within if name not in block.column_names]
        sources = {str(declaration.request), *(declaration.within[name].of for name in names)}
        table = block
        if names and sources <= {*block.column_names}:
            if made is None:
                made = with_within(read(sorted(sources)), declaration).select(names)
            for name in names:
                table = table.append_column(name, made[name].slice(start, block.num_rows))
        start += block.num_rows
        yield table
