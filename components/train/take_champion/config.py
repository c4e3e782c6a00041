"""What does `take_champion` take and give? A data set in, the champion that was trained before it out."""

from __future__ import annotations

from components.platform.artifacts import Predecessor, TrainingSet
from components.platform.contract import ComponentConfig, ComponentSpec, Ports
from features.declaration import Frozen, Name

TAKEN = "predecessor.json"
RANKER = "ranker"
"""Folder of the taken ranker's files."""
MODEL_VERSION = "model_version"
"""Annotation of the predecessor: ``model/version``; which version carries the same weights changes no result."""


class Taken(Frozen):
    """What was taken, or why nothing was."""

    ranker_digest: str = ""
    """Digest of the `Ranker` in the folder `ranker`; empty without one."""
    reason: str = ""
    """Why there is none; empty with one."""
    as_expected: bool = True
    """Whether a model that starts from nothing is what a reader expects: there was no champion yet."""


class Config(ComponentConfig):
    """The model."""

    model: Name
    """Registered model whose champion is taken."""


class Inputs(Ports):
    """The rows that are to be learned next."""

    dataset: TrainingSet


class Outputs(Ports):
    """The champion's ranker, or that there is none."""

    predecessor: Predecessor


COMPONENT = ComponentSpec(
    name="take_champion",
    version="1",
    summary="Take the ranker of the newest champion that was trained before this training set, if there is one.",
    config=Config,
    inputs=Inputs,
    outputs=Outputs,
    entrypoint="components.train.take_champion.component:run",
    cacheable=False,
)
