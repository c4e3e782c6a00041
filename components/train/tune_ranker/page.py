"""What does a reader see of a search? The values that won, how much of that is luck, and every trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.pages.document import picture, render
from components.platform.artifacts import Tuned
from components.train.tune_ranker.plots import draw
from components.train.tune_ranker.records import Judge, Record
from components.train.tuned import Tuning, Value, shown

CLASSES = {"done": "", "stopped": "not-judged", "failed": "fault"}
"""State of a trial → style of its words."""


@dataclass(frozen=True)
class _Knob:
    """One tuned knob."""

    path: str
    best: str
    own: str
    importance: str


@dataclass(frozen=True)
class _Row:
    """One trial in words."""

    record: Record
    name: str
    values: tuple[str, ...]
    style: str
    epochs: int


@dataclass(frozen=True)
class _View:
    found: Tuning
    knobs: tuple[_Knob, ...]
    explained: bool
    rows: tuple[_Row, ...]
    paths: tuple[str, ...]
    progress: str
    pictures: str


def write_page(
    folder: Path, found: Tuning, records: Sequence[Record], judge: Judge, importance: Mapping[str, float]
) -> None:
    """Write `plots/` and the self-contained page; equal trials give equal bytes.

    Args:
        folder: of the artifact.
        found: the result.
        records: every trial, repeats too, by number.
        judge: how they were judged.
        importance: share of the variance by knob, where that is known.
    """
    searched = [record for record in records if record.of is None]
    log = [path for path, entry in found.space.items() if isinstance(entry, Mapping) and "log" in entry]
    files = draw(folder / "plots", searched, found.winner, judge, log)
    page = tuned_page(found, records, importance, picture(files["progress"]), picture(files["knobs"]))
    (folder / Tuned.page.file).write_text(page, encoding="utf-8")


def tuned_page(
    found: Tuning, records: Sequence[Record], importance: Mapping[str, float], progress: str, knobs: str
) -> str:
    """Return the page as HTML, given its pictures as `src`."""
    own: Mapping[str, Value] = next((record.values for record in records if record.kind == "own"), {})
    paths = tuple(found.values)
    view = _View(
        found=found,
        knobs=tuple(
            _Knob(
                path=path,
                best=shown(found.values[path]),
                own=shown(own.get(path)),
                importance=f"{importance[path]:.2f}" if path in importance else "–",
            )
            for path in paths
        ),
        explained=bool(importance),
        rows=tuple(
            _Row(
                record=record,
                name=f"{record.number}" if record.of is None else f"{record.of}, seed {record.seed}",
                values=tuple(shown(record.values.get(path)) for path in paths),
                style=CLASSES[record.state],
                epochs=len(record.epochs),
            )
            for record in records
        ),
        paths=paths,
        progress=progress,
        pictures=knobs,
    )
    return render(__file__, view)
