"""What does `embed_text` take and give? Impressions with texts of their items in, a vector per item out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from components.data.early_rows import EarlyRows
from components.platform.artifacts import EventsTable, ItemVectors
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentSpec, Ports
from components.platform.paths import DataFiles
from features.declaration import Name


class Config(EarlyRows):
    """Which texts, by which encoder, into how many numbers."""

    key: Name = "item_id"
    """Column of the item's id."""
    columns: tuple[Name, ...] = Field(min_length=1)
    """Columns of the item's texts, such as `[title, genres]`: of a text each word counts, of a list each element."""
    log: Name | None = None
    """Further log of the table that holds the items, such as a catalogue; left out, the impressions."""
    encoder: Literal["tfidf", "sentence_transformers", "wordllama"] = "tfidf"
    """`tfidf`: words weighed by how few texts have them, brought to `width` numbers (LSA); learned from the texts
    themselves, of this language and no other. The others are models that somebody trained, and read text columns only:
    `sentence_transformers` one in the folder `path`, `wordllama` its own."""
    path: DataFiles | None = None
    """Folder of a `sentence_transformers` model, such as `data://models/all-MiniLM-L6-v2`."""
    width: Annotated[int, Field(ge=2, le=4096)] = 64
    """Numbers of an item, of `tfidf`; those of a model are as many as it gives."""
    min_df: Annotated[int, Field(ge=1)] = 2
    """Words of fewer texts say nothing, of `tfidf`."""
    dtype: Literal["float32", "float16"] = "float32"
    """Of the numbers that are kept."""
    seed: int = 0
    """Of the search for the `width` directions."""
    fit_before: AwareDatetime | None = None
    """Items whose first row is of this moment or later are not learned from: the `validation_from` of the split."""
    reuse: DataFiles | None = None
    """Folder or URI of an earlier stage's `vectors` by `tfidf`: nothing is learned, and its vectors and these can be
    compared. Words that came up since say nothing."""

    @model_validator(mode="after")
    def _read_by_the_encoder(self) -> Self:
        if (self.path is not None) != (self.encoder == "sentence_transformers"):
            verb = "needs" if self.path is None else "does not read"
            raise ValueError(f"encoder {self.encoder!r} {verb} path")
        of_words = ("width", "min_df", "seed", "fit_before", "fit_share", "reuse")
        if self.encoder != "tfidf" and (odd := sorted({*of_words} & self.model_fields_set)):
            raise ValueError(f"encoder {self.encoder!r} learns nothing here: leave {odd[0]} out")
        if self.reuse is not None and (odd := sorted({*of_words[:-1]} & self.model_fields_set)):
            raise ValueError(f"reuse takes what an earlier stage learned: leave {odd[0]} out")
        return self


class Inputs(Ports):
    """Impressions, or another log, with an item per row."""

    table: EventsTable


class Outputs(Ports):
    """A vector per item."""

    vectors: ItemVectors


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    table = inputs.get("table")
    if table is not None and config.log is not None:
        if table.logs is None:
            return
        if config.log not in table.logs:
            yield Fault(("log",), f"the table has no log {config.log!r}")
            return
        table = table.logs[config.log]
    if table is None:
        return
    places: list[tuple[tuple[str | int, ...], str]] = [(("key",), config.key)]
    places += [(("columns", at), name) for at, name in enumerate(config.columns)]
    for where, name in places:
        if absent := table.absent(name):
            yield Fault(where, f"the table has {absent}")


COMPONENT = ComponentSpec(
    name="embed_text",
    version="1",
    summary="Turn the texts of items into vectors: words weighed by rarity, or a language model of your own.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.data.embed_text.component:run",
)
