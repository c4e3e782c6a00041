"""What does `refresh_error_memory` take and give? Labelled rows in, the champion's error memory out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from components.artifacts import ErrorMemory, TrainingSet
from components.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name

MOST_BUCKETS = 1 << 24
"""Most buckets over all arrays: 128 MiB for the counts and 256 MiB for each task's sums."""


class Config(ComponentConfig):
    """The champion, the slots of time, and the sketch (ReLoop2, Zhu et al., KDD 2023)."""

    model: Name
    """Registered model whose champion gets the memory."""
    slots: int = Field(10, ge=2, le=1000)
    """Slots of time with equally many rows; each is scored before the memory learns from it."""
    arrays: int = Field(64, ge=1, le=1024)
    """Arrays of the sketch, m in the paper."""
    bits: int = Field(10, ge=1, le=20)
    """Signed projections per array, L in the paper; each array has 2^L buckets."""
    gamma: float = Field(1.0, ge=0, le=1)
    """1 compares the neighbours' labels with the query's own prediction; 0 takes the neighbours' errors."""
    lambdas: tuple[float, ...] = Field((0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), min_length=1)
    """Weights of the compensation to choose from; each slot uses the best on earlier slots."""
    temperature: float = Field(1.0, gt=0)
    """τ of the attention over arrays."""
    pool: Literal["softmax", "ratio"] = "softmax"
    """Attention over arrays, or one ratio of sums."""
    centre: bool = True
    """Subtract the training mean of `hidden` before hashing: ReLU activations split poorly otherwise."""
    shrinkage: float = Field(0.0, ge=0)
    """n₀ of λ·n/(n+n₀): fewer stored neighbours compensate less."""
    key: Literal["hidden", "hidden_user"] = "hidden_user"
    """Key of a row: `hidden`, or `hidden` with a fixed random code of the user id appended."""
    user_weight: float = Field(2.0, ge=0)
    """Norm of the user code where `hidden` has norm 1; larger keeps users further apart."""
    seed: int = Field(0, ge=0)
    """Seed of the projections and user codes."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""

    @field_validator("lambdas")
    @classmethod
    def _shares(cls, lambdas: tuple[float, ...]) -> tuple[float, ...]:
        outside = [value for value in lambdas if not 0 <= value <= 1]
        if outside:
            raise ValueError(f"λ is a share of the correction, between 0 and 1, not {outside[0]:g}")
        return lambdas

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        buckets = self.arrays << self.bits
        if buckets > MOST_BUCKETS:
            raise ValueError(
                f"{self.arrays} arrays of 2^{self.bits} buckets are {buckets:,}, at most {MOST_BUCKETS:,}: "
                "lower arrays or bits"
            )
        return self


class Inputs(Ports):
    """Rows with labels; those later than the champion's training rows form the stream."""

    dataset: TrainingSet


class Outputs(Ports):
    """The memory and what it did in each slot."""

    error_memory: ErrorMemory


COMPONENT = ComponentSpec(
    name="refresh_error_memory",
    version="1",
    summary="Replay labelled rows newer than the champion: score first, write after, keep the memory beside it.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.refresh_error_memory.component:run",
    cacheable=False,
    after_publish="components.refresh_error_memory.pointer:announce",
)
