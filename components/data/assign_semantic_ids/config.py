"""What does `assign_semantic_ids` take and give? Impressions and item vectors in, impressions with codes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from components.data.early_rows import EarlyRows
from components.platform.artifacts import EventsTable, ItemVectors, SemanticIds
from components.platform.columns import Column, Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from components.platform.paths import DataFiles
from features.declaration import Frozen, Name

Pieces = Literal["prefix", "unigram", "bigram"]
MOST = 2**62
"""Most values of one column."""


class RqVae(ComponentConfig):
    """Sizes and training of the network around the codes."""

    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = (128,)
    """Widths of the encoder's hidden layers; the decoder has them the other way round."""
    latent: Annotated[int, Field(ge=1, le=1024)] = 32
    """Numbers that the codes stand for."""
    beta: float = Field(0.25, ge=0, le=10)
    """How much the encoder is held to its codes."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Passes over the items."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Items of a step."""
    learning_rate: float = Field(0.001, gt=0, lt=1)
    """Of Adam."""


class Align(ComponentConfig):
    """Codes that know clicks (after Ye et al., CIKM 2025)."""

    feedback: Name
    """Column of the table, 0 or 1 in every row to learn from: whether the user took the item."""
    user: Name = "user_id"
    """Column of the user's id."""
    weight: float = Field(0.8, ge=0, le=1)
    """Share of the distance between items that is of what their vectors tell of clicks; the rest is of the vectors. 0
    is no alignment."""
    width: Annotated[int, Field(ge=1, le=1024)] = 16
    """Numbers of what clicks say of an item."""


class Config(EarlyRows):
    """How many codes, by which method, and as which columns."""

    learned: ClassVar[str] = "items are learned from"
    key: Name = "item_id"
    """Column of the item's id."""
    into: Annotated[Name, Field(max_length=40)] = "sid"
    """First part of the new columns' names: `sid_1`, `sid_12`."""
    method: Literal["kmeans", "rqvae"] = "kmeans"
    """`kmeans` groups vectors, then what the group leaves of each, level by level: for up to some 100,000 items.
    `rqvae` learns a network around the same search (RQ-VAE)."""
    levels: Annotated[int, Field(ge=1, le=8)] = 2
    """Codes of an item."""
    codes: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Values of each code; about the root of the number of items."""
    pieces: Pieces = "prefix"
    """Columns: `prefix` is the first code, the first two together, and so on, from coarse to fine; `unigram` each code
    by itself; `bigram` each two together."""
    rqvae: RqVae | None = None
    """Sizes of `rqvae`; its defaults when left out."""
    align: Align | None = None
    """Let items that the same users take be alike, as far as their vectors tell it; left out, vectors alone count."""
    seed: int = 0
    """Of the groups' start, and of the network."""
    fit_before: AwareDatetime | None = None
    """Items whose first row is of this moment or later are not learned from: the `validation_from` of the split."""
    reuse: DataFiles | None = None
    """Folder or URI of an earlier stage's `codebook`, whose codes keep their meaning: nothing is learned then."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.pieces == "bigram" and self.levels % 2:
            raise ValueError(f"pieces: bigram takes codes two by two, and levels is {self.levels}: make it even")
        together = {"prefix": self.levels, "bigram": 2, "unigram": 1}[self.pieces]
        if self.codes**together > MOST:
            raise ValueError(f"{self.codes} codes of {together} levels are more values than a column holds: lower one")
        if self.rqvae is not None and self.method != "rqvae":
            raise ValueError("rqvae holds the sizes of method: rqvae: leave it out")
        if self.align is not None and self.fit_before is None and self.fit_share == 1:
            raise ValueError(
                "align learns from clicks, and fit_share: 1 holds those of the test: end where training ends"
            )
        learning = ("fit_before", "fit_share", "seed", "method", "levels", "codes", "rqvae", "align")
        if self.reuse is not None and (odd := sorted({*learning} & self.model_fields_set)):
            raise ValueError(f"reuse takes an earlier codebook as it is: leave {odd[0]} out")
        return self

    def columns_of(self, levels: int) -> tuple[str, ...]:
        """Return the names of the new columns, for so many levels."""
        return columns_of(self.into, levels, self.pieces)


def columns_of(into: str, levels: int, pieces: Pieces) -> tuple[str, ...]:
    """Return the names of the columns that hold codes."""
    digits = [str(level) for level in range(1, levels + 1)]
    if pieces == "prefix":
        parts = ["".join(digits[:count]) for count in range(1, levels + 1)]
    else:
        parts = digits if pieces == "unigram" else ["".join(digits[at : at + 2]) for at in range(0, levels, 2)]
    return tuple(f"{into}_{part}" for part in parts)


class Inputs(Ports):
    """Impressions, and a vector per item."""

    table: EventsTable
    vectors: ItemVectors


class Outputs(Ports):
    """The same rows with columns of codes, and what the codes mean."""

    events: EventsTable
    codebook: SemanticIds


class LevelUse(Frozen):
    """How one level's codes are used."""

    used: int
    """Codes that some item has."""
    entropy: float
    """Of the codes over items, in bits: log2 of their number where all are used alike."""
    error: float
    """What the codes up to this level leave of the vectors: mean square over that of the vectors."""


class Codebook(Frozen):
    """What codes were learned, from what."""

    method: Literal["kmeans", "rqvae"]
    levels: int
    codes: int
    width: int
    """Numbers of a vector."""
    made_by: str
    """What made the vectors; those of another maker have no codes here."""
    digest: str
    """sha256 of what was learned: codes of different digests cannot be compared."""
    known_until: AwareDatetime | None
    """Nothing later was learned from; None where that is not known."""
    items: int
    """Items with codes."""
    alone: float
    """Share of them that no other item shares all codes with."""
    use: tuple[LevelUse, ...]
    """By level."""
    told: float | None = Field(None, exclude_if=lambda told: told is None)
    """Of aligned codes, the share of what clicks say of an item that its vector tells, judged without the item. Chance
    is in what clicks say, so it is small where items have few rows; not above 0, vectors tell nothing of clicks."""


def _gives(config: Config, inputs: Mapping[str, Columns]) -> Mapping[str, Columns]:
    if "table" not in inputs:
        return {}
    given = inputs["table"]
    if config.reuse is not None:  # how many levels it has is known when it is read
        return {"events": replace(given, whole=False)}
    made = {name: Column("int64") for name in config.columns_of(config.levels)}
    return {"events": replace(given, known={**given.known, **made})}


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    if "table" not in inputs:
        return
    if absent := inputs["table"].absent(config.key):
        yield Fault(("key",), f"the table has {absent}")
    if config.align is not None:
        for where, name in (("feedback", config.align.feedback), ("user", config.align.user)):
            if absent := inputs["table"].absent(name):
                yield Fault(("align", where), f"the table has {absent}")
    if taken := [name for name in config.columns_of(config.levels) if name in inputs["table"].known]:
        yield Fault(("into",), f"the table has a column {taken[0]!r} already: choose another name")


COMPONENT = ComponentSpec(
    name="assign_semantic_ids",
    version="1",
    summary="Give items ids made of their content, so that new and rare ones share what alike items learned.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(gives=_gives, asks=_asks),
    entrypoint="components.data.assign_semantic_ids.component:run",
)
