"""What does `refresh_error_memory` take and give? Labelled rows in, the champion's error memory out."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.memory.refresh_error_memory.settings import MemorySettings
from components.platform.artifacts import ErrorMemory, LabelledRows
from components.platform.contract import ComponentSpec, Ports
from features.declaration import Name


class Config(MemorySettings):
    """The champion, the slots of time, and the memory (ReLoop2, Zhu et al., KDD 2023)."""

    model: Name
    """Registered model whose champion gets the memory."""
    slots: int = Field(10, ge=2, le=1000)
    """Slots of time with equally many rows; each is scored before the memory learns from it."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that scores the rows."""


class Inputs(Ports):
    """Rows with labels; those later than the champion's training rows form the stream."""

    dataset: LabelledRows


class Outputs(Ports):
    """The memory and what it did in each slot."""

    error_memory: ErrorMemory


COMPONENT = ComponentSpec(
    name="refresh_error_memory",
    version="3",
    summary="Replay labelled rows newer than the champion: score first, write after, keep the memory beside it.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.memory.refresh_error_memory.component:run",
    cacheable=False,
    after_publish="components.memory.refresh_error_memory.pointer:announce",
)
