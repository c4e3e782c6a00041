"""Does a well-formed pipeline make sense? One small function per rule, one sentence per mistake.

A rule gets a `Draft`: what could be made of the file, and the file itself. It speaks only about
what it can judge; a stage that is broken for another rule is left to that rule. To add a rule,
write the function and put it into `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.platform.artifacts import Artifact
from components.platform.catalog import catalog
from components.platform.contract import ComponentSpec
from components.platform.errors import BadInputError, MissingError, did_you_mean, nearest
from pipelines.language import shape
from pipelines.language.load import Document, read
from pipelines.language.params import REFERENCE, misfit, references, substitute, texts
from pipelines.language.problems import Finding, KeyPath, quoted
from pipelines.language.schedule import cron_fault, schedule_parts
from pipelines.language.spec import PipelineSpec, StageSpec


@dataclass(frozen=True)
class Wired:
    """One entry of an `in:` block."""

    stage: str
    input: str
    producer: str
    output: str

    @property
    def where(self) -> KeyPath:
        """Path of the entry."""
        return ("stages", self.stage, "in", self.input)


@dataclass(frozen=True)
class Draft:
    """A pipeline on its way to a plan.

    Attributes:
        document: the file.
        sound: its value without what is malformed.
        spec: the same as a model, with stand-ins for keys that the file lacks.
    """

    document: Document
    sound: Any
    spec: PipelineSpec

    def written(self, *where: str) -> dict[str, Any]:
        """Return the block at `where` as it stands in the file; empty when there is none."""
        value = self.document.value
        for part in where:
            value = value.get(part) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def component(self, stage: str) -> ComponentSpec | None:
        """Return what a stage runs, or None when that is not known."""
        uses = self.written("stages", stage).get("uses")
        return catalog().get(uses) if isinstance(uses, str) else None

    def misspelt(self, stage: str, key: str) -> bool:
        """Return whether a stage has an unknown key that probably means `key`."""
        known = {field.alias or name for name, field in StageSpec.model_fields.items()}
        return key in {nearest(word, known) for word in self.written("stages", stage) if word not in known}

    def wires(self) -> Iterator[Wired]:
        """Yield every wire, in the order of the file."""
        for name, stage in self.spec.stages.items():
            for port, source in stage.in_.items():
                producer, _, output = source.partition(".")
                yield Wired(name, port, producer, output)

    def stages_with(self, rule: Callable[[str, StageSpec, ComponentSpec], Iterator[Finding]]) -> Iterator[Finding]:
        """Apply a rule to every stage whose component is known."""
        for name, stage in self.spec.stages.items():
            if (component := self.component(name)) is not None:
                yield from rule(name, stage, component)

    def offers(self, wanted: type[Artifact], but: str) -> list[str]:
        """Return each `stage.output` of other stages that fits where `wanted` is asked for."""
        return [
            f"{name}.{output}"
            for name in self.written("stages")
            if name != but and (component := self.component(name)) is not None
            for output, made in component.output_types.items()
            if issubclass(made, wanted)
        ]


def named_like_its_file(draft: Draft) -> Iterator[Finding]:
    """The file of a pipeline carries its name, so that either leads to the other."""
    stem = draft.document.path.stem
    name = draft.written().get("name")
    if isinstance(name, str) and name != stem:
        yield Finding(("name",), f"the pipeline is named {quoted(name)} in a file named {quoted(stem)}: rename either")


def ends_with_yaml(draft: Draft) -> Iterator[Finding]:
    """Pipelines are found by the end of their file's name."""
    name = draft.document.path.name
    if name.endswith(".yml"):
        yield Finding(("name",), f"{name} is found by no command and no scheduler: rename it to {name[:-4]}.yaml")


def component_exists(draft: Draft) -> Iterator[Finding]:
    """`uses:` names a registered component."""
    for name in draft.written("stages"):
        uses = draft.written("stages", name).get("uses")
        if isinstance(uses, str) and (fault := catalog().fault(uses)):
            yield Finding(("stages", name, "uses"), fault)


