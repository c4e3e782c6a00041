"""Are the stages of a pipeline wired to each other? Components, inputs, outputs, what waits for what, and groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

from components.platform.catalog import catalog
from components.platform.errors import did_you_mean, nearest
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule


def component_exists(draft: PipelineDraft) -> Iterator[Finding]:
    """`uses:` names a registered component."""
    for name in draft.block("stages"):
        uses = draft.block("stages", name).get("uses")
        if isinstance(uses, str) and (fault := catalog().fault(uses)):
            yield Finding(("stages", name, "uses"), fault)


def inputs_are_known(draft: PipelineDraft) -> Iterator[Finding]:
    """Every key of `in:` is an input of the component."""
    for name, _, component in draft.stages():
        inputs = component.input_types
        for port in draft.block("stages", name, "in"):
            if port not in inputs:
                hint = did_you_mean(port, inputs) if inputs else ": it takes no inputs"
                yield Finding(
                    ("stages", name, "in", port), f"{component.name} has no input {quoted(port)}{hint}", "key"
                )


def inputs_are_wired(draft: PipelineDraft) -> Iterator[Finding]:
    """Every input that the component needs is wired; a misspelt one is reported once, as unknown."""
    for name, _, component in draft.stages():
        block = draft.block("stages", name).get("in", {})
        if not isinstance(block, dict) or draft.misspelt(name, "in"):
            continue
        inputs = component.input_types
        meant = {nearest(port, inputs) for port in block if port not in inputs}
        for port in component.needed_inputs:
            if port not in block and port not in meant:
                kind = inputs[port]
                offers = draft.offers(kind, but=name)
                hint = f"write {port}: {offers[0]}" if offers else f"add a stage that makes {kind.kind}"
                message = f"input {quoted(port)} of {component.name} is missing in stage {quoted(name)}: {hint}"
                yield Finding(("stages", name, "in") if block else ("stages", name), message, "key")


def wires_start_at_an_output(draft: PipelineDraft) -> Iterator[Finding]:
    """The source of a wire is an output of a stage of this file."""
    stages = draft.block("stages")
    for wire in draft.wires():
        if wire.producer not in stages:
            yield Finding(wire.where, f"no stage {quoted(wire.producer)}{did_you_mean(wire.producer, stages)}")
        elif (component := draft.component(wire.producer)) is not None:
            made = component.output_types
            if wire.output not in made:
                hint = did_you_mean(wire.output, made)
                message = f"stage {quoted(wire.producer)} ({component.name}) has no output {quoted(wire.output)}{hint}"
                yield Finding(wire.where, message)


def wires_fit(draft: PipelineDraft) -> Iterator[Finding]:
    """The artifact that arrives is of the type that the input asks for, or of a narrower one."""
    for wire in draft.wires():
        producer, consumer = draft.component(wire.producer), draft.component(wire.stage)
        made = producer.output_types.get(wire.output) if producer else None
        expected = consumer.input_types.get(wire.input) if consumer else None
        if consumer and made and expected and not issubclass(made, expected):
            offers = draft.offers(expected, but=wire.stage)
            hint = f"{' or '.join(offers[:3])} would fit" if offers else f"add a stage that makes {expected.kind}"
            yield Finding(
                wire.where,
                f"input {quoted(wire.input)} of {consumer.name} takes {expected.kind}, "
                f"but {wire.producer}.{wire.output} is {made.kind}: {hint}",
            )


def inputs_take_what_they_are_given(draft: PipelineDraft) -> Iterator[Finding]:
    """A list is wired to an input that takes several artifacts, and names no stage twice."""
    for name, stage, component in draft.stages():
        for port, source in stage.in_.items():
            if isinstance(source, str) or port not in component.input_types:
                continue
            if port not in component.many_inputs:
                said = f"input {quoted(port)} of {component.name} takes one artifact, not a list: name one"
                yield Finding(("stages", name, "in", port), said)
                continue
            producers = [one.partition(".")[0] for one in source]
            for index, producer in enumerate(producers):
                if producer in producers[:index]:
                    said = f"input {quoted(port)} of {component.name} names stage {quoted(producer)} twice: remove one"
                    yield Finding(("stages", name, "in", port, index), said)


def after_names_stages(draft: PipelineDraft) -> Iterator[Finding]:
    """`after:` lists stages of this file."""
    stages = draft.block("stages")
    for name, stage in draft.spec.stages.items():
        for index, earlier in enumerate(stage.after):
            if earlier not in stages:
                message = f"no stage {quoted(earlier)}{did_you_mean(earlier, stages)}"
                yield Finding(("stages", name, "after", index), message)


def verdicts_can_say_no(draft: PipelineDraft) -> Iterator[Finding]:
    """`when:` names an output of an earlier stage that does not say something new in every run."""
    stages = draft.block("stages")
    for name, stage in draft.spec.stages.items():
        if stage.verdict is None:
            continue
        where: KeyPath = ("stages", name, "when")
        producer, output = stage.verdict
        if producer not in stages:
            yield Finding(where, f"no stage {quoted(producer)}{did_you_mean(producer, stages)}")
        elif (component := draft.component(producer)) is not None:
            telling = [made for made, kind in component.output_types.items() if kind.news]
            if output not in component.output_types:
                hint = did_you_mean(output, telling or component.output_types)
                yield Finding(
                    where, f"stage {quoted(producer)} ({component.name}) has no output {quoted(output)}{hint}"
                )
            elif output not in telling:
                said = " or ".join(f"{producer}.{one}" for one in telling) or "a param, or an alarm or a promotion"
                yield Finding(where, f"{producer}.{output} is new in every run and decides nothing: name {said}")


def no_stage_waits_for_itself(draft: PipelineDraft) -> Iterator[Finding]:
    """Wires, `after:` and `when:` lead from earlier to later stages; each circle is told once."""
    waits = _waits(draft)
    for circle in _circles(waits):
        where = waits[circle[0]][circle[1]]
        yield Finding(where, f"stages wait for each other ({' ← '.join(circle)}): remove one of these wires")


def groups_are_not_stages(draft: PipelineDraft) -> Iterator[Finding]:
    """Groups and stages share Airflow's names of tasks."""
    for name, stage in draft.spec.stages.items():
        if stage.group is not None and stage.group in draft.block("stages"):
            message = f"group {quoted(stage.group)} has the name of a stage: give the group another name"
            yield Finding(("stages", name, "group"), message)


