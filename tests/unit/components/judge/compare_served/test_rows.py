"""Do only those rows compare two versions that both answered, or that either might have?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.judge.compare_served.rows import Compared, Side, arms_of, of_canary, of_shadow, pair_of
from components.platform.errors import BadInputError, MissingError
from features.declaration import Declaration

START = datetime(2024, 1, 1, tzinfo=UTC)
ROLES = Declaration(feedback=("like",), domain="band")
Row = Mapping[str, Any]


def row(minute: float, version: int = 1, role: str = "champion", chance: float = 1.0, **more: Any) -> Row:
    """A row of the log; `shadow` names the version that answered it too."""
    return {"minute": minute, "version": version, "role": role, "chance": chance, "shadow": None} | more


def log_of(*found: Row) -> tuple[pa.Table, pa.Table]:
    """Return raw rows and what was answered, numbered as given."""
    text = pa.string()
    shadow = [one["shadow"] for one in found]
    rows = pa.table(
        {
            "row_id": list(range(len(found))),
            "user_id": [one.get("user", 1) for one in found],
            "band": [one.get("band", "old") for one in found],
            "like": pa.array([one.get("like", 0) for one in found], pa.int8()),
        }
    )
    answers = pa.table(
        {
            "row_id": rows["row_id"],
            "served.request": [f"q{one['minute']}" for one in found],
            "served.at": pa.array([START + timedelta(minutes=one["minute"]) for one in found]),
            "served.version": [one["version"] for one in found],
            "served.digest": [f"d{one['version']}" for one in found],
            "served.role": [one["role"] for one in found],
            "served.degraded": pa.array([one.get("degraded", []) for one in found], pa.list_(text)),
            "served.propensity": [one["chance"] for one in found],
            "base.like": [one["version"] / 10 for one in found],
            "answer.like": [one["version"] / 10 + 0.01 for one in found],
            "shadow.version": pa.array(shadow, pa.int64()),
            "shadow.digest": pa.array([None if one is None else f"d{one}" for one in shadow], pa.large_string()),
            "shadow.base.like": pa.array([None if one is None else one / 10 for one in shadow], pa.float64()),
            "shadow.answer.like": pa.array([None if one is None else one / 10 + 0.02 for one in shadow], pa.float64()),
        }
    )
    return rows, answers


def ids(compared: Compared) -> list[int]:
    assert compared.rows["row_id"].to_pylist() == compared.answers["row_id"].to_pylist()
    return compared.rows["row_id"].to_pylist()


def test_the_latest_pair_of_champion_and_shadow_is_compared() -> None:
    compared = of_shadow(
        *log_of(
            row(0, shadow=2),  # another challenger
            row(1, shadow=3),
            row(2),  # not asked again
            row(3, 3, "canary", 0.1, shadow=3),  # its own answer
            row(5, 0, shadow=3),  # another champion
            row(6, shadow=3),
            row(7, 3, shadow=3),  # the shadow just became champion here
        )
    )
    assert (compared.champion, compared.challenger) == (Side(1, "d1"), Side(3, "d3"))
    assert ids(compared) == [1, 5] and compared.others == 5
    pair = pair_of(compared, ROLES, ("like",), "base")
    assert pair.champion is not None
    assert pair.challenger["like"].tolist() == [0.3, 0.3] and pair.champion["like"].tolist() == [0.1, 0.1]
    given = pair_of(compared, ROLES, ("like",), "served")
    assert given.champion is not None
    np.testing.assert_allclose([*given.challenger["like"], *given.champion["like"]], [0.32, 0.32, 0.11, 0.11])


def test_rows_of_a_canary_are_those_that_either_might_have_answered() -> None:
    canary, champion = {"version": 2, "role": "canary", "chance": 0.1}, {"chance": 0.9}
    found = log_of(
        row(0),  # before there was a canary
        row(1, **champion),  # while another one was
        row(1, 3, "canary", 0.1),
        row(2, **canary),
        row(3, **champion),
        row(4, chance=0.1, degraded=["canary"]),  # a canary that failed
        row(4, chance=0.9, degraded=["features"]),
        row(5, 2, chance=0.9),  # the canary just became champion here
        row(6, **canary),
        row(7),  # after it was given up
    )
    compared = of_canary(*found)
    assert (compared.champion, compared.challenger) == (Side(1, "d1"), Side(2, "d2"))
    assert ids(compared) == [3, 4, 6, 8] and compared.others == 6
    challenger, theirs = arms_of(compared, ROLES, "base")
    assert (challenger.rows, theirs.rows) == (2, 2)
    assert challenger.propensity.tolist() == [0.1, 0.1] and theirs.propensity.tolist() == [0.9, 0.9]
    assert challenger.answers["like"].tolist() == [0.2, 0.2] and theirs.answers["like"].tolist() == [0.1, 0.1]


@pytest.mark.parametrize("of", [of_shadow, of_canary])
def test_a_log_of_one_version_compares_nothing(of: Any) -> None:
    rows, answers = log_of(row(0), row(1))
    with pytest.raises(MissingError, match="no row of the log compares the champion with a"):
        of(rows, answers)
    older = ["served.propensity", "served.degraded", *(n for n in answers.column_names if n.startswith("shadow."))]
    with pytest.raises(MissingError, match="no row of the log compares the champion with a"):
        of(rows, answers.drop_columns(older))


def test_a_canary_without_a_champion_beside_it_compares_nothing() -> None:
    with pytest.raises(MissingError):
        of_canary(*log_of(row(0), row(1, 2, "canary", 1.0)))


def test_what_the_log_lacks_is_named() -> None:
    rows, answers = log_of(row(0, shadow=2))
    compared = of_shadow(rows.drop_columns(["band"]), answers)
    with pytest.raises(BadInputError, match="the log has no column 'band': name it in ingest_served"):
        pair_of(compared, ROLES, ("like",), "base")
    compared = of_canary(*log_of(row(0, chance=0.9), row(1, 2, "canary", 0.1)))
    with pytest.raises(BadInputError, match="no column 'band'"):
        arms_of(
            Compared(compared.champion, compared.challenger, rows.drop_columns(["band"]), compared.answers, 0),
            ROLES,
            "base",
        )
    with pytest.raises(BadInputError, match=r"no answers 'shadow.base.love'"):
        pair_of(of_shadow(rows, answers), ROLES, ("like", "love"), "base")


def test_a_task_that_only_the_champion_has_is_told_and_one_that_it_leaves_empty_is_none() -> None:
    rows, answers = log_of(row(0, shadow=2), row(1, shadow=2))
    answers = answers.append_column("base.love", pa.array([0.1, 0.1]))
    answers = answers.append_column("base.hide", pa.nulls(2, pa.float64()))
    answers = answers.append_column("base.expected_value", pa.array([0.1, 0.1]))
    pair = pair_of(of_shadow(rows, answers), ROLES, ("like",), "base")
    assert pair.champion is not None and {*pair.champion} == {"like", "love"}


def test_a_question_is_a_request_where_rankers_know_requests() -> None:
    found = of_shadow(*log_of(row(0, shadow=2), row(0, shadow=2), row(1, shadow=2)))
    roles = ROLES.model_copy(update={"request": "slate"})
    assert pair_of(found, ROLES, ("like",), "base").request is None
    request = pair_of(found, roles, ("like",), "base").request
    assert request is not None and request.tolist() == [0, 0, 1]
