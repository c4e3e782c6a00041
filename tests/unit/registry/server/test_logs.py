"""Is what was answered and what people did kept whole, for as long as it may be, and without making anybody wait?"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.serving.answers.answer import Answers
from registry.serving.log.feedback import Event, FeedbackLog, parse_events
from registry.serving.log.segments import Segments, hashed_in
from registry.serving.log.served_log import ServedLog, kept
from registry.serving.log.served_rows import Entry, Hashes, segment_of
from registry.serving.wire.pointed import Pointed
from registry.serving.wire.protocol import RefusedError

NOW = datetime(2024, 2, 1, 12, 59, 59, tzinfo=UTC)


def entry(request: str, items: int = 2, extra: bool = False) -> Entry:
    columns: dict[str, Any] = {"item_id": np.arange(items), "age": pa.nulls(items, pa.string())}
    if extra:
        columns["price"] = np.zeros(items)
    tasks = {"like": np.linspace(0.1, 0.2, items)}
    hidden = np.arange(items * 3, dtype=np.float32).reshape(items, 3)
    answers = Answers(tasks, tasks, hidden, Counter(), tasks["like"] * 2)
    return Entry(request, NOW, Pointed(version=1, digest="d"), "champion", pa.table(columns), answers, ("stale",))


def read(folder: Path, hours: int = 24) -> pa.Table:
    start = NOW - timedelta(hours=hours)
    tables = [*Segments(folder.as_uri()).read(start, NOW + timedelta(hours=1))]
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Callable[..., ServedLog]]:
    made = []

    def make(**options: Any) -> ServedLog:
        options = {"seconds": 0.05, "hidden": True} | options
        made.append(ServedLog(Segments(tmp_path.as_uri()), **options))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_rows_are_kept_as_they_were_used(logged: Callable[..., ServedLog], tmp_path: Path) -> None:
    log = logged(drop=("age",))
    log.take(entry("a"))
    log.stop()
    found = read(tmp_path)
    assert found["served.row"].to_pylist() == ["a:0", "a:1"]
    assert found["item_id"].to_pylist() == [0, 1] and "age" not in found.column_names
    assert found["answer.like"].to_pylist() == [0.1, 0.2] and found["answer.expected_value"].to_pylist() == [0.2, 0.4]
    assert found["hidden."].to_pylist() == [[0, 1, 2], [3, 4, 5]]
    assert found["served.degraded"].to_pylist() == [["stale"]] * 2
    assert found["served.at"].to_pylist() == [NOW] * 2
    assert "served.exploration" not in found.column_names


def test_rows_that_explored_are_named_with_their_chance_of_the_first_place(tmp_path: Path) -> None:
    plain = entry("a")
    bonus = replace(plain, request="b", answers=replace(plain.answers, bonus=np.array([0.1, 0.2])))
    drew = replace(bonus, request="c", answers=replace(bonus.answers, first=np.array([0.4, 0.6])))
    log = ServedLog(Segments(tmp_path.as_uri()), seconds=60)
    for each in (plain, bonus, drew):
        log.take(each)
    log.stop()
    found = read(tmp_path).sort_by("served.row")
    assert found["served.exploration"].to_pylist() == [None, None, 0.1, 0.2, 0.1, 0.2]
    assert found["served.first_propensity"].to_pylist() == [None] * 4 + [0.4, 0.6]
    assert found["served.propensity"].to_pylist() == [1.0] * 6  # of the version, not of the place


def test_representations_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Of several pieces, some that begin inside others; bytes on the disk, lists in segments of an earlier release."""
    numbers = np.arange(24, dtype=np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers), 4)
    hidden = pa.chunked_array([lists.slice(1, 2), lists.slice(4), lists.slice(0, 0)])
    table = pa.table({"served.place": pa.array([0, 0, 0, 0], pa.int32()), "hidden.": hidden})
    segments = Segments(tmp_path.as_uri())
    written = segments.write(table, NOW)
    assert pq.read_schema(tmp_path / written).field("hidden.").type == pa.binary(16)
    earlier = f"{written.removesuffix('.parquet')}-earlier.parquet"
    pq.write_table(table, tmp_path / earlier)
    for name in (written, earlier):
        for found in (segments.open(name), segments.open(name, ["hidden."])):
            assert found["hidden."].to_pylist() == numbers.reshape(6, 4)[[1, 2, 4, 5]].tolist()
    nothing = segments.open(segments.write(table.slice(0, 0), NOW))
    assert nothing.num_rows == 0 and nothing.schema.field("hidden.").type == lists.type


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=6))
def test_what_candidates_share_is_read_as_if_each_had_its_own(questions: list[tuple[int, bool]]) -> None:
    """Histories of the question and of each candidate, missing ones among them, told to be shared or not."""
    entries, expected = [], []
    for number, (items, told) in enumerate(questions):
        history = [None, [], [number], [number, 5]][number % 4]
        own = [[place] * place for place in range(items)]
        lists = pa.list_(pa.int64())
        rows = pa.table({"recent": pa.array([history] * items, lists), "own": pa.array(own, lists)})
        made = entry(f"q{number}", items)
        entries.append(replace(made, rows=rows, shared=frozenset({"recent"} if told else ())))
        expected += [(f"q{number}:{place}", history, own[place]) for place in range(items)]
    with tempfile.TemporaryDirectory() as folder:
        log = ServedLog(Segments(Path(folder).as_uri()), seconds=60)
        for each in entries:
            log.take(each)
        log.stop()
        found = read(Path(folder)).sort_by("served.row").select(["served.row", "recent", "own"]).to_pylist()
        names = [*Path(folder).rglob("*.parquet")]
        assert len(names) == len({told for _, told in questions})
        held = sum(pq.read_table(name)["recent"].combine_chunks().flatten().__len__() for name in names)
    assert [tuple(row.values()) for row in found] == sorted(expected)
    assert held == sum(len(e.rows["recent"][0].as_py() or []) * (1 if e.shared else len(e.rows)) for e in entries)


