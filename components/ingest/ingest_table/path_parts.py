"""Which parts of a path are columns? `logs/{country}/{day}.csv`; `{country=DE}` where the part is one text alone."""

from __future__ import annotations

import re
from functools import cache

_BRACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?:=([^{}/*?\[\]]+))?\}")
_MARK = 0xE000
"""First of the characters that no text assigns: they hold the braces' places while a pattern is translated."""


def checked(pattern: str) -> str:
    """Return the pattern.

    Raises:
        ValueError: a brace of it cannot be read; the message says what it must be.
    """
    if re.search(r"[{}]", _BRACE.sub("", pattern)):
        raise ValueError("a brace names a column, as in {country} or {country=DE}; correct it, or rename the folder")
    if "}{" in pattern:
        raise ValueError("two braces stand side by side: nothing says where one text ends; put a sign between them")
    names = [match[1] for match in _BRACE.finditer(pattern)]
    for index, match in enumerate(_BRACE.finditer(pattern)):
        if match[2] and match[1] in names[:index]:
            raise ValueError(f"{{{match[1]}}} stands before {match[0]}: say its text where it stands first")
    if names:
        _expression(pattern)
    return pattern


def bare(pattern: str) -> str:
    """Return a pattern with wildcards in the place of braces."""
    return _BRACE.sub(lambda match: match[2] or "*", pattern)


def parts_of(pattern: str, path: str) -> dict[str, str] | None:
    """Return what stands in the place of each brace; None when a brace that stands twice means two texts.

    Args:
        pattern: a checked one.
        path: one that `bare(pattern)` matches.
    """
    if "{" not in pattern:
        return {}
    found = _expression(pattern).match(path)
    return None if found is None else found.groupdict()


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    from fsspec.utils import glob_translate

    braces = list(_BRACE.finditer(pattern))
    marks = iter(range(_MARK, _MARK + len(braces)))
    text: str = glob_translate(_BRACE.sub(lambda _: chr(next(marks)), pattern))
    seen: set[str] = set()
    for index, brace in enumerate(braces):
        name, fixed = brace.groups()
        group = f"(?P={name})" if name in seen else f"(?P<{name}>{re.escape(fixed) if fixed else '[^/]+'})"
        seen.add(name)
        text = text.replace(chr(_MARK + index), group)
    return re.compile(text)
