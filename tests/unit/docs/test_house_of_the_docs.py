"""Does the picture of the house show the rooms that there are, in the order that is checked?"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LAYERS = {contract["containers"][0]: contract["layers"] for contract in CONTRACTS if "containers" in contract}


@pytest.mark.parametrize("room", ["pipelines", "components", "registry", "features"])
def test_the_picture_shows_the_layers_that_are_checked(room: str) -> None:
    picture = " ".join(PAGE.partition("```")[2].partition("```")[0].replace("│", " ").split())
    assert " → ".join(layer.replace(" | ", ", ") for layer in LAYERS[room]) in picture


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:pipelines|components|registry|features)/[\w/.]*)`", PAGE)
    assert len(named) >= 8 and [path for path in named if not (ROOT / path).exists()] == []
