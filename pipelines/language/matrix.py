"""Which stages does `matrix:` make? A stage, and every stage that reads it, once for each combination of its values.

They are made when the file is read, so that whatever reads a pipeline knows plain stages only; what stands in them
keeps the place where it was written. A stage that reads a made one is made as often, until an input takes many: it gets
all of them, or those that share the values which it has itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import product
from typing import Any

from components.platform.catalog import catalog
from components.platform.errors import did_you_mean, nearest
from features.ground.yaml_text import KeyPath, Mistake, quoted
from pipelines.language.document import Document
from pipelines.language.params import texts
from pipelines.language.shape import fit
from pipelines.language.spec import Axes, SpecModel

MOST_STAGES = 64
"""Stages that the matrices of one pipeline may make together."""
REFERENCE = re.compile(r"\$\{matrix\.([a-z][a-z0-9_]*)\}")


class _Matrix(SpecModel):
    matrix: Axes


@dataclass(frozen=True)
class _Axis:
    """One key of a `matrix:` block."""

    stage: str
    name: str
    values: Mapping[str, Any] = field(compare=False)
    """By the word that a made stage's name gets."""
    places: Mapping[str, KeyPath] = field(compare=False)
    """Where each value is written."""

    @property
    def where(self) -> KeyPath:
        """Path of its key."""
        return ("stages", self.stage, "matrix", self.name)


_Combination = Mapping[_Axis, str]
"""Of each axis one of its words."""


def expand(document: Document) -> None:
    """Put the stages that matrices make in the place of those that have one or read one that has.

    What is wrong with a matrix becomes a mistake of the file; then no stage is made, and nothing is said of `with:`.
    """
    stages = document.value.get("stages") if isinstance(document.value, dict) else None
    if not isinstance(stages, dict):
        return
    if not any("matrix" in stage for stage in stages.values() if isinstance(stage, dict)):
        return
    before = _mistakes(document)
    expansion = _Expansion(document, stages)
    made = expansion.made() if expansion.sound else None
    if made is None or _mistakes(document) > before:
        document.doubtful += [("stages", name, "with") for name in stages]
        return
    document.value["stages"] = made


def _mistakes(document: Document) -> int:
    return len(document.mistakes) + sum(len(one.mistakes) for one in document.parents)


