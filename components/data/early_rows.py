"""Which rows may a data stage learn from? The earliest, so that nothing of the validation and the test is known."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from components.platform.contract import ComponentConfig

if TYPE_CHECKING:
    import polars as pl


class EarlyRows(ComponentConfig):
    """Base of a `with:` block that says where learning ends."""

    learned: ClassVar[str] = "rows are learned from"
    """What the two keys say, for an error."""
    fit_before: AwareDatetime | None = None
    """Rows from this moment on are not learned from: the `validation_from` of the training set's split."""
    fit_share: float = Field(0.8, gt=0, le=1)
    """Share of rows, the earliest, to learn from where `fit_before` is left out: the `train` of the split."""

    @field_validator("fit_before")
    @classmethod
    def _utc(cls, moment: datetime | None) -> datetime | None:
        return moment.astimezone(UTC) if moment is not None else None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.fit_before is not None and "fit_share" in self.model_fields_set:
            raise ValueError(f"fit_before and fit_share both say which {self.learned}: leave one out")
        return self

    def learns_until(self, times: pl.Series) -> datetime | None:
        """Return the moment before which rows of these times, in any order, are learned from; None where all are."""
        last = math.ceil(self.fit_share * len(times))
        if self.fit_before is not None or last >= len(times):
            return self.fit_before
        moment: datetime = times.sort()[last]
        return moment
