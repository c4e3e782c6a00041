"""How does a text from the data stand in Markdown as what it is? Names and domains are words there, never markup.

MLflow shows a model card as the description of a version, to whoever looks at the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*{}\[\]#+!|~$]|(?<![^\W_])_|_(?![^\W_]))")
"""An underscore inside a word is none, nor is a parenthesis whose bracket before it is a word."""
_FIRST = re.compile(r"^(\d{0,9})([-.)])(?=[ -]|$)")
"""What makes a list, or a line across, of a paragraph that it begins."""
_BREAKS = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")


def text(value: str) -> str:
    """Return a value as words: no HTML, link, list, emphasis, table cell or new line begins in it."""
    return _FIRST.sub(r"\1\\\2", _words(value).lstrip())


def _words(value: str) -> str:
    plain = _BREAKS.sub(" ", value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # A bare address becomes a link where Markdown is GitHub's.
    return _MARKUP.sub(r"\\\1", plain).replace("://", ":&#47;&#47;").replace("www.", "www&#46;").replace("@", "&#64;")


def code(value: str) -> str:
    """Return a value as code where it holds nothing that could end the code, and as words elsewhere."""
    return f"`{value}`" if value and not re.search(r"[`|<>\\\x00-\x1f\x7f\u0085\u2028\u2029]", value) else text(value)


def prose(value: str) -> str:
    """Return a sentence that somebody wrote for this page: its `code` stays code, everything else is words."""
    first, *parts = re.split(r"(`[^`]+`)", _BREAKS.sub(" ", value))
    # A bar ends a cell of a table even inside of code.
    return text(first) + "".join(
        _words(part) if place % 2 else part.replace("|", "\\|") for place, part in enumerate(parts)
    )


def fenced(value: str, language: str = "") -> str:
    """Return lines as a block of code that no line of theirs ends."""
    longest = max(map(len, re.findall(r"`+", value)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{value}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
