"""What does a reader see of a choice? Every candidate with its figures, and how sure the choice is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.judge.choose_ranker.choice import Choice
from components.pages.document import render
from components.platform.artifacts import RankerChoice


@dataclass(frozen=True)
class _View:
    found: Choice


def write_page(folder: Path, found: Choice) -> None:
    """Write the self-contained page; equal choices give equal bytes."""
    (folder / RankerChoice.page.file).write_text(choice_page(found), encoding="utf-8")


def choice_page(found: Choice) -> str:
    """Return the page as HTML."""
    return render(__file__, _View(found))