class _Expansion:
    """Which axes each stage of a pipeline has, and the stages that come of them."""

    def __init__(self, document: Document, stages: dict[str, Any]) -> None:
        self.document, self.stages = document, stages
        self.blocks = {name: stage for name, stage in stages.items() if isinstance(stage, dict)}
        own = {name: self._own(name) for name, stage in self.blocks.items() if "matrix" in stage}
        order = self._order()
        self.sound = order is not None and all(found is not None for found in own.values())
        """Whether every matrix could be read, and stages wait for earlier ones."""
        self.axes: dict[str, tuple[_Axis, ...]] = dict.fromkeys(stages, ())
        for name in order or () if self.sound else ():
            read = [axis for _, producer, many in self._reads(name) if not many for axis in self.axes[producer]]
            self.axes[name] = tuple(dict.fromkeys([*read, *(own.get(name) or ())]))
            self._refuse_clash(name)

    def made(self) -> dict[str, Any] | None:
        """Return every stage by name; None where they are too many or their names are taken."""
        counts = {name: math.prod(len(axis.values) for axis in axes) for name, axes in self.axes.items() if axes}
        first: KeyPath = next(axis.where[:3] for axes in self.axes.values() for axis in axes)
        if sum(counts.values()) > MOST_STAGES:
            each = ", ".join(f"{name} {count}" for name, count in counts.items())
            self._mistake(first, f"matrix makes {sum(counts.values())} stages ({each}): {MOST_STAGES} are allowed")
            return None
        self._refuse_unused()
        found: dict[str, Any] = {}
        for name in self.stages:
            for combination in self._combinations(name):
                new = self._name(name, combination)
                if new in found or (new != name and new in self.stages):
                    axis = [*self.axes[name]][-1] if self.axes[name] else None
                    where = axis.where if axis else ("stages", name)
                    self._mistake(
                        where, f"there is a stage {quoted(new)} already: rename it, or a value of the matrix", key=True
                    )
                    return None
                found[new] = self._stage(name, new, combination)
        return found

    def _own(self, name: str) -> tuple[_Axis, ...] | None:
        """Return the axes that a stage declares; None where they cannot be read, which the shape or a mistake says."""
        written = self.blocks[name]["matrix"]
        if fit(_Matrix, {"matrix": written})[1]:
            return None
        axes = []
        for axis, values in written.items():
            where: KeyPath = ("stages", name, "matrix", axis)
            if isinstance(values, dict):
                axes.append(_Axis(name, axis, values, {word: (*where, word) for word in values}))
                continue
            words = [re.sub(r"[^a-z0-9]+", "_", _text(value).lower()).strip("_") for value in values]
            for index, word in enumerate(words):
                if not word or word in words[:index]:
                    fault = "is here twice" if word else "gives a stage no name"
                    said = f"{quoted(_text(values[index]))} {fault} in the matrix: write a block of NAME: value"
                    self._mistake((*where, index), said)
                    return None
            places = {word: (*where, index) for index, word in enumerate(words)}
            axes.append(_Axis(name, axis, dict(zip(words, values, strict=True)), places))
        return tuple(axes)

    def _reads(self, name: str) -> Iterator[tuple[KeyPath, str, bool]]:
        """Yield where a stage names another, which, and whether it takes many of it there."""
        stage = self.blocks.get(name, {})
        uses = stage.get("uses")
        component = catalog().get(uses) if isinstance(uses, str) else None
        wires, after = stage.get("in"), stage.get("after")
        for port, source in wires.items() if isinstance(wires, dict) else ():
            many = component is not None and port in component.many_inputs
            for index, one in enumerate(source if isinstance(source, list) else [source]):
                where = ("in", port, index) if isinstance(source, list) else ("in", port)
                if isinstance(one, str) and (producer := one.partition(".")[0]) in self.stages:
                    yield where, producer, many
        for index, earlier in enumerate(after if isinstance(after, list) else ()):
            if isinstance(earlier, str) and earlier in self.stages:
                yield ("after", index), earlier, True
        when = stage.get("when")
        if isinstance(when, str) and "${" not in when and (producer := when.partition(".")[0]) in self.stages:
            yield ("when",), producer, False

    def _order(self) -> list[str] | None:
        """Return the stages, each behind those that it waits for; None where they wait for each other."""
        waits = {name: [producer for _, producer, _ in self._reads(name)] for name in self.stages}
        try:
            return [*TopologicalSorter(waits).static_order()]
        except CycleError:
            return None

    def _refuse_clash(self, name: str) -> None:
        """Refuse two axes of one name in one stage: `${matrix.NAME}` would mean either."""
        seen: dict[str, _Axis] = {}
        for axis in self.axes[name]:
            other = seen.setdefault(axis.name, axis)
            if other is not axis:
                said = f"stage {quoted(name)} has the axis {quoted(axis.name)} of {quoted(other.stage)} as well: "
                self._mistake(axis.where, f"{said}rename one of them", key=True)

    def _refuse_unused(self) -> None:
        """Refuse an axis that no stage reads, and a name that is no axis of the stage."""
        used: set[_Axis] = set()
        for name, stage in self.blocks.items():
            named = {axis.name: axis for axis in self.axes[name]}
            for where, text in texts(stage.get("with")):
                match = REFERENCE.fullmatch(text)
                if match and match[1] in named:
                    used.add(named[match[1]])
                elif match and named:
                    hint = did_you_mean(match[1], named)
                    said = f"the matrix of stage {quoted(name)} has no {quoted(match[1])}{hint}"
                    self._mistake(("stages", name, "with", *where), said)
                    used |= {named[near] for near in [nearest(match[1], named)] if near}
        for axis in dict.fromkeys(axis for axes in self.axes.values() for axis in axes):
            if axis not in used:
                remedy = f"write ${{matrix.{axis.name}}} where it belongs, or remove it"
                self._mistake(axis.where, f"{quoted(axis.name)} of the matrix is never used: {remedy}", key=True)

    def _combinations(self, name: str) -> Iterator[_Combination]:
        axes = self.axes[name]
        for words in product(*(axis.values for axis in axes)):
            yield dict(zip(axes, words, strict=True))

    def _name(self, name: str, combination: _Combination) -> str:
        return "_".join([name, *(combination[axis] for axis in self.axes[name])])

    def _sharing(self, producer: str, combination: _Combination) -> list[str]:
        """Return the stages made of `producer` that differ from a combination in no axis that both have."""
        return [
            self._name(producer, other)
            for other in self._combinations(producer)
            if all(combination.get(axis, word) == word for axis, word in other.items())
        ]

    def _stage(self, name: str, new: str, combination: _Combination) -> Any:
        """Return a stage with the values of a combination, and note where each of its values is written."""
        stage = self.blocks.get(name)
        if stage is None:
            return self.stages[name]
        homes, old, here = self.document.homes, ("stages", name), ("stages", new)
        if new != name:
            self.document.made[new] = name
            homes |= {(*here, *at[2:]): home for at, home in [*homes.items()] if at[:2] == old}
            homes[here] = self.document.home(old)
            stage = {key: value for key, value in stage.items() if key != "matrix"}
            if "group" not in stage:
                stage["group"] = name
                axis = self.axes[name][-1]
                homes[(*here, "group")] = self.document.home(axis.where[:3] if axis.stage == name else old)
            doubts = [doubt for doubt in self.document.doubtful if doubt[:2] == old]
            self.document.doubtful += [(*here, *doubt[2:]) for doubt in doubts]
            named = {axis.name: axis for axis in combination}
            if "with" in stage:
                stage["with"] = self._put(stage["with"], (*here, "with"), named, combination)
        return self._wired(name, stage, here, combination)

    def _put(self, value: Any, where: KeyPath, named: Mapping[str, _Axis], combination: _Combination) -> Any:
        """Return a value with every `${matrix.NAME}` replaced."""
        if isinstance(value, str) and (match := REFERENCE.fullmatch(value)) and match[1] in named:
            axis = named[match[1]]
            word = combination[axis]
            self.document.named[where] = self.document.home(where)
            self.document.homes[where] = self.document.home(axis.places[word])
            return axis.values[word]
        if isinstance(value, dict):
            return {key: self._put(inner, (*where, key), named, combination) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._put(inner, (*where, index), named, combination) for index, inner in enumerate(value)]
        return value

    def _wired(self, name: str, stage: dict[str, Any], here: KeyPath, combination: _Combination) -> dict[str, Any]:
        """Return a stage that names made stages."""
        reads = {where: (producer, many) for where, producer, many in self._reads(name) if self.axes[producer]}
        if not reads:
            return stage
        stage = dict(stage)
        home = {where: self.document.home(("stages", name, *where)) for where in reads}
        if isinstance(stage.get("in"), dict):
            stage["in"] = dict(stage["in"])
        for port, source in stage["in"].items() if isinstance(stage.get("in"), dict) else ():
            if ("in", port) in reads:
                producer, many = reads["in", port]
                sources = [f"{one}.{source.partition('.')[2]}" for one in self._sharing(producer, combination)]
                stage["in"][port] = sources if many else sources[0]
                self.document.homes[(*here, "in", port)] = home["in", port]
            elif isinstance(source, list):
                stage["in"][port] = self._listed(source, ("in", port), reads, home, here, combination)
        if isinstance(stage.get("after"), list):
            stage["after"] = self._listed(stage["after"], ("after",), reads, home, here, combination)
        if ("when",) in reads:
            decider = self._sharing(reads["when",][0], combination)[0]
            stage["when"] = f"{decider}.{stage['when'].partition('.')[2]}"
            self.document.homes[(*here, "when")] = home["when",]
        return stage

    def _listed(
        self,
        entries: list[Any],
        where: KeyPath,
        reads: Mapping[KeyPath, tuple[str, bool]],
        home: Mapping[KeyPath, tuple[Document, KeyPath]],
        here: KeyPath,
        combination: _Combination,
    ) -> list[Any]:
        found: list[Any] = []
        homes = [(index, self.document.home((*here, *where, index))) for index in range(len(entries))]
        for index, entry in enumerate(entries):
            at = (*where, index)
            producer = reads[at][0] if at in reads else None
            _, dot, output = entry.partition(".") if isinstance(entry, str) else ("", "", "")
            made = [f"{one}{dot}{output}" for one in self._sharing(producer, combination)] if producer else [entry]
            for one in made:
                self.document.homes[(*here, *where, len(found))] = home.get(at, homes[index][1])
                found.append(one)
        return found

    def _mistake(self, where: KeyPath, message: str, *, key: bool = False) -> None:
        home, at = self.document.home(where)
        taken = f" (taken by {self.document.path.name})" if home in self.document.parents else ""
        home.mistakes.append(Mistake(home.span(at, key=key), message + taken))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
