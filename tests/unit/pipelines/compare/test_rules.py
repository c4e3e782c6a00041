"""Does a comparison refuse an entry exactly where `validate` refuses the same ranker in a pipeline?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.compare.load import load_comparison
from pipelines.language.problems import PipelineError
from tests.unit.pipelines.language.test_rules_ranker import BLOCKS, ROLES, refused, write


@pytest.mark.parametrize("roles", ROLES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_an_entry_is_refused_in_the_words_of_a_pipeline(
    block: dict[str, Any], roles: dict[str, Any], tmp_path: Path
) -> None:
    expected = refused(write(tmp_path, block, roles))
    # The same pipeline without the ranker, which is wired to the training set by the comparison.
    path = tmp_path / "nightly.yaml"
    pipeline = yaml.safe_load(path.read_text())
    del pipeline["stages"]["train"]
    path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
    comparison = {
        "name": "one", "title": "One", "labels": "like = bought", "pipeline": "nightly", "dataset": "dataset",
        "entries": {"it": {"ranker": block}},
    }  # fmt: skip
    file = tmp_path / "comparisons" / "one.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(comparison))
    messages = []
    try:
        load_comparison(file)
    except PipelineError as error:
        messages = [problem.message for problem in error.problems]
    assert messages == expected
