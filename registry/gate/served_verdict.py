"""Has a version shown on people's questions that it serves as well as the champion? Tags that comparisons leave.

A comparison is published before its tag is set, so no tag names what never was. A tag holds for the content of both
versions: another champion, or another challenger under the same number, has shown nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args

from pydantic import AwareDatetime, ValidationError

from features.declaration import Frozen
from features.ground.durations import written
from registry.gate.policy import ServedPolicy
from registry.serving.model.contract import RegisteredVersion

Way = Literal["shadow", "canary"]
WAYS: tuple[Way, ...] = get_args(Way)


def tag_of(way: Way) -> str:
    """Return the tag of a version that holds its last comparison of one kind, a `ServedVerdict`."""
    return f"rankmill.served_{way}"


class ServedVerdict(Frozen):
    """What a comparison of served answers said, and where it lies."""

    uri: str
    """URI of the `ServedComparison` artifact."""
    digest: str
    """Its digest."""
    answer: Literal["passed", "refused"]
    reason: str
    challenger_digest: str
    """Content of the version that was compared."""
    champion: int
    champion_digest: str
    """Content of the version that it was compared with."""
    rows: int
    """Rows compared."""
    decided_at: AwareDatetime


def served_verdicts(tags: Mapping[str, str]) -> dict[Way, ServedVerdict]:
    """Return the last comparison of each kind among a version's tags; one that cannot be read is none."""
    found: dict[Way, ServedVerdict] = {}
    for way in WAYS:
        try:
            found[way] = ServedVerdict.model_validate_json(tags.get(tag_of(way), ""))
        except ValidationError:
            continue
    return found


def not_shown(
    policy: ServedPolicy,
    tags: Mapping[str, str],
    challenger: RegisteredVersion,
    champion: RegisteredVersion,
    now: datetime,
) -> str | None:
    """Return why a version's comparisons are not what a policy asks for, or None when one of them is.

    Args:
        policy: what is asked for.
        tags: of the challenger.
        challenger: its content.
        champion: the content that it would replace.
        now: when it is asked, UTC.
    """
    wanted = WAYS if policy.by == "either" else (policy.by,)
    found = {way: verdict for way, verdict in served_verdicts(tags).items() if way in wanted}
    faults = [_fault(policy, way, verdict, challenger, champion, now) for way, verdict in found.items()]
    if None in faults:
        return None
    if faults:
        return "; ".join(filter(None, faults))
    ways = " or ".join(wanted)
    return (
        f"nothing shows yet that v{challenger.version} serves as well as v{champion.version}: let a service ask it as "
        f"{ways}, run compare_served, then this stage again"
    )


def _fault(
    policy: ServedPolicy,
    way: Way,
    verdict: ServedVerdict,
    challenger: RegisteredVersion,
    champion: RegisteredVersion,
    now: datetime,
) -> str | None:
    said = f"the {way} comparison of {verdict.decided_at:%Y-%m-%d %H:%M} UTC"
    if verdict.challenger_digest != challenger.digest:
        return f"{said} is of other files than v{challenger.version} has now: compare again"
    if verdict.champion_digest != champion.digest:
        return f"{said} is with v{verdict.champion}, not with v{champion.version}, the champion now: compare again"
    if now - verdict.decided_at > policy.within:
        return f"{said} is older than {written(policy.within)}: compare again"
    if verdict.answer != "passed":
        return f"{said} refused it: {verdict.reason}"
    if verdict.rows < policy.rows:
        return f"{said} is of {verdict.rows:,} rows, {policy.rows:,} are asked for: compare more"
    return None
