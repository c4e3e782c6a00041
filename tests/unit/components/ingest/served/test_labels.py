"""Does each answered row get the label that its feedback earned in time, once, and none before that is known?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.ingest.ingest_served.component import Counts, with_labels
from components.ingest.ingest_served.config import Config

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CONFIG = Config(serving="shop", feedback=("like", "love"), after=10 * MINUTE)


def answers(*rows: tuple[str, int, float]) -> pa.Table:
    """Rows of request, item and the minute of the answer."""
    times = pa.array([START + minute * MINUTE for _, _, minute in rows], pa.timestamp("us", "UTC"))
    seen: dict[str, int] = {}
    names = []
    for request, _, _ in rows:
        names.append(f"{request}:{seen.get(request, 0)}")
        seen[request] = seen.get(request, 0) + 1
    return pa.table(
        {
            "served.request": [request for request, _, _ in rows],
            "served.row": names,
            "served.at": times,
            "event_timestamp": times,
            "user_id": [1] * len(rows),
            "item_id": [item for _, item, _ in rows],
        }
    )


def events(*rows: tuple[str, int, str, float]) -> pa.Table:
    """Events of request, item, feedback and minute, each with an id of its own."""
    times = pa.array([START + minute * MINUTE for *_, minute in rows], pa.timestamp("us", "UTC"))
    text = pa.string()
    return pa.table(
        {
            "request": pa.array([request for request, *_ in rows], text),
            "item": pa.array([str(item) for _, item, *_ in rows], text),
            "feedback": pa.array([feedback for _, _, feedback, _ in rows], text),
            "at": times,
            "event": pa.array([f"e{place}" for place in range(len(rows))], text),
            "received": times,
        }
    )


def labelled(
    table: pa.Table, came: pa.Table | None, known: float = 60, **changes: Any
) -> tuple[dict[Any, Any], Counts]:
    config = CONFIG.model_copy(update=changes)
    end = START + timedelta(hours=1)
    found, counts = with_labels(table, came, config, START, end, START + known * MINUTE)
    keys = zip(found["served.request"].to_pylist(), found["item_id"].to_pylist(), strict=True)
    values = zip(found["like"].to_pylist(), found["love"].to_pylist(), strict=True)
    return dict(zip(keys, values, strict=True)), counts


def test_feedback_in_time_is_a_label_and_no_feedback_is_none() -> None:
    shown = answers(("a", 1, 0), ("a", 2, 0), ("b", 1, 5))
    found, counts = labelled(shown, events(("a", 2, "like", 3), ("b", 1, "love", 14.9)))
    assert found == {("a", 1): (0, 0), ("a", 2): (1, 0), ("b", 1): (1, 1)}
    assert counts == Counts(rows=3, open=0, repeated=0, late=0, unknown=0)


def test_without_a_funnel_labels_are_their_own() -> None:
    found, _ = labelled(answers(("a", 1, 0)), events(("a", 1, "love", 1)), funnel=False)
    assert found == {("a", 1): (0, 1)}


def test_what_comes_at_the_end_of_its_time_is_late_and_counted() -> None:
    found, counts = labelled(answers(("a", 1, 0)), events(("a", 1, "like", 10)))
    assert found == {("a", 1): (0, 0)} and counts.late == 1


def test_a_row_whose_time_is_not_over_is_left_out_whatever_came() -> None:
    shown = answers(("a", 1, 0), ("b", 1, 50), ("c", 1, 50.1))
    found, counts = labelled(shown, events(("c", 1, "like", 51)))
    assert {*found} == {("a", 1), ("b", 1)} and counts.open == 1


def test_what_was_received_later_than_is_known_is_not_there() -> None:
    found, _ = labelled(answers(("a", 1, 0)), events(("a", 1, "like", 9)), known=20)
    assert found == {("a", 1): (1, 0)}
    came = events(("a", 1, "like", 9))
    late = came.set_column(5, "received", pa.array([START + 21 * MINUTE], pa.timestamp("us", "UTC")))
    assert labelled(answers(("a", 1, 0)), late, known=20)[0] == {("a", 1): (0, 0)}


def test_a_question_that_comes_again_is_read_once_and_foreign_events_are_counted() -> None:
    shown = pa.concat_tables([answers(("a", 1, 0)), answers(("a", 1, 2))])
    found, counts = labelled(shown, events(("a", 1, "like", 1), ("z", 1, "like", 1)))
    assert found == {("a", 1): (1, 0)} and (counts.repeated, counts.unknown) == (1, 1)


def test_what_came_before_an_answer_is_not_about_it() -> None:
    found, counts = labelled(answers(("a", 1, 5)), events(("a", 1, "like", 3)))
    assert found == {("a", 1): (0, 0)} and (counts.unknown, counts.late) == (1, 0)
    found, _ = labelled(answers(("a", 1, 5)), events(("a", 1, "like", 4.9)))
    assert found == {("a", 1): (1, 0)}, "clocks of two machines differ a little"


def test_the_window_is_half_open() -> None:
    found, counts = labelled(answers(("a", 1, -0.1), ("b", 1, 0), ("c", 1, 60)), None, known=100)
    assert {*found} == {("b", 1)} and counts.rows == 1


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["like", "love"]), st.integers(0, 30)), max_size=30),
    st.randoms(),
)
def test_sent_twice_and_in_any_order_it_is_the_same(came: list[tuple[int, str, int]], rng: Any) -> None:
    shown = answers(*((f"q{number}", number, number) for number in range(6)))
    once = events(*((f"q{number}", number, feedback, minute) for number, feedback, minute in came))
    twice = pa.concat_tables([once, once])
    order = list(range(twice.num_rows))
    rng.shuffle(order)
    shuffled = twice.take(pa.array(order, pa.int64()))
    assert labelled(shown, once) == labelled(shown, shuffled)


def test_rows_are_numbered_in_the_order_of_time() -> None:
    table, _ = with_labels(
        answers(("b", 1, 5), ("a", 1, 0)), None, CONFIG, START, START + timedelta(hours=1), START + timedelta(hours=2)
    )
    assert table["row_id"].to_pylist() == [0, 1] and table["served.request"].to_pylist() == ["a", "b"]
    assert np.asarray(table["like"]).dtype == np.int8
