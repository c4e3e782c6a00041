"""Is every kind of wrong comparison told as agreed: the right place, one sentence, the line and a caret?

The first lines of each file say where its problems are (`# problem at: TEXT`, the first place of TEXT below
them), written by hand; the `.txt` beside it is the whole message. Rewrite the messages with
`RANKMILL_REWRITE_GOLDEN=1 pytest tests/unit/pipelines/compare/test_golden_errors.py` and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from components.platform.errors import MissingError
from pipelines.compare.load import comparison_file, comparison_names, load_comparison
from pipelines.language.problems import PipelineError
from tests.golden_files import agreed, marked_places

FOLDER = Path(__file__).resolve().parents[3] / "golden" / "comparison" / "errors"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_comparison_is_told_as_agreed(path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_comparison(path)
    found = [(problem.line, problem.column) for problem in caught.value.problems]
    message = str(caught.value)
    assert sorted(found) == marked_places(path), message
    assert all("\n" not in problem.message and len(problem.message) < 240 for problem in caught.value.problems)
    assert message == agreed(path, message)


def test_there_are_many_kinds_and_no_message_without_its_file() -> None:
    assert len(FILES) >= 30
    assert {path.stem for path in FOLDER.glob("*.txt")} == {path.stem for path in FILES}


@pytest.mark.parametrize("name", comparison_names())
def test_a_shipped_comparison_is_right_and_names_what_it_is_marked_against(name: str) -> None:
    comparison = load_comparison(comparison_file(name))
    assert len(comparison.spec.seeds) >= 3
    assert comparison.spec.against in comparison.spec.entries
    assert comparison.stages[-1].name == comparison.spec.dataset


def test_an_unknown_comparison_names_the_nearest() -> None:
    with pytest.raises(MissingError, match=r"no comparison 'movielens_100k_rndom' \(did you mean"):
        comparison_file("movielens_100k_rndom")