def test_what_is_hashed_tells_equal_from_different_and_no_more(tmp_path: Path) -> None:
    people = pa.table({"item_id": [1, 2, 3], "user_id": [7, 7, None], "recent": [[1], [2], []]})
    made = replace(entry("a", 3), rows=people)
    first, again, other = (
        segment_of([made], hidden=False, hashes=Hashes(("user_id", "recent"), key))
        for key in (b"secret", b"secret", b"another")
    )
    ids = first["user_id"].to_pylist()
    assert ids[0] == ids[1] and ids[2] is None and len(ids[0]) == 32 and ids[0] != "7"
    assert "recent" not in first.column_names, "a list of ids is left out"
    assert again.equals(first) and other["user_id"][0].as_py() != ids[0]
    assert hashed_in(first.schema) == ("user_id",)
    assert b"secret" not in repr(Hashes(("user_id",), b"secret")).encode()


def test_versions_with_other_columns_get_segments_of_their_own(
    logged: Callable[..., ServedLog], tmp_path: Path
) -> None:
    log = logged(seconds=60)
    for request, extra in (("a", False), ("b", True), ("c", False)):
        log.take(entry(request, extra=extra))
    log.stop()
    assert len([*tmp_path.rglob("*.parquet")]) == 2
    assert sorted(read(tmp_path)["served.request"].to_pylist()) == ["a", "a", "b", "b", "c", "c"]


