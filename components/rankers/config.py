"""Which ranker, of which size? The `ranker:` block of a pipeline, without torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from components.contract import ComponentConfig
from components.errors import did_you_mean
from features.declaration import Name

RANKERS: dict[str, str] = {
    "esmm": "components.rankers.esmm:Esmm",
    "lr": "components.rankers.lr:LogisticRegression",
}
"""Registered name of each ranker → ``module:class``. YAML never holds the right-hand side."""

OPTIONS: dict[str, frozenset[str]] = {
    "esmm": frozenset({"embedding_width", "hidden", "dropout", "sequence"}),
    "lr": frozenset({"sequence"}),
}
"""Keys of the `ranker:` block that each ranker understands, besides `name`."""


class RankerConfig(ComponentConfig):
    """A ranker by name; every other key left out keeps the paper's default."""

    name: Name
    """Registered name of the ranker."""
    embedding_width: int | None = Field(None, ge=1, le=1024)
    """Width of every embedding table."""
    hidden: tuple[int, ...] | None = None
    """Widths of the hidden layers of each tower."""
    dropout: float | None = Field(None, ge=0, lt=1)
    """Share of hidden units dropped in training."""
    sequence: Literal["mean"] = "mean"
    """How a history becomes one vector."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RANKERS:
            raise ValueError(f"no ranker {name!r}{did_you_mean(name, RANKERS)}")
        return name

    @field_validator("hidden")
    @classmethod
    def _wide_enough(cls, hidden: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if hidden is not None and (not hidden or min(hidden) < 1):
            raise ValueError("hidden needs at least one layer, each at least 1 wide; leave it out for the default")
        return hidden

    @model_validator(mode="after")
    def _understood(self) -> Self:
        set_here = {key for key in type(self).model_fields if key != "name" and getattr(self, key) is not None}
        for key in sorted(set_here - OPTIONS[self.name]):
            raise ValueError(f"ranker {self.name!r} has no {key!r}: leave it out")
        return self
