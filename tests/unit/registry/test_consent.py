"""What do a ledger's entries say of holds, of questions that are open, and of approvals that nobody has used?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.champion.consent import hold, open_questions, unused_approval
from registry.champion.ledger import MOVES, Asked, Entry
from registry.champion.protection import CHAMPION_VARIABLE, GROUPS_VARIABLE, NotAllowedError, Protection

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACTIONS = ("promoted", "asked", "approved", "declined", "refused", "unchanged", "moved outside", "held", "released")


def ledger(*said: tuple[str, dict[str, Any]]) -> list[Entry]:
    """Return entries, an hour apart; each is about version 1 unless it says otherwise."""
    return [
        Entry.model_validate(
            {"action": action, "model": "m", "version": 1, "digest": "d1", "actor": "ada", "sequence": number}
            | {"at": NOW + number * HOUR, "chain": ""}
            | ({"asked": Asked(through="airflow", verdict="v")} if action == "asked" else {})
            | more
        )
        for number, (action, more) in enumerate(said, start=1)
    ]


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    said: list[tuple[str, dict[str, Any]]] = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        action = draw(st.sampled_from(ACTIONS))
        more: dict[str, Any] = {"digest": draw(st.sampled_from(["d1", "d2"]))}
        if action in ("approved", "declined"):
            more["settles"] = draw(st.integers(1, number))
        said.append((action, more))
    return ledger(*said)


@given(histories())
def test_a_question_is_open_until_it_is_answered_or_the_champion_moved(entries: list[Entry]) -> None:
    moved = max((entry.sequence for entry in entries if entry.action in MOVES), default=0)
    found = open_questions(entries)
    for one in found:
        assert one.action == "asked" and one.sequence > moved
        assert not any(entry.settles == one.sequence for entry in entries)
    newest = [one for one in entries if one.action == "asked" and one.sequence > moved]
    for digest in ("d1", "d2"):
        mine = [one for one in newest if one.digest == digest]
        if mine and not any(entry.settles == mine[-1].sequence for entry in entries):
            assert mine[-1] in found, "the last question about a content stands"


@given(histories(), st.sampled_from(["d1", "d2"]))
def test_an_approval_is_used_by_the_next_move_and_undone_by_a_no(entries: list[Entry], digest: str) -> None:
    assert unused_approval(entries, digest, "another champion") is None
    found = unused_approval(entries, digest, "")
    if found is not None:
        later = entries[found.sequence :]
        assert found.action == "approved" and found.digest == digest
        assert not any(one.action in MOVES for one in later)
        assert not any(one.action == "declined" and one.digest == digest for one in later)
    moved = ledger(*((one.action, one.model_dump(include={"digest", "settles"})) for one in entries), ("promoted", {}))
    assert unused_approval(moved, digest, "") is None and open_questions(moved) == ()


def test_a_hold_ends_by_itself_or_by_a_person_and_the_last_one_counts() -> None:
    entries = ledger(("held", {"until": NOW + 30 * HOUR}))
    assert hold(entries, NOW + 30 * HOUR - timedelta(seconds=1)) is entries[0]
    assert hold(entries, NOW + 30 * HOUR) is None, "the moment itself is free"
    assert hold(ledger(("held", {}), ("released", {})), NOW) is None
    longer = ledger(("held", {"until": NOW}), ("promoted", {}), ("held", {}))
    assert hold(longer, NOW + 999 * HOUR) is longer[2]


def test_who_may_move_is_who_is_named_and_nobody_when_it_cannot_be_read() -> None:
    assert Protection.from_environment({}).refusal("pipeline:any", "m") is None
    env = {
        CHAMPION_VARIABLE: json.dumps({"pipelines": ["nightly"], "people": ["leads", "eve"]}),
        GROUPS_VARIABLE: json.dumps({"leads": ["ada", "bob"]}),
    }
    found = Protection.from_environment(env)
    for actor in ("pipeline:nightly", "ada", "bob", "eve"):
        found.check(actor, "m")
    for actor in ("pipeline:other", "leads", "nightly", "pipeline:ada", "unknown", ""):
        with pytest.raises(NotAllowedError) as refused:
            found.check(actor, "m")
        assert refused.value.exit_code == 77
    assert found.people(["leads", "ada", "zoe"]) == ("ada", "bob", "zoe")
    for broken in ("{", "[]", '{"pipelines": 3}', '{"else": []}'):
        with pytest.raises(BadInputError, match="nobody may move the champion"):
            Protection.from_environment({CHAMPION_VARIABLE: broken})
