"""Is every kind of wrong comparison told as agreed: the right place, one sentence, the line and a caret?

The first lines of each file say where its problems are (`# problem at: TEXT`, the first place of TEXT below
them), written by hand; the `.txt` beside it is the whole message. Rewrite the messages with
`RANKMILL_REWRITE_GOLDEN=1 pytest tests/unit/compare/test_golden_errors.py` and read the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from components.errors import MissingError
from pipelines.compare.load import comparison_file, comparison_names, load_comparison
from pipelines.problems import PipelineError

FOLDER = Path(__file__).resolve().parents[2] / "golden" / "comparison" / "errors"
FILES = sorted(FOLDER.glob("*.yaml"))
HEADER = re.compile(r"^# problem at: (.*)\n", re.MULTILINE)


def marked_places(text: str) -> list[tuple[int, int]]:
    """Return line and column of each place that the first lines of a golden file name."""
    body = text.index("\n", text.rindex("# problem at:")) + 1
    places = []
    for needle in HEADER.findall(text):
        at = text.index(needle.replace(r"\n", "\n"), body)
        places.append((text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
    return places


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_wrong_comparison_is_told_as_agreed(path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        load_comparison(path)
    found = [(problem.line, problem.column) for problem in caught.value.problems]
    message = str(caught.value)
    assert sorted(found) == sorted(marked_places(path.read_text(encoding="utf-8"))), message
    assert all("\n" not in problem.message and len(problem.message) < 240 for problem in caught.value.problems)
    golden = path.with_suffix(".txt")
    if os.environ.get("RANKMILL_REWRITE_GOLDEN") == "1":
        golden.write_text(message + "\n", encoding="utf-8")
    assert message + "\n" == golden.read_text(encoding="utf-8")


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
