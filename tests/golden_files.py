"""Where does a golden file say that its problems are, and is its message the agreed one?

The first lines of each file name the places (`# problem at: TEXT`, the first place of TEXT below them), written by
hand; the `.txt` beside it is the whole message. `RANKMILL_REWRITE_GOLDEN=1` rewrites the messages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

HEADER = re.compile(r"^# problem at: (.*)\n", re.MULTILINE)


def marked_places(path: Path) -> list[tuple[int, int]]:
    """Return line and column of each place that the first lines of a golden file name, sorted."""
    text = path.read_text(encoding="utf-8")
    body = text.index("\n", text.rindex("# problem at:")) + 1
    places = []
    for needle in HEADER.findall(text):
        at = text.index(needle.replace(r"\n", "\n"), body)
        places.append((text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)))
    return sorted(places)


def agreed(path: Path, message: str) -> str:
    """Return the message that was agreed for a golden file; `message` itself where it is to be rewritten."""
    golden = path.with_suffix(".txt")
    if os.environ.get("RANKMILL_REWRITE_GOLDEN") == "1":
        golden.write_text(message + "\n", encoding="utf-8")
    return golden.read_text(encoding="utf-8").removesuffix("\n")
