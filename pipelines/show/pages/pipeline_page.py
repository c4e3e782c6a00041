"""How did a pipeline run lately, and what did it cost? A page of its runs and of its stages over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.pages.document import render
from components.pages.links import Links
from pipelines.language.hiding import hidden
from pipelines.record.cost import Cost, cost_of
from pipelines.record.runs import RecordedRun
from pipelines.show.pages.report import shown_outputs


@dataclass(frozen=True)
class _View:
    name: str
    cost: Cost
    runs: tuple[RecordedRun, ...]
    pages: Mapping[str, tuple[tuple[str, str, str], ...]]
    """By run what its stages show: stage, output, what it is."""
    links: Links


def pipeline_page(name: str, runs: Sequence[RecordedRun], links: Links) -> str:
    """Return the page as HTML without scripts or outside resources.

    Args:
        name: the pipeline.
        runs: its newest runs, newest first.
        links: where other pages are.
    """
    pages = {run.start.run_id: tuple(shown_outputs(run)) for run in runs}
    return hidden(render(__file__, _View(name, cost_of(name, runs), tuple(runs), pages, links)))
