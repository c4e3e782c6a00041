"""What does `ingest_vectors` take and give? Files of vectors that another model made in, item vectors out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from components.platform.artifacts import ItemVectors
from components.platform.contract import ComponentConfig, ComponentSpec, NoInputs, Ports
from components.platform.paths import DataFiles
from features.declaration import Name


class Config(ComponentConfig):
    """Where the vectors lie, and what made them."""

    files: DataFiles
    """One Parquet or safetensors file: relative to the pipeline's file, absolute, `data://…` below the data folder, or
    any fsspec URL."""
    item: str = "item_id"
    """Column of a Parquet file, or tensor, with the items' ids."""
    vector: str = "vector"
    """Column of a Parquet file with lists of floats of one width, or tensor ``[n, D]``, with their vectors."""
    ids: DataFiles | None = None
    """Parquet file with the ids in column `item`, row by row as in a safetensors file, whose tensors hold no texts."""
    key: Name = "item_id"
    """Column of the item's id in the events."""
    made_by: str = Field(min_length=1, max_length=200)
    """What made them, such as `clip-vit-b32 of cover images`, with a version that changes when the model does: vectors
    with another one are not comparable."""
    known_until: AwareDatetime | None = None
    """Nothing later than this was read to make them, where that is known."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of the numbers that are kept."""
    duplicates: Literal["refuse", "last"] = "refuse"
    """What becomes of an item with several vectors: an error, or the last of the file counts."""

    @field_validator("known_until")
    @classmethod
    def _utc(cls, moment: datetime | None) -> datetime | None:
        return moment.astimezone(UTC) if moment is not None else None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.ids is not None and not self.files.endswith(".safetensors"):
            raise ValueError(
                "ids belong to a safetensors file, and a Parquet file has a column of its own: leave them out"
            )
        return self


class Outputs(Ports):
    """A vector per item."""

    vectors: ItemVectors


COMPONENT = ComponentSpec(
    name="ingest_vectors",
    version="1",
    summary="Take vectors of items that another model made, of texts, images or sounds, from Parquet or safetensors.",
    config=Config,
    inputs=NoInputs,
    outputs=Outputs,
    entrypoint="components.ingest.ingest_vectors.component:run",
    recheck="components.ingest.ingest_vectors.files:files_are_unchanged",
)
