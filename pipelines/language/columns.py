"""Which columns flow along the wires of a pipeline? What each component tells of its own, put together.

Parameters have their defaults, as in a run that a schedule starts. A stage that is broken for another rule, and one
whose component tells nothing, leaves everything after it unjudged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from pydantic import BaseModel

from components.platform.columns import Columns
from components.platform.contract import ComponentSpec
from components.platform.paths import rooted
from pipelines.language import shape
from pipelines.language.params import misfit, references, substitute
from pipelines.language.problems import Finding, KeyPath
from pipelines.language.rules.pipeline import Draft
from pipelines.language.spec import StageSpec


def columns_of(draft: Draft) -> Mapping[str, Mapping[str, Columns]]:
    """Return what is known of the inputs of every stage, by stage and port."""
    sources: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in draft.spec.stages}
    for wire in draft.wires():
        sources[wire.stage][wire.input] = (wire.producer, wire.output)
    given: dict[str, Mapping[str, Columns]] = {}
    taken: dict[str, Mapping[str, Columns]] = {}
    waiting = dict(sources)
    # Stages in a circle never come: another rule tells of the circle.
    while ready := [name for name, ports in waiting.items() if not {at for at, _ in ports.values()} & waiting.keys()]:
        for name in ready:
            found = {port: given.get(at, {}).get(out) for port, (at, out) in waiting.pop(name).items()}
            taken[name] = {port: columns for port, columns in found.items() if columns is not None}
            component, config = draft.component(name), config_of(draft, name)
            given[name] = component.flow.gives(config, taken[name]) if component and config is not None else {}
    return taken


def config_of(draft: Draft, stage: str) -> BaseModel | None:
    """Return the config of a stage with every parameter at its default, or None when it is not valid."""
    component = draft.component(stage)
    written = draft.written("stages", stage).get("with", {})
    if component is None or not isinstance(written, dict):
        return None
    defaults = {name: param.default for name, param in draft.spec.params.items() if not misfit(param, param.default)}
    block = substitute(draft.spec.stages[stage].with_, defaults)
    config, _ = shape.fit(component.config, rooted(component.config, block, draft.document.path.parent))
    return config


def names_mean_columns(draft: Draft) -> Iterator[Finding]:
    """What a config names is a column, a feature or a task of what is wired to the stage."""
    known = columns_of(draft)

    def rule(name: str, stage: StageSpec, component: ComponentSpec) -> Iterator[Finding]:
        config = config_of(draft, name)
        if config is None or name not in known:
            return
        by_param = references(stage.with_)
        for fault in component.flow.asks(config, known[name]):
            if any(fault.where[: len(where)] == where for where in by_param):
                continue  # a run may be given another value
            where = _written(draft, name, fault.where)
            whole = len(where) == len(fault.where) + 3
            yield Finding(where, fault.message, fault.at if whole else "key")

    return draft.stages_with(rule)


def _written(draft: Draft, stage: str, where: KeyPath) -> KeyPath:
    """Return the path of a value below `with:`, or of the nearest block that the file has."""
    block = draft.written("stages", stage).get("with")
    path: KeyPath = ("stages", stage, "with")
    if not isinstance(block, dict):
        return path[:2]
    value: object = block
    for part in where:
        inside = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
        if part not in inside:
            break
        path, value = (*path, part), value[part]  # type: ignore[index]
    return path


COLUMN_RULES: tuple[Callable[[Draft], Iterator[Finding]], ...] = (names_mean_columns,)
"""Every rule about columns."""
