"""Can a watch ever raise its alarm? Its window must hold the day that it watches and the one before."""

from __future__ import annotations

from collections.abc import Iterator

from components.judge.watch_drift.config import Config
from features.ground.durations import written
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule


def window_holds_a_day_before(draft: PipelineDraft) -> Iterator[Finding]:
    """The window of a pipeline is twice what its watch judges at once: a change must be there twice to be an alarm."""
    for name, config in draft.configs.items():
        if isinstance(config, Config) and draft.spec.window.days < (needed := 2 * config.every.days):
            every = written(config.every)
            message = (
                f"stage {name!r} judges {every} at once and asks the {every} before it, so a window of "
                f"{draft.spec.window.days} days is too short: make it {needed} or more"
            )
            yield Finding(("window", "days"), message)


WATCHING_RULES: tuple[Rule, ...] = (window_holds_a_day_before,)
"""Every rule about stages that watch for drift."""
