"""Does the gate ask for a comparison of these two versions, recent and large enough, and name what is missing?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from registry.gate.policy import ServedPolicy
from registry.gate.served_verdict import ServedVerdict, not_shown, served_verdicts, tag_of
from registry.serving.model.contract import RegisteredVersion

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def version(number: int) -> RegisteredVersion:
    return RegisteredVersion(
        model="shop", version=number, digest=f"d{number}", model_uri="", ranker_digest="r", report_digest="",
        created_at=NOW,
    )  # fmt: skip


def shown(**changes: Any) -> str:
    found: dict[str, Any] = {
        "uri": "u", "digest": "c", "answer": "passed", "reason": "not worse", "challenger_digest": "d2", "champion": 1,
        "champion_digest": "d1", "rows": 5000, "decided_at": NOW - timedelta(days=1),
    }  # fmt: skip
    return ServedVerdict.model_validate(found | changes).model_dump_json()


def asked(tags: dict[str, str], **policy: Any) -> str | None:
    return not_shown(ServedPolicy.model_validate(policy), tags, version(2), version(1), NOW)


def test_one_comparison_that_passed_is_enough() -> None:
    passed = {tag_of("shadow"): shown()}
    assert asked(passed) is None and asked(passed, by="shadow") is None
    refused = passed | {tag_of("canary"): shown(answer="refused")}
    assert asked(refused) is None
    assert asked(passed, rows=5000, within="1d") is None


@pytest.mark.parametrize(
    ("changes", "policy", "said"),
    [
        ({"answer": "refused", "reason": "like in all rows"}, {}, "refused it: like in all rows"),
        ({"rows": 999}, {}, "is of 999 rows, 1,000 are asked for"),
        ({"decided_at": NOW - timedelta(days=8)}, {}, "is older than 7d"),
        ({"champion": 7, "champion_digest": "d7"}, {}, "is with v7, not with v1, the champion now"),
        ({"challenger_digest": "other"}, {}, "is of other files than v2 has now"),
        ({}, {"by": "canary"}, "let a service ask it as canary"),
    ],
)
def test_anything_less_is_named(changes: dict[str, Any], policy: dict[str, Any], said: str) -> None:
    found = asked({tag_of("shadow"): shown(**changes)}, **policy)
    assert found is not None and said in found


def test_no_comparison_and_one_that_cannot_be_read_show_nothing() -> None:
    nothing = "nothing shows yet that v2 serves as well as v1: let a service ask it as shadow or canary"
    assert (asked({}) or "").startswith(nothing)
    assert (asked({tag_of("shadow"): "{"}) or "").startswith(nothing)
    assert served_verdicts({"rankmill.verdict": "promoted"}) == {}
