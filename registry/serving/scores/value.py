"""What is a conversion worth, and which offer is worth most? Present value by product, times its probability.

The value of a row may be multiplied further, by a bid or a boost that the row tells; see `multiplier`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from features.declaration import Declaration, Frozen
from features.ground.errors import BadInputError, did_you_mean
from registry.serving.incoming import ELSEWHERE, domain_codes, domain_column
from registry.serving.scores.multiplier import Multiplier

if TYPE_CHECKING:
    import pyarrow as pa

Floats = np.ndarray[Any, np.dtype[np.float64]]
Value = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Present value per conversion, in any currency: finite and not negative."""
EXPECTED_VALUE = "expected_value"
"""Column of the score to rank by."""
RANK = "rank"
"""Column of the place within a request."""


class ValueTable(Frozen):
    """Present value per conversion, by product: by value of the model's domain column."""

    products: dict[str, Value] = Field(default_factory=dict)
    """Value by product; empty when every product is worth the same."""
    default: Value | None = None
    """Value of a product that `products` does not name. None refuses such a product, or, without any `products`, counts
    every conversion as 1."""
    multiply: tuple[Multiplier, ...] = Field((), exclude_if=lambda factors: not factors)
    """What the value of each row is multiplied by, in this order; nothing when empty."""

    def check(self, known: Sequence[str]) -> ValueTable:
        """Return the table itself once every product of the model has a value and no other name is in it.

        Raises:
            BadInputError: a product is misspelt, or one has no value and there is no default.
        """
        for name in sorted(self.products):
            if name not in known:
                raise BadInputError(
                    f"value names product {name!r}, which the model does not know"
                    f"{did_you_mean(name, known)}: correct the name or remove it"
                )
        left = sorted(set(known) - self.products.keys())
        if self.products and self.default is None and left:
            raise BadInputError(
                f"value has no number for product {left[0]!r} ({len(left)} of {len(known)} products): name each, "
                "or set the default"
            )
        return self

    def of(self, table: pa.Table, domain: str | None) -> Floats:
        """Return the value of a conversion in each row times its factors, float64 ``[rows]``.

        Raises:
            BadInputError: a row's product has no value and there is no default, a column is missing, or one that
                multiplies holds no factor.
        """
        worth = self._by_product(table, domain)
        for one in self.multiply:
            worth = worth * one.of(table)
        return worth

    def _by_product(self, table: pa.Table, domain: str | None) -> Floats:
        if not self.products:
            return np.full(table.num_rows, 1.0 if self.default is None else self.default)
        names = sorted(self.products)
        column = domain_column(table, domain, "the value of a conversion")
        codes = domain_codes(column, names)
        unnamed = codes == ELSEWHERE
        if self.default is None and unnamed.any():
            product = column[int(unnamed.argmax())].as_py()
            raise BadInputError(
                f"product {product!r} has no value ({int(unnamed.sum())} of {table.num_rows} rows name none of the "
                f"{len(names)} products with one): give it one, or set the default"
            )
        # ELSEWHERE is −1: the last entry.
        values = np.array([*(self.products[name] for name in names), self.default or 0.0])
        return np.asarray(values[codes], dtype=np.float64)


def deepest(declaration: Declaration, tasks: Sequence[str]) -> str:
    """Return the deepest feedback that a model predicts: the conversion that the value is paid for.

    Raises:
        BadInputError: the model predicts none of the feedback types.
    """
    found = [name for name in declaration.feedback if name in tasks]
    if not found:
        raise BadInputError(f"a model of {', '.join(tasks)} predicts no feedback, so nothing can be ranked by value")
    return found[-1]


def ranked(scores: pa.Table, request: str, item: str) -> pa.Table:
    """Return scores with the column `rank`: 1 is the largest expected value of the row's request.

    Of equal values the smaller item id is first, then the earlier row; a row without a request has no rank.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    requests = pc.fill_null(scores[request].combine_chunks().dictionary_encode().indices, ELSEWHERE).to_numpy()
    items = pc.rank(scores[item].combine_chunks(), tiebreaker="dense").to_numpy()
    order = np.lexsort((items, -scores[EXPECTED_VALUE].to_numpy(), requests))
    starts = np.flatnonzero(np.diff(requests[order], prepend=ELSEWHERE - 1))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order))) + 1
    return scores.append_column(RANK, pa.array(ranks, mask=requests == ELSEWHERE))


def expected_value(tasks: Mapping[str, Floats], declaration: Declaration, value: Floats) -> Floats:
    """Return Π stage probabilities · value, float64 ``[rows]``: the score to rank by.

    The product of a funnel's stages is the probability of its deepest feedback over every impression; without a
    funnel, the last feedback declared counts.

    Args:
        tasks: ``[rows]`` probabilities by task, as served: calibrated, and compensated where there is a memory.
        declaration: order of the feedback types.
        value: ``[rows]`` value of a conversion.
    """
    return np.asarray(tasks[deepest(declaration, list(tasks))], dtype=np.float64) * value
