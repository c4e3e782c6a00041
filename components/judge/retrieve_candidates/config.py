"""What does `retrieve_candidates` take and give? A separable ranker in, candidates of each user out, and how good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.platform.artifacts import CandidatesTable, OnnxModel, TrainingSet
from components.platform.columns import Columns, Fault, Flow
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Name
from features.ground.durations import Duration

DAY = timedelta(days=1)
Exclude = Literal["chosen", "shown", "nothing"]


class Mixture(ComponentConfig):
    """One query per kind of item that a user chose before, each with its share of the places (kNN-Embed)."""

    clusters: int = Field(64, ge=1, le=10_000)
    """Kinds that the catalogue is divided into, by k-means of the items' vectors; about the root of their number."""
    neighbours: int = Field(20, ge=0, le=1000)
    """Nearest users whose shares a user's own are smoothed with."""
    own: float = Field(0.8, ge=0, le=1)
    """Weight of a user's own shares against those of the neighbours; 1 does without them."""
    seed: int = 0
    """Seed of k-means."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.own < 1 and not self.neighbours:
            raise ValueError("own below 1 leaves the rest to neighbours, and neighbours is 0: raise one of them")
        return self


class Config(ComponentConfig):
    """How many candidates, for whom, and what they are judged by."""

    at: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field((10, 50, 200), min_length=1)
    """Numbers of candidates per user that are judged; as many as the largest are published."""
    mixture: Mixture | None = None
    """Several queries per user; left out, the user's vector is the only one. Judged beside it on the same users."""
    feedback: Name | None = None
    """Label that makes an item a choice, before and after; the deepest, which the vectors rank by, when left out."""
    horizon: Duration | None = DAY
    """Choices until so long after a user's first row of the test split are to be found; null counts all of it."""
    exclude: Exclude = "chosen"
    """Which items of a user's earlier rows are no candidates: those with any feedback, or all. Drawn negatives
    (`sample_negatives`) were never shown, and to leave them out would tell what was not chosen later."""
    users: Literal["tested", "all"] = "tested"
    """Whose candidates are published: of users of the test split as they were at its beginning, whom the figures are
    about, or of every user as of the newest row."""
    bootstrap: int = Field(500, ge=0, le=100_000)
    """Resamples of users behind each interval; 0 leaves intervals out."""
    seed: int = 0
    """Seed of the resampling."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Execution provider that makes the vectors."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at is {list(self.at)}, must rise: write {sorted(set(self.at))}")
        return self


class Inputs(Ports):
    """A ranker whose score is an inner product, and the users and items to place."""

    model: OnnxModel
    dataset: TrainingSet


class Outputs(Ports):
    """Candidates and how many of the choices they hold."""

    candidates: CandidatesTable


def _asks(config: Config, inputs: Mapping[str, Columns]) -> Iterator[Fault]:
    dataset = inputs.get("dataset")
    if dataset is not None and config.feedback is not None and (absent := dataset.absent(config.feedback)):
        yield Fault(("feedback",), f"the dataset has {absent}")


COMPONENT = ComponentSpec(
    name="retrieve_candidates",
    version="1",
    summary="Find each user's candidates by a separable ranker's vectors, by one query or several, and judge both.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    flow=Flow(asks=_asks),
    entrypoint="components.judge.retrieve_candidates.component:run",
)