def test_what_the_log_cannot_keep_up_with_is_counted_and_nobody_waits(
    logged: Callable[..., ServedLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, dropped = threading.Event(), []
    monkeypatch.setattr(Segments, "write", lambda *_: stuck.wait(20))
    log = logged(seconds=0.0, dropped=lambda: dropped.append(1))
    log.take(entry("first"))
    time.sleep(0.1)
    one = entry("x")
    for _ in range(1200):
        log.take(one)
    assert 150 <= len(dropped) <= 201
    stuck.set()


def test_a_log_that_cannot_be_written_ends_nothing(logged: Callable[..., ServedLog], tmp_path: Path) -> None:
    dropped: list[int] = []
    log = logged(dropped=lambda: dropped.append(1))
    tmp_path.joinpath("date=2024-02-01").write_text("a file where a folder should be")
    log.take(entry("a"))
    deadline = time.monotonic() + 10
    while not dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    tmp_path.joinpath("date=2024-02-01").unlink()
    log.take(entry("b"))
    log.stop()
    assert dropped == [1] and {*read(tmp_path)["served.request"].to_pylist()} == {"b"}


def test_a_share_is_the_same_everywhere_and_about_right() -> None:
    chosen = [kept(f"question {number}", 0.3) for number in range(10_000)]
    assert abs(np.mean(chosen) - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 10_000)
    assert chosen == [kept(f"question {number}", 0.3) for number in range(10_000)]
    assert all(kept(str(number), 1.0) for number in range(10))


def test_days_that_are_too_old_are_deleted_and_no_others(tmp_path: Path) -> None:
    segments = Segments(tmp_path.as_uri())
    for days in (40, 31, 30, 1):
        segments.write(pa.table({"a": [days]}), NOW - timedelta(days=days))
    (tmp_path / "date=none").mkdir()
    assert segments.forget(NOW - timedelta(days=30)) == 2
    assert sorted(read(tmp_path, 24 * 60)["a"].to_pylist()) == [1, 30]
    assert (tmp_path / "date=none").exists()


def test_half_a_segment_is_not_read(tmp_path: Path) -> None:
    segments = Segments(tmp_path.as_uri())
    written = tmp_path / segments.write(pa.table({"a": [1]}), NOW)
    (written.parent / f".{written.name}").write_bytes(b"half")
    assert read(tmp_path)["a"].to_pylist() == [1]


KNOWN = ("like", "love")


def body(**changes: Any) -> bytes:
    return json.dumps({"events": [{"request_id": "a", "item_id": 7, "feedback": "like"} | changes]}).encode()


def test_the_same_event_has_the_same_id() -> None:
    at = "2024-02-01T12:00:00Z"
    first, again = (parse_events(body(at=at), KNOWN, NOW)[0] for _ in range(2))
    assert first == again and first.at == datetime(2024, 2, 1, 12, tzinfo=UTC)
    others = [
        body(at=at, item_id=8),
        body(at=at, item_id="7"),
        body(at=at, feedback="love"),
        body(at=at, request_id="b"),
    ]
    assert len({parse_events(other, KNOWN, NOW)[0].id for other in others} | {first.id}) == 5
    assert parse_events(body(event_id="mine"), KNOWN, NOW)[0].id == "mine"


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"[]", "no feedback"),
        (body(feedback="lik"), "did you mean 'like'"),
        (body(item_id=True), "no feedback"),
        (body(at="2024-02-01T13:05:00Z"), "ahead of this server's clock"),
        (body(at="2024-02-01T12:00:00"), "has no zone"),
        (body(request_id=""), "ids are texts"),
        (body(clicked=1), "no feedback"),
    ],
)
def test_what_is_no_feedback_is_refused(sent: bytes, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        parse_events(sent, KNOWN, NOW)
    assert refused.value.status == 400


def test_calls_share_a_segment_and_are_done_when_it_is_durable(tmp_path: Path) -> None:
    log = FeedbackLog(Segments(tmp_path.as_uri()))
    calls = [log.take([Event("a", item, "like", NOW, str(item))]) for item in range(5)]
    assert [call.result(timeout=20) for call in calls] == [1] * 5
    files = [*tmp_path.rglob("*.parquet")]
    assert 1 <= len(files) <= 2
    log.stop()


def test_a_write_that_fails_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> str:
        raise OSError("disk full")

    log = FeedbackLog(Segments(tmp_path.as_uri()))
    monkeypatch.setattr(Segments, "write", broken)
    with pytest.raises(OSError, match="disk full"):
        log.take([Event("a", 1, "like", NOW, "1")]).result(timeout=20)
    monkeypatch.undo()
    assert log.take([Event("a", 1, "like", NOW, "1")]).result(timeout=20) == 1
    log.stop()
