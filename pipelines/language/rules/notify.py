"""Can what a pipeline wants to tell ever happen? A deadline that is missed, a champion that moves, an alarm."""

from __future__ import annotations

from collections.abc import Iterator

from components.platform.artifacts import Artifact, DriftAlarm, Promotion
from pipelines.language.problems import Finding
from pipelines.language.rules.draft import PipelineDraft, Rule

_MADE_BY: dict[str, tuple[type[Artifact], str]] = {
    "promotion": (Promotion, "promotes a version, as promote_model does"),
    "drift": (DriftAlarm, "raises an alarm, as watch_drift does"),
}


def what_is_told_can_happen(draft: PipelineDraft) -> Iterator[Finding]:
    """An event of `notify` is one that the pipeline can have; what its folder says is for those that can."""
    notify = draft.spec.notify
    for event in notify.events if notify else ():
        where = ("notify", event)
        if draft.of_folder(where):
            continue
        if event == "deadline" and draft.spec.deadline is None and draft.at("deadline") is None:
            message = (
                "nobody can be told that a deadline passed, since the pipeline has none: add deadline, or remove this"
            )
            yield Finding(where, message, "key")
        asks = any((draft.with_block(name) or {}).get("approval") for name in draft.spec.stages)
        if event == "approval" and not asks:
            message = "nobody is asked, since no stage has approval: give promote_model one, or remove this"
            yield Finding(where, message, "key")
        if event in _MADE_BY:
            kind, doing = _MADE_BY[event]
            # A stage whose component is not known may be the one.
            unknown = any(draft.component(stage) is None for stage in draft.block("stages"))
            if not unknown and not draft.offers(kind, but=""):
                yield Finding(
                    where, f"nobody can be told of it, since no stage {doing}: add one, or remove this", "key"
                )


NOTIFY_RULES: tuple[Rule, ...] = (what_is_told_can_happen,)
"""Every rule about who is told."""
