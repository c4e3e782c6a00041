"""Is every kind of wrong pipeline told as agreed: the right place, one sentence, the line and a caret?

The first lines of each file say where its problems are (`# problem at: TEXT`, the first place of
TEXT below them), written by hand; the `.txt` beside it is the whole message. Rewrite the messages with
`RANKMILL_REWRITE_GOLDEN=1 pytest tests/unit/pipelines/language/test_golden_errors.py` and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.platform.errors import BadInputError
from pipelines.language.check import load_plan
from pipelines.language.problems import PipelineError
from tests.golden_files import agreed, marked_places

FOLDER = Path(__file__).resolve().parents[3] / "golden" / "errors"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_pipeline_is_told_as_agreed(path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_plan(path)
    found = [(problem.line, problem.column) for problem in caught.value.problems]
    assert sorted(found) == marked_places(path)
    message = str(caught.value)
    for line, column in found:
        assert f"tests/golden/errors/{path.name}:{line}:{column}: " in message
    assert message == agreed(path, message)


def test_there_are_many_kinds_and_no_message_without_its_file() -> None:
    assert len(FILES) >= 40
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in FILES}


def test_every_problem_is_one_sentence_and_the_error_is_bad_input() -> None:
    for path in FILES:
        with pytest.raises(BadInputError) as caught:
            load_plan(path)
        assert caught.value.exit_code == 2 and not caught.value.retryable
        assert isinstance(caught.value, PipelineError)
        for problem in caught.value.problems:
            assert "\n" not in problem.message and len(problem.message) < 240