def inputs_are_known(draft: Draft) -> Iterator[Finding]:
    """Every key of `in:` is an input of the component."""

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        known = component.input_types
        for port in draft.written("stages", name, "in"):
            if port not in known:
                hint = did_you_mean(port, known) if known else ": it takes no inputs"
                yield Finding(
                    ("stages", name, "in", port), f"{component.name} has no input {quoted(port)}{hint}", "key"
                )

    return draft.stages_with(rule)


def inputs_are_wired(draft: Draft) -> Iterator[Finding]:
    """Every input of the component is wired; a misspelt one is reported once, as unknown."""

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        block = draft.written("stages", name).get("in", {})
        if not isinstance(block, dict) or draft.misspelt(name, "in"):
            return
        known = component.input_types
        meant = {nearest(port, known) for port in block if port not in known}
        for port, kind in known.items():
            if port not in block and port not in meant:
                offers = draft.offers(kind, but=name)
                hint = f"write {port}: {offers[0]}" if offers else f"add a stage that makes {kind.kind}"
                message = f"input {quoted(port)} of {component.name} is missing in stage {quoted(name)}: {hint}"
                yield Finding(("stages", name, "in") if block else ("stages", name), message, "key")

    return draft.stages_with(rule)


def wires_start_at_an_output(draft: Draft) -> Iterator[Finding]:
    """The source of a wire is an output of a stage of this file."""
    stages = draft.written("stages")
    for wire in draft.wires():
        if wire.producer not in stages:
            yield Finding(wire.where, f"no stage {quoted(wire.producer)}{did_you_mean(wire.producer, stages)}")
        elif (component := draft.component(wire.producer)) is not None:
            made = component.output_types
            if wire.output not in made:
                hint = did_you_mean(wire.output, made)
                message = f"stage {quoted(wire.producer)} ({component.name}) has no output {quoted(wire.output)}{hint}"
                yield Finding(wire.where, message)


def wires_fit(draft: Draft) -> Iterator[Finding]:
    """The artifact that arrives is of the type that the input asks for, or of a narrower one."""
    for wire in draft.wires():
        producer, consumer = draft.component(wire.producer), draft.component(wire.stage)
        made = producer.output_types.get(wire.output) if producer else None
        wanted = consumer.input_types.get(wire.input) if consumer else None
        if consumer and made and wanted and not issubclass(made, wanted):
            offers = draft.offers(wanted, but=wire.stage)
            hint = f"{' or '.join(offers[:3])} would fit" if offers else f"add a stage that makes {wanted.kind}"
            yield Finding(
                wire.where,
                f"input {quoted(wire.input)} of {consumer.name} takes {wanted.kind}, "
                f"but {wire.producer}.{wire.output} is {made.kind}: {hint}",
            )


def after_names_stages(draft: Draft) -> Iterator[Finding]:
    """`after:` lists stages of this file."""
    stages = draft.written("stages")
    for name, stage in draft.spec.stages.items():
        for index, earlier in enumerate(stage.after):
            if earlier not in stages:
                message = f"no stage {quoted(earlier)}{did_you_mean(earlier, stages)}"
                yield Finding(("stages", name, "after", index), message)


def no_stage_waits_for_itself(draft: Draft) -> Iterator[Finding]:
    """Wires and `after:` lead from earlier to later stages; each circle is told once."""
    waits = _waits(draft)
    done: set[str] = set()
    for start in waits:
        circle = _circle(waits, start, done)
        if circle:
            yield Finding(
                waits[circle[0]][circle[1]],
                f"stages wait for each other ({' ← '.join(circle)}): remove one of these wires",
            )


