"""Does each value fit where it stands? Parameters, references to them, and the `with:` blocks of stages."""

from __future__ import annotations

from collections.abc import Iterator

from components.platform.errors import did_you_mean, nearest
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language import shape
from pipelines.language.params import REFERENCE, misfit, references, substitute, texts
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule


def param_limits_make_sense(draft: PipelineDraft) -> Iterator[Finding]:
    """`minimum` and `maximum` are for numbers, `format` for strings, `items` for lists; choices have the type."""
    for name, param in draft.spec.params.items():
        here = ("params", name)
        for limit in ("minimum", "maximum"):
            if getattr(param, limit) is not None and param.type not in ("integer", "number"):
                yield Finding((*here, limit), f"{limit} is for numbers, and {name} is a {param.type}: remove it", "key")
        if param.format is not None and param.type != "string":
            yield Finding((*here, "format"), f"format is for strings, and {name} is a {param.type}: remove it", "key")
        if param.items is not None and param.type != "array":
            yield Finding((*here, "items"), f"items is for type array, and {name} has {param.type}: remove it", "key")
        if param.enum and param.type in ("array", "object"):
            message = f"enum offers texts and numbers, and {name} has type {param.type}: remove it"
            yield Finding((*here, "enum"), message, "key")
            continue
        if param.minimum is not None and param.maximum is not None and param.minimum > param.maximum:
            yield Finding((*here, "maximum"), f"maximum must be at least the minimum {param.minimum:g}")
        for index, choice in enumerate(param.enum):
            if reason := misfit(param.model_copy(update={"enum": ()}), choice):
                yield Finding((*here, "enum", index), f"enum[{index}] {reason}")


def param_defaults_fit(draft: PipelineDraft) -> Iterator[Finding]:
    """The default of a parameter is a value that the trigger form would accept."""
    for name, param in draft.spec.params.items():
        if not param.required and (reason := misfit(param, param.default)):
            yield Finding(("params", name, "default"), f"default of param {quoted(name)} {reason}")


def references_are_whole_and_known(draft: PipelineDraft) -> Iterator[Finding]:
    """`${params.NAME}` stands alone, where parameters are put in, and names a declared parameter."""
    declared = draft.block("params")
    for where, text in texts(draft.sound):
        if "${" not in text or where[0] == "description" or where[-1] == "description":
            continue
        match = REFERENCE.fullmatch(text)
        placed = where == ("window", "end") or (where[0] == "stages" and where[2:3] in (("with",), ("when",)))
        if text.startswith("${matrix."):
            said = f"{quoted(text)} is not replaced: write ${{matrix.NAME}} as a whole value below with: of a stage "
            yield Finding(where, f"{said}that has this axis or reads one that has")
        elif match is None:
            yield Finding(where, f"{quoted(text)} is not replaced: write ${{params.NAME}} as the whole value")
        elif not placed:
            yield Finding(
                where, "${params.NAME} is replaced only inside with:, in when: and in window.end: write the value out"
            )
        elif match[1] not in declared:
            hint = did_you_mean(match[1], declared) if declared else ": write the value out"
            yield Finding(where, f"no param {quoted(match[1])}{hint}")


def texts_can_be_stored(draft: PipelineDraft) -> Iterator[Finding]:
    """No text holds a character NUL, which neither PostgreSQL under Airflow nor an environment variable can hold."""
    for where, text in texts(draft.sound):
        if "\0" in text:
            key = next((part for part in reversed(where) if isinstance(part, str)), "")
            yield Finding(where, f"the text of {key} holds a character NUL, which no database stores: remove it")


def no_schedule_leaves_a_param_open(draft: PipelineDraft) -> Iterator[Finding]:
    """A run that a schedule starts gives no values, so each parameter has a default."""
    for name, param in draft.spec.params.items():
        if param.required and draft.spec.schedule is not None:
            message = f"param {quoted(name)} has no default, and nobody is asked when a schedule starts a run: "
            yield Finding(("params", name), f"{message}give it one, or set schedule: null", "key")


def params_are_used(draft: PipelineDraft) -> Iterator[Finding]:
    """A parameter that nothing reads would be a field of the form that does nothing."""
    declared = draft.block("params")
    used = {match for _, text in texts(draft.written) for match in REFERENCE.findall(text)}
    used |= {near for name in used - {*declared} if (near := nearest(name, declared))}
    for name in declared:
        if name not in used:
            message = f"param {quoted(name)} is never used: write ${{params.{name}}} where it belongs, or remove it"
            yield Finding(("params", name), message, "key")


