"""Is a problem shown so that the eye finds it, however odd the line?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.language.problems import MOST_SHOWN, PipelineError, Problem


def test_the_caret_stands_under_wide_characters_too() -> None:
    head, line, caret = str(Problem("x.yaml", 1, 6, "wrong", "每晚: 训练", 2)).split("\n")
    assert head == "x.yaml:1:6: wrong"
    assert line == "    每晚: 训练"
    assert caret == "    " + " " * 8 + "^^"  # two wide characters, a colon, a space, one wide character


@given(st.text(max_size=400), st.integers(1, 500), st.integers(1, 500))
def test_a_rendering_is_bounded_and_has_three_printable_lines(source: str, column: int, width: int) -> None:
    shown = str(Problem("x.yaml", 1, column, "wrong", source, width)).split("\n")
    assert shown[0] == f"x.yaml:1:{column}: wrong"
    assert len(shown) in (1, 3)
    assert all(line.isprintable() and len(line) <= 600 for line in shown)
    assert len(shown) == 1 or set(shown[2]) == {" ", "^"}


def test_problems_come_in_the_order_of_the_file_once_each_and_not_endlessly() -> None:
    problems = [Problem("x.yaml", line, 1, "wrong") for line in range(1, 100)]
    error = PipelineError([*reversed(problems), *problems])
    assert error.problems == tuple(problems)
    lines = str(error).split("\n")
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == f"… and {99 - MOST_SHOWN} more problems; mend these first"
