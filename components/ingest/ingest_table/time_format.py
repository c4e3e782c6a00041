"""Does a format say a whole date? `%d.%m.%Y %H:%M`, checked when the pipeline is read and not when the data is."""

from __future__ import annotations

import re

DIRECTIVES = frozenset("YymbBdeHIpMSfzTF%")
_DIRECTIVE = re.compile(r"%(.?)", re.DOTALL)
_SPREAD = {"T": "HMS", "F": "Ymd"}
_SAME = {"y": "Y", "b": "m", "B": "m", "e": "d", "I": "H"}
"""Directives that say the same part of a date in another way."""


def checked(text: str) -> str:
    """Return the format.

    Raises:
        ValueError: it has an unknown directive, or says no whole date; the message says what it must be.
    """
    given = _DIRECTIVE.findall(text)
    unknown = next((one for one in given if one not in DIRECTIVES), None)
    if unknown is not None:
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; '%{unknown}' is none of its parts")
    parts = [_SAME.get(one, one) for name in given for one in _SPREAD.get(name, name) if one != "%"]
    if len(set(parts)) != len(parts):
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; {text!r} says a part of the time twice")
    if not {"Y", "m", "d"} <= set(parts):
        raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; {text!r} lacks the year, the month or the day")
    for part, needs in (("M", "H"), ("H", "M"), ("S", "M"), ("f", "S"), ("p", "H")):
        if part in parts and needs not in parts:
            raise ValueError(f"must be a format such as %d.%m.%Y %H:%M; '%{part}' needs '%{needs}' beside it")
    if ("I" in given) != ("p" in given):
        raise ValueError("must be a format such as %m/%d/%Y %I:%M %p; '%I' and '%p' stand together")
    if "f" in given and ".%f" not in text:
        raise ValueError("must be a format such as %H:%M:%S.%f; '%f' follows a point")
    return text


def has_time(text: str) -> bool:
    """Return whether a format says more than the day."""
    return any(one in "HIT" for one in _DIRECTIVE.findall(text))


def has_offset(text: str) -> bool:
    """Return whether a format says how far the time is from UTC."""
    return "z" in _DIRECTIVE.findall(text)


def engine_format(text: str) -> str:
    """Return the format as polars writes it."""
    return text.replace(".%f", "%.f")
