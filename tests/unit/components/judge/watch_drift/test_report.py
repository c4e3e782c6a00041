"""When is a change an alarm? Holm's correction, two days in a row, or three times the limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.watch_drift.report import WORDS, Cell, Day, holm, sentence, settled

START = datetime(2026, 1, 1, tzinfo=UTC)


def cell(of: str = "price", change: float | None = 0.03, chance: float | None = 1e-6) -> Cell:
    return Cell(check="moved", of=of, rows=10, now=change, change=change, limit=0.02, chance=chance)


def days(*cells: tuple[Cell, ...]) -> tuple[Day, ...]:
    return tuple(
        Day(
            start=START + timedelta(days=at),
            end=START + timedelta(days=at + 1),
            rows=1,
            users=1,
            judged=1,
            rates={},
            cells=some,
        )
        for at, some in enumerate(cells)
    )


def states(*cells: tuple[Cell, ...]) -> list[str]:
    return [one.cells[0].state for one in settled(days(*cells), 0.01)]


def test_a_change_alarms_where_the_day_before_had_it_too() -> None:
    assert states((cell(),), (cell(),)) == ["drifted", "alarm"]
    assert states((cell(),), (cell(change=0.0, chance=1.0),), (cell(),)) == ["drifted", "quiet", "drifted"]
    assert states((cell(),), (cell(change=None, chance=None),), (cell(),)) == ["drifted", "not judged", "drifted"]


def test_three_times_the_limit_alarms_at_once() -> None:
    assert states((cell(change=0.0601),)) == ["alarm"] and states((cell(change=0.0599),)) == ["drifted"]


def test_a_change_within_its_limit_is_quiet_however_certain() -> None:
    assert states((cell(change=0.019, chance=0.0),)) == ["quiet"]


def test_another_field_of_the_day_before_confirms_nothing() -> None:
    found = settled(days((cell(of="kind"),), (cell(),)), 0.01)
    assert [one.cells[0].state for one in found] == ["drifted", "drifted"]


def test_many_comparisons_ask_for_more() -> None:
    many = (cell(chance=1e-3), *(cell(of=f"f{n}", chance=0.5) for n in range(20)))
    assert settled(days(many), 0.01)[0].cells[0].state == "quiet" and states((cell(chance=1e-3),)) == ["drifted"]


@given(st.floats(0, 0.2), st.floats(0, 1))
def test_strength_is_above_1_exactly_where_a_cell_is_beyond_its_limit(change: float, chance: float) -> None:
    (day,) = settled(days((cell(change=change, chance=chance),)), 0.01)
    assert (day.cells[0].strength(0.01) > 1) == (day.cells[0].state in ("alarm", "drifted"))


@given(st.lists(st.floats(0, 1), max_size=40))
def test_holm_keeps_the_order_and_never_lowers(chances: list[float]) -> None:
    found = holm(chances)
    assert all(chance <= adjusted <= 1 for chance, adjusted in zip(chances, found, strict=True))
    ordered = sorted(zip(chances, found, strict=True))
    assert [adjusted for _, adjusted in ordered] == sorted(found)


def test_holm_against_an_example_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("check", WORDS)
def test_every_check_has_a_sentence(check: str) -> None:
    said = sentence(Cell(check=check, of="click", domain="loans", rows=1, now=0.25, before=0.5, limit=0.1))  # type: ignore[arg-type]
    assert "click" in said and said.endswith(", in loans")
