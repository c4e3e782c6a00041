"""Is it told how far a long stage is, and nothing of a short one?"""

from __future__ import annotations

from features.ground.pace import EVERY, Pace


def test_rate_and_time_left_are_told_now_and_then() -> None:
    now, lines = [100.0], list[str]()
    pace = Pace("encoding train", 1_000_000, lines.append, lambda: now[0])
    for _ in range(3):
        now[0] += EVERY / 2
        pace.done(50_000)
    assert lines == ["encoding train: 100,000 of 1,000,000 rows, 10,000 rows/s, 1 min 30 s left"]
    now[0] += EVERY
    pace.done(850_000)
    assert lines[1] == "encoding train: 1,000,000 of 1,000,000 rows, 40,000 rows/s, 0 s left"
    Pace("x", 1, None, lambda: now[0]).done(1)
    assert len(lines) == 2