def groups_hold_together(draft: Draft) -> Iterator[Finding]:
    """Nothing waits for one stage of a group and comes before another one: Airflow draws a group as one node."""
    if next(no_stage_waits_for_itself(draft), None) is not None:
        return
    waits = _waits(draft)
    group = {name: stage.group for name, stage in draft.spec.stages.items()}
    unit = {name: f"group {group[name]}" if group[name] else name for name in waits}
    drawn: dict[str, dict[str, KeyPath]] = {node: {} for node in unit.values()}
    for name, earlier in waits.items():
        for other in earlier:
            if other in unit and unit[other] != unit[name]:
                drawn[unit[name]].setdefault(unit[other], ("stages", name))
    done: set[str] = set()
    for start in drawn:
        if circle := _circle(drawn, start, done):
            named = next(node for node in circle if node.startswith("group "))
            place = next(name for name in waits if unit[name] == named)
            message = f"stages outside of {named} lie between its stages ({' ← '.join(circle)}): "
            yield Finding(("stages", place, "group"), f"{message}put them into the group, or leave some out of it")


def _waits(draft: Draft) -> dict[str, dict[str, KeyPath]]:
    """Return by stage what it waits for, and where the file says so."""
    waits: dict[str, dict[str, KeyPath]] = {name: {} for name in draft.spec.stages}
    for wire in draft.wires():
        waits[wire.stage].setdefault(wire.producer, wire.where)
    for name, stage in draft.spec.stages.items():
        for index, earlier in enumerate(stage.after):
            waits[name].setdefault(earlier, ("stages", name, "after", index))
    return waits


def _circle(waits: dict[str, dict[str, KeyPath]], start: str, done: set[str]) -> list[str]:
    """Return a circle that can be reached from `start`, and mark all that was looked at as done."""
    path: list[str] = []
    open_branches = [iter([start])]
    while open_branches:
        name = next(open_branches[-1], None)
        if name is None:
            open_branches.pop()
            if path:
                done.add(path.pop())
        elif name in path:
            done.update(path)
            return [*path[path.index(name) :], name]
        elif name in waits and name not in done:
            path.append(name)
            open_branches.append(iter(waits[name]))
    return []


def groups_are_not_stages(draft: Draft) -> Iterator[Finding]:
    """Groups and stages share Airflow's names of tasks."""
    for name, stage in draft.spec.stages.items():
        if stage.group is not None and stage.group in draft.written("stages"):
            message = f"group {quoted(stage.group)} has the name of a stage: give the group another name"
            yield Finding(("stages", name, "group"), message)


def param_limits_make_sense(draft: Draft) -> Iterator[Finding]:
    """`minimum` and `maximum` are for numbers, `format` for strings, and each `enum` value has the type."""
    for name, param in draft.spec.params.items():
        here = ("params", name)
        for limit in ("minimum", "maximum"):
            if getattr(param, limit) is not None and param.type not in ("integer", "number"):
                yield Finding((*here, limit), f"{limit} is for numbers, and {name} is a {param.type}: remove it", "key")
        if param.format is not None and param.type != "string":
            yield Finding((*here, "format"), f"format is for strings, and {name} is a {param.type}: remove it", "key")
        if param.minimum is not None and param.maximum is not None and param.minimum > param.maximum:
            yield Finding((*here, "maximum"), f"maximum must be at least the minimum {param.minimum:g}")
        for index, choice in enumerate(param.enum):
            if reason := misfit(param.model_copy(update={"enum": ()}), choice):
                yield Finding((*here, "enum", index), f"enum[{index}] {reason}")


def param_defaults_fit(draft: Draft) -> Iterator[Finding]:
    """The default of a parameter is a value that the trigger form would accept."""
    for name, param in draft.spec.params.items():
        if reason := misfit(param, param.default):
            yield Finding(("params", name, "default"), f"default of param {quoted(name)} {reason}")


def references_are_whole_and_known(draft: Draft) -> Iterator[Finding]:
    """`${params.NAME}` stands alone, where parameters are put in, and names a declared parameter."""
    declared = draft.written("params")
    for where, text in texts(draft.sound):
        if "${" not in text or where[0] == "description" or where[-1] == "description":
            continue
        match = REFERENCE.fullmatch(text)
        placed = where == ("window", "end") or (where[0] == "stages" and where[2:3] == ("with",))
        if match is None:
            yield Finding(where, f"{quoted(text)} is not replaced: write ${{params.NAME}} as the whole value")
        elif not placed:
            yield Finding(where, "${params.NAME} is replaced only inside with: and in window.end: write the value out")
        elif match[1] not in declared:
            yield Finding(where, f"no param {quoted(match[1])}{did_you_mean(match[1], declared)}")


