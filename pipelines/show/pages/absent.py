"""What does a reader see where there is no page? Why, in one sentence."""

from __future__ import annotations

from dataclasses import dataclass

from components.pages.document import render


@dataclass(frozen=True)
class _View:
    title: str
    said: str


def absent_page(title: str, said: str) -> str:
    """Return the page as HTML."""
    return render(__file__, _View(title, said))
