"""By what else is the score to rank by multiplied? A bid, a boost or a price of each row, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from features.declaration import Frozen, Name
from features.ground.errors import BadInputError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""What a score is multiplied by: finite and not negative."""


class Multiplier(Frozen):
    """A factor of the score to rank by, of a raw column of the row; it changes no probability."""

    column: Name
    """Raw column, which need not be a feature: it is the factor, or tells which one of `factors`."""
    factors: dict[str, Factor] = Field(default_factory=dict)
    """Factor by value of the column, such as a boost by item or placement; empty where the column is the factor."""
    default: Factor = 1.0
    """Factor of a row without a value, or with one that `factors` leaves out."""
    least: Factor = 0.0
    """Lower bound of a factor that the column gives; a smaller one is raised to it."""
    most: Factor | None = None
    """Upper bound of a factor that the column gives; a larger one is lowered to it."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.factors and (self.least or self.most is not None):
            raise ValueError("least and most bound what a column gives, and factors are written out: leave one out")
        if self.most is not None and self.most < self.least:
            raise ValueError(f"most, {self.most:g}, is below least, {self.least:g}: turn them round")
        return self

    def of(self, table: pa.Table) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the factor of each row, float64 ``[rows]``.

        Raises:
            BadInputError: the column is missing, holds no numbers, or one that is negative or not finite.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from registry.serving.incoming import domain_codes

        if self.column not in table.column_names:
            raise BadInputError(f"rows have no column {self.column!r}, by which the score is multiplied: add it")
        column = table[self.column]
        if self.factors:
            names = sorted(self.factors)
            of_names = np.array([*(self.factors[name] for name in names), self.default])
            return np.asarray(of_names[domain_codes(column, names)], dtype=np.float64)  # −1 is the last entry
        try:
            given = pc.fill_null(column.cast(pa.float64()), self.default)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BadInputError(
                f"column {self.column!r} is {column.type}, and the score is multiplied by it: give numbers, or name "
                "factors by its values"
            ) from error
        numbers = np.asarray(given.to_numpy(), dtype=np.float64)
        wrong = ~(np.isfinite(numbers) & (numbers >= 0))
        if wrong.any():
            raise BadInputError(
                f"column {self.column!r} holds {numbers[wrong][0]:g}, by which no score can be multiplied "
                f"({int(wrong.sum())} of {table.num_rows} rows): give finite numbers of at least 0, or none"
            )
        return np.clip(numbers, self.least, self.most)
