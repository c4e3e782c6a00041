"""Which command continues a run that did not finish? The one that a failed run prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Set
from datetime import datetime
from typing import Any

from pipelines.language.plan import Plan
from pipelines.language.selection import Selection, select


def command_to_continue(
    name: str,
    plan: Plan,
    *,
    selection: Selection,
    params: Mapping[str, Any],
    moment: datetime,
    profile: str | None,
    finished: Set[str],
    failed: str,
) -> str:
    """Return the command line.

    It starts at the failed stage and takes what this run has finished as it was made, also where a
    cache is off. Where other stages are due as well, the run as a whole is asked for again: what is
    finished comes from the store then, too.

    Args:
        name: the pipeline as it was named.
        plan: the whole pipeline.
        selection: what the run was asked for.
        params: value of every parameter.
        moment: time the run was for; it is repeated where the window depends on it.
        profile: name of the profile, or None.
        finished: stages that the run finished.
        failed: stage that failed; empty when it was none.
    """
    words = ["rankmill", "run", name]
    if profile:
        words += ["--profile", profile]
    for param, value in params.items():
        if value != plan.spec.params[param].default:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words += ["--param", f"{param}={text}"]
    if plan.spec.window.end is None:
        words += ["--at", moment.isoformat(timespec="seconds")]
    return shlex.join([*words, *str(_rest(plan, selection, finished, failed)).split()])


def _rest(plan: Plan, selection: Selection, finished: Set[str], failed: str) -> Selection:
    """Return the part that is still due."""
    if not failed or selection.extent == "only":
        return selection
    asked = {stage.name for stage in select(plan, selection).stages}
    later = Selection("from", failed)
    covered = {stage.name for stage in select(plan, later).stages if stage.start == "anew"}
    return later if asked - finished <= covered else selection
