"""What does `adapt_ranker` take and give? A trained ranker and a domain in, a ranker for that domain out."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import Ranker, TrainingSet
from components.platform.contract import ComponentSpec, Ports
from components.rankers.lora.config import LoraConfig
from components.train.train_ranker.config import Knobs

ADAPTED = "adapted_parameters"
"""Annotation of the ranker: how many numbers the adaptation trained."""


class Config(Knobs):
    """The domain and how the ranker adapts to it."""

    domain: str
    """Value of the training set's domain; only its rows are used."""
    method: Literal["lora", "full", "scratch"] = "lora"
    """Train an adapter, every weight, or a new ranker of the same kind to compare with."""
    lora: LoraConfig = LoraConfig()
    """Shape of the adapter of method `lora`."""
    epochs: int = Field(5, ge=1, le=1000)
    """Most passes over the domain's training rows."""

    @model_validator(mode="after")
    def _lora_is_read(self) -> Self:
        if self.tables.sharded:
            raise ValueError("every worker holds the whole ranker that is adapted: leave tables.sharded out")
        if self.method != "lora" and "lora" in self.model_fields_set:
            raise ValueError(f"method {self.method!r} trains no adapter: leave lora out, or choose method 'lora'")
        return self


class Inputs(Ports):
    """The ranker to start from, and encoded splits of the same encoder."""

    ranker: Ranker
    dataset: TrainingSet


class Outputs(Ports):
    """The best epoch, as a ranker like any other."""

    ranker: Ranker


COMPONENT = ComponentSpec(
    name="adapt_ranker",
    version="5",
    summary="Adapt a trained ranker to one domain by LoRA, by full fine-tuning, or train it anew there.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.adapt_ranker.component:run",
    sources=("components.rankers",),
)