def texts_can_be_stored(draft: Draft) -> Iterator[Finding]:
    """No text holds a character NUL, which neither PostgreSQL under Airflow nor an environment variable can hold."""
    for where, text in texts(draft.sound):
        if "\0" in text:
            key = next((part for part in reversed(where) if isinstance(part, str)), "")
            yield Finding(where, f"the text of {key} holds a character NUL, which no database stores: remove it")


def params_are_used(draft: Draft) -> Iterator[Finding]:
    """A parameter that nothing reads would be a field of the form that does nothing."""
    declared = draft.written("params")
    used = {match for _, text in texts(draft.document.value) for match in REFERENCE.findall(text)}
    used |= {near for name in used - {*declared} if (near := nearest(name, declared))}
    for name in declared:
        if name not in used:
            message = f"param {quoted(name)} is never used: write ${{params.{name}}} where it belongs, or remove it"
            yield Finding(("params", name), message, "key")


def window_end_is_a_date(draft: Draft) -> Iterator[Finding]:
    """A parameter that ends the window is a date."""
    for where, name in references(draft.spec.window.end).items():
        param = draft.spec.params.get(name)
        if param is not None and (param.type, param.format) != ("string", "date"):
            message = f"param {quoted(name)} cannot end the window: declare it with type: string and format: date"
            yield Finding(("window", "end", *where), message)


def config_fits(draft: Draft) -> Iterator[Finding]:
    """The `with:` block, with every parameter at its default, is a valid config of the component."""
    defaults = {name: param.default for name, param in draft.spec.params.items() if not misfit(param, param.default)}

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        written = draft.written("stages", name).get("with", {})
        if not isinstance(written, dict) or draft.misspelt(name, "with"):
            return
        used = references(stage.with_)
        partial = {where for where, text in texts(stage.with_) if "${" in text and where not in used}
        _, findings = shape.fit(component.config, substitute(stage.with_, defaults), f"with: of {component.name}")
        here: KeyPath = ("stages", name, "with")
        for finding in findings:
            param = next((p for where, p in used.items() if where == finding.where[: len(where)]), None)
            if finding.where in partial or (param is not None and param not in defaults):
                continue  # its value is not known; the rules about parameters say why
            where, message = (*here, *finding.where), finding.message
            if param is not None:
                message += f" (the default of param {quoted(param)})"
            elif where == here and "with" not in draft.written("stages", name):
                where = here[:2]
            yield Finding(where, message, finding.at)

    return draft.stages_with(rule)


def enum_choices_fit(draft: Draft) -> Iterator[Finding]:
    """Every choice that the trigger form offers is one that the configs take."""
    defaults = {name: param.default for name, param in draft.spec.params.items() if not misfit(param, param.default)}
    for param, declared in draft.spec.params.items():
        for index, choice in enumerate(declared.enum):
            if param not in defaults or choice == defaults[param] or misfit(declared, choice):
                continue
            for name, stage in draft.spec.stages.items():
                component = draft.component(name)
                used = [where for where, named in references(stage.with_).items() if named == param]
                if component is None or not used or shape.fit(component.config, substitute(stage.with_, defaults))[1]:
                    continue
                _, findings = shape.fit(component.config, substitute(stage.with_, defaults | {param: choice}))
                if findings:
                    said = f"stage {quoted(name)} refuses this choice: {findings[0].message}"
                    yield Finding(("params", param, "enum", index), said)
                    break


def cron_is_valid(draft: Draft) -> Iterator[Finding]:
    """A cron expression has five fields that Airflow understands."""
    cron, _ = schedule_parts(draft.spec)
    if cron is not None and "${" not in cron and (fault := cron_fault(cron)):
        where: KeyPath = ("schedule",) if isinstance(draft.spec.schedule, str) else ("schedule", "cron")
        yield Finding(where, fault)


