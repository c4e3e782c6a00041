"""What does `study_error_memory` take and give? A trained ranker and later rows in, four learners compared out."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from components.memory.refresh_error_memory.settings import KeysAndAnswers, usual_temperature
from components.memory.study_error_memory.memories import (
    Decay,
    Memory,
    SketchStores,
    Stores,
    Temperature,
    memories,
    several,
)
from components.platform.artifacts import MemoryStudy, Ranker, TrainingSet
from components.platform.contract import ComponentSpec, Ports
from registry.memory.spec import ExactStore, SketchStore


class Config(KeysAndAnswers):
    """The slots, the memories to choose from, and the incremental learner."""

    slots: int = Field(20, ge=2, le=1000)
    """Slots of time with equally many rows."""
    slot_hours: int | None = Field(None, ge=1, le=24 * 366)
    """Cut at whole multiples of this many hours (UTC) instead of into `slots`."""
    store: Stores = SketchStores()
    """Hashed buckets of fixed size (`kind: sketch`), or the rows themselves (`kind: exact`)."""
    temperature: Temperature | Annotated[tuple[Temperature, ...], Field(min_length=1)] | None = None
    """τ of the attention over neighbours; left out, 1 for a sketch and 0.1 for an exact store. A list is chosen from
    on validation."""
    decay: Decay | Annotated[tuple[Decay, ...], Field(min_length=1)] = 1.0
    """ρ: at the end of each slot, everything older counts this much of what it did; 1 forgets nothing. A list is chosen
    from on validation."""
    learning_rates: tuple[float, ...] = Field((0.00003, 0.0001, 0.0003, 0.001), min_length=1)
    """Step sizes of incremental training to choose from, on the validation split."""
    batch_size: int = Field(256, ge=1)
    """Rows per step of incremental training."""
    bootstrap: int = Field(200, ge=0, le=100_000)
    """Resamples of users behind the intervals of the differences from the base model."""

    @field_validator("learning_rates")
    @classmethod
    def _positive(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if min(rates) <= 0:
            raise ValueError(f"a learning rate is above 0, not {min(rates):g}")
        return tuple(sorted(set(rates)))

    @model_validator(mode="after")
    def _stores_fit(self) -> Self:
        self.memories()
        return self

    def memories(self) -> tuple[Memory, ...]:
        """Return the memories to choose from, the plainer first."""
        stores: tuple[SketchStore | ExactStore, ...] = tuple(self.store.each())
        temperatures = (usual_temperature(stores[0]),) if self.temperature is None else several(self.temperature)
        return memories(stores, temperatures, several(self.decay))


class Inputs(Ports):
    """The ranker, and the training set it was trained on: validation chooses, test is replayed."""

    ranker: Ranker
    dataset: TrainingSet


class Outputs(Ports):
    """Figures and a page."""

    study: MemoryStudy


COMPONENT = ComponentSpec(
    name="study_error_memory",
    version="4",
    summary="Replay the test period slot by slot: base model, error memory, incremental training, and both.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.memory.study_error_memory.component:run",
    sources=("components.rankers",),
)
