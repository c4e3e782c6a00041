"""Does each labelled row keep who answered it, and what a shadow said of the same row, without becoming two rows?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingest.ingest_served.answers import ANSWERS
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from features.declaration import Window
from registry.serving.log.feedback import Event, FeedbackLog
from registry.serving.log.segments import TOLD, segments_of

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def segment(request: str, role: str, items: list[int], like: float, **more: Any) -> pa.Table:
    """Rows of one question as a service logs them; versions have representations of their own width."""
    count, version = len(items), 1 if role == "champion" else 2
    at = pa.array([more.get("at", START)] * count, pa.timestamp("us", "UTC"))
    flat = pa.array([0.0] * (count * version), pa.float32())
    told = b'["item_id", "user_id", "event_timestamp"]' if role != "shadow" else b'["item_id"]'
    columns = {
        "user_id": [7] * count,
        "item_id": items,
        "event_timestamp": at,
        "served.request": [request] * count,
        "served.row": [f"{request}:{place}" for place in range(count)],
        "served.at": at,
        "served.version": [version] * count,
        "served.digest": [f"d{version}"] * count,
        "served.role": [role] * count,
        "served.propensity": [more.get("propensity", 1.0)] * count,
        "base.like": [like + place / 100 for place in range(count)],
        "answer.like": [like + place / 100 for place in range(count)],
        "hidden.": pa.FixedSizeListArray.from_arrays(flat, version),
    }
    return pa.table(columns).replace_schema_metadata({TOLD: told})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.at(tmp_path / "home")


def ingested(settings: Settings, *segments: pa.Table) -> tuple[StageResult, pa.Table, pa.Table]:
    """Return what the stage said, its raw rows, and what was answered to them."""
    questions, feedback = segments_of(settings.artifacts, "shop")
    for table in segments:
        questions.write(table, START)
    log = FeedbackLog(feedback)
    log.take([Event("a", 5, "like", START + MINUTE, "e")]).result(timeout=60)
    log.stop()
    request = StageRequest(
        component="ingest_served",
        config={"serving": "shop", "feedback": ["like"], "after": "10m"},
        inputs={},
        window=Window(start=START, end=datetime.now(UTC) + timedelta(hours=1)),
    )
    done = execute(request, settings)
    folder = open_store(settings).fetch(done.outputs["rows"].load())
    return done, pq.read_table(folder / "raw" / "rows.parquet"), pq.read_table(folder / ANSWERS)


def test_a_shadow_s_answers_stand_beside_those_that_were_given(settings: Settings) -> None:
    done, rows, answers = ingested(
        settings,
        segment("a", "champion", [5, 6], 0.1, propensity=0.9),
        segment("a", "shadow", [5, 6], 0.3),
        segment("b", "champion", [6], 0.2),
        segment("c", "canary", [5], 0.4, propensity=0.1),
    )
    assert rows.select(["row_id", "item_id", "like"]).to_pydict() == {
        "row_id": [0, 1, 2, 3], "item_id": [5, 6, 6, 5], "like": [1, 0, 0, 0],
    }  # fmt: skip
    assert all("." not in name for name in rows.column_names)
    assert {name: answers[name].to_pylist() for name in answers.column_names if "row" not in name} == {
        "served.request": ["a", "a", "b", "c"],
        "served.at": [START] * 4,
        "served.version": [1, 1, 1, 2],
        "served.digest": ["d1", "d1", "d1", "d2"],
        "served.role": ["champion"] * 3 + ["canary"],
        "served.propensity": [0.9, 0.9, 1.0, 0.1],
        "base.like": [0.1, 0.11, 0.2, 0.4],
        "answer.like": [0.1, 0.11, 0.2, 0.4],
        "shadow.version": [2, 2, None, None],
        "shadow.digest": ["d2", "d2", None, None],
        "shadow.base.like": [0.3, 0.31, None, None],
        "shadow.answer.like": [0.3, 0.31, None, None],
    }
    assert answers["row_id"].to_pylist() == rows["row_id"].to_pylist()
    notes = " ".join(done.notes)
    assert "4 of 4 answered rows labelled" in notes and "2 rows answered by a shadow too, 1 by a canary" in notes


def test_what_questions_told_is_told_whatever_a_shadow_reads(settings: Settings) -> None:
    done, *_ = ingested(settings, segment("a", "champion", [5], 0.1), segment("a", "shadow", [5], 0.3))
    events = pq.read_table(open_store(settings).fetch(done.outputs["events"].load()) / "events.parquet")
    assert {*events.column_names} >= {"user_id", "item_id", "event_timestamp", "like"}


def test_a_question_that_comes_again_finds_the_shadow_of_its_own_items(settings: Settings) -> None:
    later = {"at": START + 2 * MINUTE}
    _, rows, answers = ingested(
        settings,
        segment("a", "champion", [5], 0.1),
        segment("a", "champion", [6], 0.2, **later),
        segment("a", "shadow", [6], 0.9, **later),
    )
    assert rows["item_id"].to_pylist() == [5] and answers["shadow.base.like"].to_pylist() == [None]


def test_a_log_of_one_version_has_no_shadow(settings: Settings) -> None:
    done, _, answers = ingested(settings, segment("a", "champion", [5], 0.1))
    assert not [name for name in answers.column_names if name.startswith("shadow.")]
    assert "shadow" not in " ".join(done.notes)