def assets_exist(draft: Draft) -> Iterator[Finding]:
    """`schedule.assets` names outputs of stages of other pipelines in the same folder."""
    folder = draft.document.path.parent
    for index, asset in enumerate(schedule_parts(draft.spec)[1]):
        where: KeyPath = ("schedule", "assets", index)
        name, stage, output = asset.split(".")
        pipelines = {path.stem for path in folder.glob("*.yaml")} - {draft.document.path.stem}
        if name == draft.document.path.stem:
            yield Finding(where, f"{asset} is made by this pipeline, which would start itself for ever: remove it")
        elif name not in pipelines:
            yield Finding(where, f"no pipeline {quoted(name)}{did_you_mean(name, pipelines)}")
        else:
            try:
                other = read(folder / f"{name}.yaml").value
            except BadInputError:  # a pipeline that cannot be read breaks its own DAG, not this one
                continue
            yield from _asset_exists(where, asset, other, stage, output)


def _asset_exists(where: KeyPath, asset: str, other: Any, stage: str, output: str) -> Iterator[Finding]:
    stages = other.get("stages") if isinstance(other, dict) else None
    if not isinstance(stages, dict):
        return
    pipeline = asset.partition(".")[0]
    if stage not in stages:
        yield Finding(where, f"pipeline {quoted(pipeline)} has no stage {quoted(stage)}{did_you_mean(stage, stages)}")
        return
    uses = stages[stage].get("uses") if isinstance(stages[stage], dict) else None
    component = catalog().get(uses) if isinstance(uses, str) else None
    if component is not None and output not in component.output_types:
        hint = did_you_mean(output, component.output_types)
        yield Finding(where, f"stage {quoted(stage)} of {quoted(pipeline)} has no output {quoted(output)}{hint}")


def assets_form_no_circle(draft: Draft) -> Iterator[Finding]:
    """No pipeline waits, through others, for what is made from its own outputs."""
    own, folder = draft.document.path.stem, draft.document.path.parent
    for index, asset in enumerate(schedule_parts(draft.spec)[1]):
        chains: list[tuple[str, ...]] = [(asset.partition(".")[0],)]
        seen: set[str] = {own}  # a circle among others is theirs, and a pipeline's own outputs have a rule of their own
        while chains:
            chain = chains.pop(0)
            if chain[-1] in seen:
                continue
            seen.add(chain[-1])
            following = _waits_for(folder / f"{chain[-1]}.yaml")
            if own in following:
                path = " waits for ".join([own, *chain, own])
                message = f"pipelines wait for each other in a circle ({path}): schedule one of them otherwise"
                yield Finding(("schedule", "assets", index), message)
                break
            chains += [(*chain, name) for name in following]


def _waits_for(file: Path) -> list[str]:
    """Return the pipelines whose assets start a pipeline, as its file says; none where it cannot be read."""
    try:
        value = read(file).value
    except (BadInputError, MissingError):  # a pipeline that cannot be read breaks its own DAG, not this one
        return []
    schedule = value.get("schedule") if isinstance(value, dict) else None
    assets = schedule.get("assets") if isinstance(schedule, dict) else None
    names = [asset.partition(".")[0] for asset in assets if isinstance(asset, str)] if isinstance(assets, list) else []
    return list(dict.fromkeys(names))


RULES: tuple[Callable[[Draft], Iterator[Finding]], ...] = (
    named_like_its_file,
    ends_with_yaml,
    component_exists,
    inputs_are_known,
    inputs_are_wired,
    wires_start_at_an_output,
    wires_fit,
    after_names_stages,
    no_stage_waits_for_itself,
    groups_are_not_stages,
    groups_hold_together,
    param_limits_make_sense,
    param_defaults_fit,
    references_are_whole_and_known,
    texts_can_be_stored,
    params_are_used,
    window_end_is_a_date,
    config_fits,
    enum_choices_fit,
    cron_is_valid,
    assets_exist,
    assets_form_no_circle,
)
"""Every rule, in the order in which a reader would check by hand."""
