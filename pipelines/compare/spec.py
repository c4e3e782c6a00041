"""What may a comparison file say, and which configs does an entry of it stand for?

Common keys, the entry's own and a candidate's changes make a config, in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from features.declaration import JudgeBy, Name
from features.ground.yaml_text import KeyPath
from pipelines.language.spec import SpecModel

BASELINES = {"lightgbm": "fit_lightgbm"}
"""Word after `baseline:` → component that fits and judges it."""
TRAIN = "train_ranker"
"""Component that trains a ranker."""
JUDGE_BY = "judge_by"
"""Key of a training set's stage that a comparison may say anew."""


class Reference(SpecModel):
    """A published number, printed under the table of its task."""

    task: Name
    """Task as the ranker names it."""
    metric: Literal["auc", "gauc", "log_loss"]
    """What was measured."""
    value: float
    """The number."""
    source: str = Field(min_length=10)
    """Who published it, on which rows and labels."""


class CandidateSpec(SpecModel):
    """One setting to try, as what it changes in its entry."""

    ranker: dict[str, Any] = Field(default_factory=dict)
    """Keys of the `ranker:` block."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Other keys of the config."""


class EntrySpec(SpecModel):
    """One row of the table."""

    ranker: dict[str, Any] | None = None
    """The `ranker:` block of `train_ranker`."""
    baseline: Literal["lightgbm"] | None = None
    """A peer in place of a ranker."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Config of this entry, over the common `with:` of rankers."""
    grid: tuple[CandidateSpec, ...] = ()
    """Settings to try on the first seed; the one that is best on validation by what the training set says to
    `judge_by`, mean over the feedback, is taken."""
    note: str = ""
    """What a reader should know about this row."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.ranker is None) == (self.baseline is None):
            raise ValueError(
                "an entry is either a ranker or a baseline: write ranker: {name: ...} or baseline: lightgbm"
            )
        return self


class Curves(SpecModel):
    """Entries that differ by a number, drawn over it: what they are judged by."""

    over: str = Field(min_length=1)
    """What the number is, such as `events of a history`."""
    lines: dict[Name, dict[Annotated[int, Field(gt=0)], Name]] = Field(min_length=1)
    """By line, its entries by their number."""
    speed: bool = False
    """Whether rows trained a second are drawn as well; where other work ran beside, they say little."""


class ComparisonSpec(SpecModel):
    """A whole comparison file."""

    name: Name
    """Name of the comparison and its file."""
    title: str = Field(min_length=1)
    """Heading in the results."""
    labels: str = Field(min_length=1)
    """What makes a label 1, in words."""
    pipeline: Name
    """Pipeline whose stages build the training set."""
    dataset: Name
    """Stage of it that gives the training set."""
    params: dict[Name, str | int | float | bool] = Field(default_factory=dict)
    """Values for the pipeline's params; the others keep their defaults."""
    judge_by: JudgeBy | None = None
    """What chooses epochs and configs, and orders the tables; left out, what the training set says to `judge_by`."""
    seed_param: Name | None = None
    """Param that takes each run's seed, so that each seed has a random split of its own."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Config of `train_ranker` that the rankers share."""
    entries: dict[Name, EntrySpec] = Field(min_length=1)
    """Rows of the table, by name."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    """Seed of each run."""
    weighted: bool = False
    """Whether test figures count rows by the weights that the training set gives them."""
    against: Name | None = None
    """Entry that the others are marked against."""
    curves: Curves | None = None
    """A second picture, of entries over a number."""
    references: tuple[Reference, ...] = ()
    """Published numbers."""
    notes: str = ""
    """Markdown below the table: how it was measured, what to conclude."""


@dataclass(frozen=True)
class Candidate:
    """One config that an entry may run with."""

    change: dict[str, Any]
    """What it changes in its entry; empty for the entry itself."""
    config: dict[str, Any]
    """The component's config without its seed."""
    origin: dict[KeyPath, KeyPath]
    """Where in the file each top-level key of the config, and each key of `ranker`, was written."""
    where: KeyPath
    """Place of the candidate in the file."""

    def place(self, inner: KeyPath) -> KeyPath:
        """Return where in the file the value at `inner` of the config stands."""
        for end in (2, 1):
            if len(inner) >= end and inner[:end] in self.origin:
                return (*self.origin[inner[:end]], *inner[end:])
        return self.where


def component_of(entry: EntrySpec) -> ComponentSpec:
    """Return what runs an entry: it trains a ranker, or fits and judges a baseline."""
    return catalog()[BASELINES[entry.baseline] if entry.baseline else TRAIN]


def candidates(spec: ComparisonSpec, name: str) -> tuple[Candidate, ...]:
    """Return the configs of an entry: one per line of its grid, or its own when it has no grid."""
    entry = spec.entries[name]
    here: KeyPath = ("entries", name)
    if not entry.grid:
        return (_candidate(spec, entry, CandidateSpec(), here, here),)
    return tuple(_candidate(spec, entry, tried, here, (*here, "grid", at)) for at, tried in enumerate(entry.grid))


def _candidate(
    spec: ComparisonSpec, entry: EntrySpec, tried: CandidateSpec, here: KeyPath, where: KeyPath
) -> Candidate:
    config: dict[str, Any] = {}
    origin: dict[KeyPath, KeyPath] = {}
    # What rankers share is written for `train_ranker`; a baseline has keys of its own.
    layers = [] if entry.baseline else [(spec.with_, ("with",))]
    for keys, place in [*layers, (entry.with_, (*here, "with")), (tried.with_, (*where, "with"))]:
        config |= keys
        origin |= {(key,): (*place, key) for key in keys}
    if entry.ranker is not None:
        config["ranker"] = entry.ranker | tried.ranker
        origin |= {("ranker",): (*here, "ranker")}
        origin |= {("ranker", key): (*here, "ranker", key) for key in entry.ranker}
        origin |= {("ranker", key): (*where, "ranker", key) for key in tried.ranker}
    change = dict(tried.with_) | ({"ranker": dict(tried.ranker)} if tried.ranker else {})
    return Candidate(change=change, config=config, origin=origin, where=where)
