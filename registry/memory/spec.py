"""What can an error memory be made of? Its store, its keys and its read-out as choices, without their code."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from features.declaration import Frozen, Name

MOST_BUCKETS = 1 << 24
"""Most buckets over all arrays of a sketch: 128 MiB for the counts and 256 MiB for each task's sums."""
CODE = 64
"""Width of a user code: one sign per bit of a 64-bit hash."""
FIELD_CODE = 16
"""Width of the code of one categorical field."""

KeyKind = Literal["hidden", "hidden_user", "embedding"]
Pool = Literal["softmax", "ratio"]


class SketchStore(Frozen):
    """Hashed buckets of sums: fixed size, and reading costs the same after a thousand rows and after a billion."""

    kind: Literal["sketch"] = "sketch"
    """Hashed buckets."""
    arrays: int = Field(64, ge=1, le=1024)
    """Arrays of the sketch, m in the paper."""
    bits: int = Field(10, ge=1, le=20)
    """Signed projections per array, L in the paper; each array has 2^L buckets."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        buckets = self.arrays << self.bits
        if buckets > MOST_BUCKETS:
            raise ValueError(
                f"{self.arrays} arrays of 2^{self.bits} buckets are {buckets:,}, at most {MOST_BUCKETS:,}: "
                "lower arrays or bits"
            )
        return self

    def __str__(self) -> str:
        return f"sketch of {self.arrays} arrays of 2^{self.bits} buckets"


class ExactStore(Frozen):
    """The rows themselves, searched exactly for those with the most similar keys."""

    kind: Literal["exact"] = "exact"
    """Rows, searched exactly."""
    neighbours: int = Field(70, ge=1, le=2048)
    """Most similar rows that are read, K in the paper."""
    capacity: int = Field(100_000, ge=1, le=10_000_000)
    """Most rows kept; beyond it a seeded random sample of all that were written."""
    threshold: float = Field(0.0, ge=0, le=1)
    """Rows whose base model was no further off than this in any task are not kept."""

    def __str__(self) -> str:
        return f"{self.neighbours} nearest of at most {self.capacity:,} rows with an error above {self.threshold:g}"


StoreChoice = Annotated[SketchStore | ExactStore, Field(discriminator="kind")]
"""Where the memory keeps what it saw."""


class ReadOut(Frozen):
    """How the neighbours' answers become one."""

    gamma: float = Field(1.0, ge=0, le=1)
    """γ; 1 compares neighbours' labels with the query's own prediction, 0 takes the neighbours' own errors."""
    temperature: float = Field(1.0, gt=0)
    """τ of the softmax over similarities. Those of a sketch are log1p(n), so that an array weighs (1 + n)^(1/τ); those
    of an exact store are cosines."""
    pool: Pool = "softmax"
    """``softmax`` over neighbours, or ``ratio``, which weighs them by the rows they stand for: one ratio of sums."""
    shrinkage: float = Field(0.0, ge=0)
    """n₀ of n / (n + n₀), n being the rows behind an answer; 0 switches it off."""


class KeySpec(Frozen):
    """What a key is made of."""

    kind: KeyKind
    """``hidden``; ``hidden_user`` with the user's code appended; or ``embedding``, what a fixed random embedding layer
    gives: the codes of the row's categorical fields side by side, and the user's."""
    hidden: int
    """Width of the model's hidden vector."""
    user: Name = "user_id"
    """Column of the user id."""
    fields: tuple[Name, ...] = ()
    """Categorical columns of an ``embedding`` key, the user's left out."""
    user_weight: float = Field(2.0, ge=0)
    """w, norm of the user code where the rest of the key has norm 1."""
    seed: int = 0
    """Seed of the codes."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of raw rows that a key is made of."""
        return {"hidden": (), "hidden_user": (self.user,), "embedding": (*self.fields, self.user)}[self.kind]

    @property
    def width(self) -> int:
        """Width of a key."""
        match self.kind:
            case "hidden":
                return self.hidden
            case "hidden_user":
                return self.hidden + CODE
            case "embedding":
                return FIELD_CODE * len(self.fields) + CODE