def window_end_is_a_date(draft: PipelineDraft) -> Iterator[Finding]:
    """A parameter that ends the window is a date."""
    for where, name in references(draft.spec.window.end).items():
        param = draft.spec.params.get(name)
        if param is not None and (param.type, param.format, param.nullable) != ("string", "date", False):
            message = f"param {quoted(name)} cannot end the window: declare it with type: string and format: date"
            message += ", not nullable" if param.nullable else ""
            yield Finding(("window", "end", *where), message)


def conditions_are_switches(draft: PipelineDraft) -> Iterator[Finding]:
    """A parameter that decides whether a stage runs is true or false."""
    for name, stage in draft.spec.stages.items():
        for param_name in references(stage.when).values():
            param = draft.spec.params.get(param_name)
            if param is not None and (param.type != "boolean" or param.nullable):
                message = (
                    f"param {quoted(param_name)} cannot decide whether a stage runs: declare it with type: boolean"
                )
                yield Finding(("stages", name, "when"), message + (", not nullable" if param.nullable else ""))


def config_fits(draft: PipelineDraft) -> Iterator[Finding]:
    """The `with:` block, with every parameter at its default, is a valid config of the component."""
    for name, stage, component in draft.stages():
        written = draft.block("stages", name).get("with", {})
        if not isinstance(written, dict) or draft.misspelt(name, "with"):
            continue
        used = references(stage.with_)
        partial = {where for where, text in texts(stage.with_) if "${" in text and where not in used}
        _, findings = shape.fit(component.config, draft.with_block(name), f"with: of {component.name}")
        here: KeyPath = ("stages", name, "with")
        for finding in findings:
            param = next((p for where, p in used.items() if where == finding.where[: len(where)]), None)
            if finding.where in partial or (param is not None and param not in draft.defaults):
                continue  # its value is not known; the rules about parameters say why
            where, message = (*here, *finding.where), finding.message
            if param is not None:
                message += f" (the default of param {quoted(param)})"
            elif where == here and "with" not in draft.block("stages", name):
                where = here[:2]
            yield Finding(where, message, finding.at)


def enum_choices_fit(draft: PipelineDraft) -> Iterator[Finding]:
    """Every choice that the trigger form offers is one that the configs take."""
    for param, declared in draft.spec.params.items():
        for index, choice in enumerate(declared.enum):
            if param not in draft.defaults or choice == draft.defaults[param] or misfit(declared, choice):
                continue
            for name, stage in draft.spec.stages.items():
                component = draft.component(name)
                used = [where for where, named in references(stage.with_).items() if named == param]
                if component is None or not used or shape.fit(component.config, draft.with_block(name))[1]:
                    continue
                _, findings = shape.fit(component.config, substitute(stage.with_, draft.defaults | {param: choice}))
                if findings:
                    said = f"stage {quoted(name)} refuses this choice: {findings[0].message}"
                    yield Finding(("params", param, "enum", index), said)
                    break


def names_mean_columns(draft: PipelineDraft) -> Iterator[Finding]:
    """What a config names is a column, a feature or a task of what is wired to the stage."""
    for name, stage, component in draft.stages():
        config = draft.configs.get(name)
        if config is None or name not in draft.columns:
            continue
        by_param = references(stage.with_)
        for fault in component.flow.asks(config, draft.columns[name]):
            if any(fault.where[: len(where)] == where for where in by_param):
                continue  # a run may be given another value
            where = draft.nearest(name, fault.where)
            whole = len(where) == len(fault.where) + 3
            yield Finding(where, fault.message, fault.at if whole else "key")


PARAM_RULES: tuple[Rule, ...] = (
    param_limits_make_sense,
    param_defaults_fit,
    no_schedule_leaves_a_param_open,
    params_are_used,
    window_end_is_a_date,
    conditions_are_switches,
    enum_choices_fit,
)
"""Every rule about the parameters that a pipeline declares, in the order in which a reader would check by hand."""
VALUE_RULES: tuple[Rule, ...] = (
    references_are_whole_and_known,
    texts_can_be_stored,
    config_fits,
    names_mean_columns,
)
"""Every rule about what stands in `with:` blocks, whoever wrote them."""
