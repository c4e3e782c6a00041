"""What does a rule judge, and how do its findings become problems? One signature and one loop for every kind of file.

A rule is a function of one draft: what could be made of a file, and the file itself. It yields findings, speaks only
about what it can judge, and leaves what is broken for another rule to that rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from components.platform.artifacts import Artifact
from components.platform.catalog import catalog
from components.platform.columns import Columns
from components.platform.contract import ComponentSpec
from components.platform.errors import nearest
from components.platform.paths import rooted
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language import shape
from pipelines.language.document import Document
from pipelines.language.params import misfit, substitute
from pipelines.language.problems import Finding
from pipelines.language.profile_spec import ProfileSpec
from pipelines.language.spec import PipelineSpec, StageSpec

Spec = TypeVar("Spec", bound=BaseModel)
Judged = TypeVar("Judged", bound="Draft[Any]")


@dataclass(frozen=True)
class Draft(Generic[Spec]):
    """A file on its way to what it describes."""

    path: Path
    written: Any
    """Its content as it stands there."""
    sound: Any
    """The content without what is malformed."""
    spec: Spec
    """The same as a model, with stand-ins for keys that the file lacks."""

    def at(self, *where: str | int) -> Any:
        """Return what stands at a key path of the file, or None."""
        value = self.written
        for part in where:
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def block(self, *where: str | int) -> dict[str, Any]:
        """Return the block at a key path of the file; empty when there is none."""
        value = self.at(*where)
        return value if isinstance(value, dict) else {}

    def misnamed(self, kind: str) -> Iterator[Finding]:
        """Yield that a file has another name than what it describes: either leads to the other."""
        name, stem = self.at("name"), self.path.stem
        if isinstance(name, str) and name != stem:
            yield Finding(
                ("name",), f"the {kind} is named {quoted(name)} in a file named {quoted(stem)}: rename either"
            )


def judge(
    document: Document,
    model: type[Spec],
    stand_ins: dict[str, Any],
    draft: Callable[[Path, Any, Any, Spec], Judged],
    rules: Iterable[Callable[[Judged], Iterator[Finding]]],
) -> tuple[Judged | None, list[Finding]]:
    """Return a file as a draft, and everything that is wrong with it.

    Whatever is malformed is reported and left out, and the rest is judged all the same.

    Returns:
        The draft, or None where nothing could be made of the file, and the findings.
    """
    if document.value is None and document.mistakes:
        return None, []  # a file in which nothing could be read has said so already
    sound, spec, findings = shape.salvage(model, document.value, stand_ins)
    if spec is None:
        return None, findings
    judged = draft(document.path, document.value, sound, spec)
    return judged, findings + [finding for rule in rules for finding in rule(judged)]


@dataclass(frozen=True)
class Wired:
    """One entry of an `in:` block."""

    stage: str
    input: str
    producer: str
    output: str
    index: int | None = None
    """Place in the list of an input that is given one."""

    @property
    def where(self) -> KeyPath:
        """Path of the entry."""
        here: KeyPath = ("stages", self.stage, "in", self.input)
        return here if self.index is None else (*here, self.index)


@dataclass(frozen=True)
class PipelineDraft(Draft[PipelineSpec]):
    """A pipeline on its way to a plan."""

    profile: Draft[ProfileSpec] | None = None
    """Place that a run of it belongs to; None asks nothing."""
    of_folder: Callable[[KeyPath], bool] = lambda where: False
    """Whether a value is what its folder's defaults say to all pipelines."""

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Every parameter's default that fits, as in a run that a schedule starts."""
        params = self.spec.params.items()
        return {name: one.default for name, one in params if not one.required and not misfit(one, one.default)}

    def component(self, stage: str) -> ComponentSpec | None:
        """Return what a stage runs, or None when that is not known."""
        return self._components.get(stage)

    @cached_property
    def _components(self) -> dict[str, ComponentSpec | None]:
        used = {stage: self.block("stages", stage).get("uses") for stage in self.block("stages")}
        return {stage: catalog().get(uses) if isinstance(uses, str) else None for stage, uses in used.items()}

    @cached_property
    def asked(self) -> dict[Any, Any]:
        """What several rules ask, by the function that answers."""
        return {}

    def with_block(self, stage: str) -> Any:
        """Return the `with:` block of a stage with every parameter at its default, None without the stage."""
        return substitute(self.spec.stages[stage].with_, self.defaults) if stage in self.spec.stages else None

    @cached_property
    def configs(self) -> Mapping[str, BaseModel | None]:
        """The config of every stage with every parameter at its default, or None where it is not valid."""
        return {stage: self._config(stage) for stage in self.spec.stages}

    def _config(self, stage: str) -> BaseModel | None:
        component = self.component(stage)
        if component is None or not isinstance(self.block("stages", stage).get("with", {}), dict):
            return None
        block = rooted(component.config, self.with_block(stage), self.path.parent)
        return shape.fit(component.config, block)[0]

    def nearest(self, stage: str, inner: KeyPath) -> KeyPath:
        """Return the path of a value below `with:` of a stage, or of the nearest block that the file has."""
        value: Any = self.block("stages", stage).get("with")
        if not isinstance(value, dict):
            return ("stages", stage)
        path: KeyPath = ("stages", stage, "with")
        for part in inner:
            inside = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
            if part not in inside:
                break
            path, value = (*path, part), value[part]
        return path

    def misspelt(self, stage: str, key: str) -> bool:
        """Return whether a stage has an unknown key that probably means `key`."""
        keys = {field.alias or name for name, field in StageSpec.model_fields.items()}
        return key in {nearest(word, keys) for word in self.block("stages", stage) if word not in keys}

    def wires(self) -> Iterator[Wired]:
        """Yield every wire, in the order of the file."""
        for name, stage in self.spec.stages.items():
            for port, source in stage.in_.items():
                for index, one in enumerate([source] if isinstance(source, str) else source):
                    producer, _, output = one.partition(".")
                    yield Wired(name, port, producer, output, None if isinstance(source, str) else index)

    def stages(self) -> Iterator[tuple[str, StageSpec, ComponentSpec]]:
        """Yield name, block and component of every stage whose component is known."""
        for name, stage in self.spec.stages.items():
            if (component := self.component(name)) is not None:
                yield name, stage, component

    def offers(self, kind: type[Artifact], but: str) -> list[str]:
        """Return each `stage.output` of other stages that fits where `kind` is asked for."""
        return [
            f"{name}.{output}"
            for name in self.block("stages")
            if name != but and (component := self.component(name)) is not None
            for output, made in component.output_types.items()
            if issubclass(made, kind)
        ]

    @cached_property
    def columns(self) -> Mapping[str, Mapping[str, Columns]]:
        """What each component tells of the columns that flow along the wires, put together: by stage and input.

        A stage that is broken for another rule, and one whose component tells nothing, leaves everything after it
        unjudged.
        """
        sources: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in self.spec.stages}
        for wire in self.wires():
            sources[wire.stage][wire.input] = (wire.producer, wire.output)
        sorter = TopologicalSorter({name: {at for at, _ in ports.values()} for name, ports in sources.items()})
        with suppress(CycleError):  # stages in a circle never come: another rule tells of the circle
            sorter.prepare()
        given: dict[str, Mapping[str, Columns]] = {}
        taken: dict[str, Mapping[str, Columns]] = {}
        while ready := sorter.get_ready():
            for name in ready:
                columns = {port: given.get(at, {}).get(out) for port, (at, out) in sources.get(name, {}).items()}
                taken[name] = {port: known for port, known in columns.items() if known is not None}
                component, config = self.component(name), self.configs.get(name)
                given[name] = component.flow.gives(config, taken[name]) if component and config is not None else {}
            sorter.done(*ready)
        return taken


Rule = Callable[[PipelineDraft], Iterator[Finding]]
"""A rule about a pipeline."""