def groups_hold_together(draft: PipelineDraft) -> Iterator[Finding]:
    """Nothing waits for one stage of a group and comes before another one: Airflow draws a group as one node."""
    waits = _waits(draft)
    if next(_circles(waits), None) is not None:
        return
    group = {name: stage.group for name, stage in draft.spec.stages.items()}
    unit = {name: f"group {group[name]}" if group[name] else name for name in waits}
    drawn: dict[str, set[str]] = {node: set() for node in unit.values()}
    for name, earlier in waits.items():
        drawn[unit[name]] |= {unit[other] for other in earlier if other in unit} - {unit[name]}
    for circle in _circles(drawn):
        named = next(node for node in circle if node.startswith("group "))
        place = next(name for name in waits if unit[name] == named)
        message = f"stages outside of {named} lie between its stages ({' ← '.join(circle)}): "
        yield Finding(("stages", place, "group"), f"{message}put them into the group, or leave some out of it")


def _waits(draft: PipelineDraft) -> dict[str, dict[str, KeyPath]]:
    """Return by stage what it waits for, and where the file says so."""
    waits: dict[str, dict[str, KeyPath]] = {name: {} for name in draft.spec.stages}
    for wire in draft.wires():
        waits[wire.stage].setdefault(wire.producer, wire.where)
    for name, stage in draft.spec.stages.items():
        for index, earlier in enumerate(stage.after):
            waits[name].setdefault(earlier, ("stages", name, "after", index))
        if stage.verdict is not None:
            waits[name].setdefault(stage.verdict[0], ("stages", name, "when"))
    return waits


def _circles(waits: Mapping[str, Collection[str]]) -> Iterator[list[str]]:
    """Yield circles that share no node, each from the node that comes first in the file and back to it."""
    nodes = list(waits)
    while True:
        try:
            TopologicalSorter({name: [other for other in waits[name] if other in nodes] for name in nodes}).prepare()
        except CycleError as error:
            ring = error.args[1][:0:-1]  # the library goes from what comes earlier to what waits for it, and back
            start = ring.index(min(ring, key=nodes.index))
            yield [*ring[start:], *ring[:start], ring[start]]
            nodes = [name for name in nodes if name not in ring]
        else:
            return


WIRING_RULES: tuple[Rule, ...] = (
    component_exists,
    inputs_are_known,
    inputs_are_wired,
    wires_start_at_an_output,
    wires_fit,
    inputs_take_what_they_are_given,
    after_names_stages,
    verdicts_can_say_no,
    no_stage_waits_for_itself,
    groups_are_not_stages,
    groups_hold_together,
)
"""Every rule about wires, in the order in which a reader would check by hand."""
