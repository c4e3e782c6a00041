"""Does the page of recipes tell every recipe and every argument, and is the one in docs/ what the code says?"""

from __future__ import annotations

from dataclasses import fields

import pytest

from features.definitions import recipe
from pipelines.show.reference.recipes_page import PAGE, page


@pytest.mark.parametrize(
    "name", ["Profile", "Activity", "Rate", "Sum", "Count", "Distinct", "Since", "History", "Last", "Decay"]
)
def test_every_argument_has_its_type_default_and_meaning(name: str) -> None:
    section = page().split(f"\n## {name}\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    given = {row[0].strip("|` "): (row[2], row[3].strip("| ")) for row in rows}
    assert [*given] == [field.name for field in fields(getattr(recipe, name))]
    assert all(meaning for _, meaning in given.values())


def test_defaults_are_shown_and_what_has_none_is_required() -> None:
    rate = page().split("\n## Rate\n")[1].split("\n## ")[0]
    assert "| `prior` | float | required | Rate of a key without impressions" in rate
    assert "| `weight` | float | 10.0 |" in rate


def test_the_page_in_docs_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
