"""Can a scheduler start the pipeline? Cron expressions, and assets that other pipelines make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.platform.catalog import catalog
from components.platform.errors import BadInputError, MissingError, did_you_mean
from features.ground.yaml_text import KeyPath, quoted
from pipelines.language.load import pipelines_in, read
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule
from pipelines.language.schedule import cron_fault, schedule_parts


def cron_is_valid(draft: PipelineDraft) -> Iterator[Finding]:
    """A cron expression has five fields that Airflow understands."""
    cron = schedule_parts(draft.spec).cron
    if cron is not None and "${" not in cron and (fault := cron_fault(cron)):
        where: KeyPath = ("schedule",) if isinstance(draft.spec.schedule, str) else ("schedule", "cron")
        yield Finding(where, fault)


def assets_exist(draft: PipelineDraft) -> Iterator[Finding]:
    """`schedule.assets` names outputs of stages of other pipelines in the same folder."""
    folder = draft.path.parent
    for where, asset in schedule_parts(draft.spec).assets:
        name, stage, output = asset.split(".")
        pipelines = {*pipelines_in(folder)} - {draft.path.stem}
        if name == draft.path.stem:
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


def assets_form_no_circle(draft: PipelineDraft) -> Iterator[Finding]:
    """No pipeline waits, through others, for what is made from its own outputs."""
    own, folder = draft.path.stem, draft.path.parent
    for where, asset in schedule_parts(draft.spec).assets:
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
                yield Finding(where, message)
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
    if isinstance(assets, dict):
        assets = assets.get("all") or assets.get("any")
    names = [asset.partition(".")[0] for asset in assets if isinstance(asset, str)] if isinstance(assets, list) else []
    return list(dict.fromkeys(names))


SCHEDULING_RULES: tuple[Rule, ...] = (cron_is_valid, assets_exist, assets_form_no_circle)
"""Every rule about schedules."""
