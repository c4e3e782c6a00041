"""How do the entries compare at a glance? AUC with error bars, one panel per feedback, as SVG."""

from __future__ import annotations

import io

from components.pages.plots import BLUE, GREY, ORANGE
from pipelines.compare.record import Record
from pipelines.compare.spec import ComparisonSpec
from pipelines.compare.table import figures, spread


def draw(spec: ComparisonSpec, record: Record) -> str:
    """Return the plot; equal records make equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    names = [name for name in spec.entries if name in record.rows]
    feedback = record.data.feedback
    # Element ids are hashed with a salt that is random unless it is set; text as paths needs no font of the reader's.
    with matplotlib.rc_context({"svg.hashsalt": "rankmill", "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(1.4 + 3.4 * len(feedback), 1.1 + 0.28 * len(names)), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(1, len(feedback), sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, feedback, strict=True):
            for at, name in enumerate(names):
                found = spread(figures(record.rows[name], task, "auc"))
                if found is not None:
                    colour = ORANGE if name == spec.against else BLUE
                    panel.errorbar(
                        found.mean, at, xerr=found.std or 0.0, fmt="o", markersize=4, capsize=3, color=colour
                    )
            for reference in spec.references:
                if reference.task == task and reference.metric == "auc":
                    panel.axvline(reference.value, color=GREY, linewidth=1, linestyle="--")
            panel.set(title=task, xlabel="test AUC")
            panel.set_yticks(range(len(names)), names)
            panel.set_ylim(len(names) - 0.5, -0.5)
            panel.grid(axis="x", color=GREY, alpha=0.3, linewidth=0.5)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
