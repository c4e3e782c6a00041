"""What is a component, and what does it get when it runs?

A component is two files: `config.py` says what it is (light: Pydantic only) and holds one
`COMPONENT = ComponentSpec(...)`; `component.py` holds `run` and imports its libraries inside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.approval import Answer, ApprovalNeededError, People, Question
from components.platform.artifacts import Artifact, artifact_fields, many_fields
from components.platform.columns import UNKNOWN, Flow
from features.declaration import Frozen, Window

if TYPE_CHECKING:
    from components.platform.settings import Settings

log = logging.getLogger("rankmill")
MLFLOW_RUN_ID = "mlflow_run_id"
"""Annotation of what a stage publishes: the MLflow run of the training it came from."""


class ComponentConfig(Frozen):
    """Base of every `with:` block: unknown keys are errors, values are final."""


class Ports(Frozen):
    """Base of `Inputs` and `Outputs`: every field is annotated with an artifact type.

    An input may be ``Type | None = None``: a stage need not wire it, and then it is None and no part of the cache key.
    It may be ``dict[str, Type]``: a stage wires one or more, which come by the name of their stage, sorted by it; the
    names are part of the cache key. An output may be neither.
    """


class NoInputs(Ports):
    """Inputs of a component that starts a pipeline."""


@dataclass(frozen=True)
class ComponentSpec:
    """Everything a plan, a schema and a DAG need to know about a component, without its libraries."""

    name: str
    """`verb_noun`, the word after `uses:`."""
    version: str
    """Raised when the same input and config may give another output."""
    summary: str
    config: type[ComponentConfig]
    inputs: type[Ports]
    outputs: type[Ports]
    entrypoint: str
    """``package.module:function`` of `run`, imported only when the stage runs."""
    cacheable: bool = True
    """False when the result depends on state outside the artifacts (a registry, a store)."""
    windowed: bool = False
    """Whether the run's window is part of the input."""
    unkeyed: tuple[str, ...] = ()
    """Config keys that change how long the work takes and not what comes out, so that they are no part of the cache
    key; where that holds of most results only, `recheck` looks at the others."""
    sources: tuple[str, ...] = ()
    """Packages whose source belongs to the cache key besides what the code imports of this tree: those it loads by
    name, or reads data files from."""
    recheck: str = ""
    """``package.module:function`` called on a cache hit as ``(outputs, config, settings)``; it returns why the cached
    result no longer holds outside the store, or None. Light imports."""
    after_publish: str = ""
    """``package.module:function`` called as ``(outputs, config, settings)`` once the outputs exist in the store, also
    when they came from the cache: it tells the outside world where they are (a pointer in a registry), so that no
    pointer can name what was never published, or what they hold (an online store). It must give the same result when
    called again, and may return a line for the run's notes. Not called for a stage that a run only takes from the
    store. Light imports."""
    flow: Flow = UNKNOWN
    """Which columns it publishes and asks for, as far as its config tells; by default nothing is known."""
    package: str = ""
    """Name and version of the installed package that it comes from, which the catalogue fills in and which belong to
    the cache key; empty for a component of ours."""

    @property
    def identity(self) -> str:
        """What stands for the component in a cache key: name, version and the package it comes from."""
        return f"{self.name}@{self.version}" + (f" of {self.package}" if self.package else "")

    @property
    def input_types(self) -> dict[str, type[Artifact]]:
        """Artifact type of each input."""
        return artifact_fields(self.inputs)

    @property
    def needed_inputs(self) -> tuple[str, ...]:
        """Inputs that a stage must wire; one that is annotated ``Type | None = None`` may be left out."""
        return tuple(name for name, info in self.inputs.model_fields.items() if info.is_required())

    @property
    def many_inputs(self) -> frozenset[str]:
        """Inputs that take one or more artifacts, annotated ``dict[str, Type]``."""
        return many_fields(self.inputs)

    @property
    def output_types(self) -> dict[str, type[Artifact]]:
        """Artifact type of each output."""
        return artifact_fields(self.outputs)


@dataclass(frozen=True)
class RunContext:
    """What a running stage may use besides its inputs and config."""

    settings: Settings
    pipeline: str
    """Name of the pipeline, or ``component`` when run alone."""
    stage: str
    run_id: str
    window: Window
    """``[start, end)`` of the run. A component that reads rows from outside also leaves out those stored at its
    `known_until` or later."""
    scratch: Path
    """Local directory that is deleted when the stage ends."""
    kept: Path
    """Local directory of this run and stage that outlives a failure: put there what a reader of the error needs to see
    (a failed data-docs page), and name it in the error."""
    key: str
    fetch: Callable[[Artifact], Path]
    read_annotations: Callable[[Artifact], dict[str, str]]
    notes: list[str] = field(default_factory=list)
    """Lines about what was produced; the run's table shows them. Append through `note`."""
    annotations: dict[str, str] = field(default_factory=dict)
    """Facts about this run (an MLflow run id) that travel in the outputs' manifests but are not part of their digest.
    Add through `annotate`."""
    no_news: set[str] = field(default_factory=set)
    """Outputs that say the same as before, though they are made anew. Add through `says_no_news`."""
    people: People = field(default_factory=People)
    """Who can be asked. Ask through `ask`."""

    def draft(self, name: str) -> Path:
        """Return a new empty local directory for the output `name`."""
        path = self.scratch / "outputs" / name
        path.mkdir(parents=True, exist_ok=False)
        return path

    def local(self, artifact: Artifact) -> Path:
        """Return a local, read-only directory with the artifact's files, digests checked.

        Raises:
            MissingError: there is no such artifact.
            StorageError: its files differ from its manifest.
        """
        return self.fetch(artifact)

    def annotations_of(self, artifact: Artifact) -> dict[str, str]:
        """Return the annotations of the run that published `artifact`."""
        return self.read_annotations(artifact)

    def note(self, line: str) -> None:
        """Record one short line about what the stage produced."""
        self.notes.append(line)
        log.info("%s: %s", self.stage, line)

    def annotate(self, name: str, value: str) -> None:
        """Attach a fact about this run to every output of the stage."""
        self.annotations[name] = value

    def says_no_news(self, output: str) -> None:
        """Keep pipelines that wait for an output from starting: nothing changed that they would act upon."""
        self.no_news.add(output)

    def ask(self, question: Question) -> Answer:
        """Return what a person answers.

        Raises:
            ApprovalNeededError: nobody has yet; the stage is run again when somebody has.
        """
        answer = self.people.ask(question)
        if answer is None:
            raise ApprovalNeededError(question)
        return answer

    def progress(self, message: str) -> None:
        """Tell the reader of the log how far a long stage is."""
        log.info("%s: %s", self.stage, message)
