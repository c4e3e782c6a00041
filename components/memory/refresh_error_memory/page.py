"""What does a reader see of a refresh? One page: did compensation help, slot by slot and task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from jinja2 import Environment
from pydantic import TypeAdapter

from components.pages.plots import SLATE, TEAL, new_figure, save, style_slots
from components.pages.style import SLOTS_STYLE, picture
from registry.memory.error_memory import MemoryHeader
from registry.memory.prequential import SlotReport

Metric = Literal["log_loss", "auc", "gauc", "pcoc"]
DRAWN: tuple[tuple[Metric, str], ...] = (("log_loss", "log-loss (lower is better)"), ("auc", "AUC (higher is better)"))
TABLED: tuple[tuple[Metric, str], ...] = (("log_loss", "log-loss"), ("auc", "AUC"), ("gauc", "GAUC"), ("pcoc", "PCOC"))

_PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Error memory of {{ header.model }} v{{ header.version }}</title>
<style>"""
    + SLOTS_STYLE
    + """ .better {color: #0f766e} .worse {color: #b91c1c}
</style></head><body>
<h1>Error memory of {{ header.model }} v{{ header.version }}</h1>
<p class="muted">{{ "{:,}".format(header.rows) }} rows, {{ header.covers }}. Each slot of time is scored with the memory
of earlier slots and written afterwards; λ is the best on earlier slots. Figures are base → compensated.</p>
<table><tr><th class="l">task</th><th>log-loss from slot 2 on</th><th>λ to serve with</th><th class="l">state</th></tr>
{% for name, task in header.tasks.items() %}<tr><td class="l">{{ name }}</td>
<td>{{ number(task.base_log_loss) }} → {{ number(task.log_loss) }}</td><td>{{ task.weight }}</td>
<td class="l">{% if task.enabled %}on{% elif task.log_loss is none %}off: one slot cannot be judged
{% else %}<span class="worse">off: it hurts</span>{% endif %}</td></tr>
{% endfor %}</table>
<p><img alt="Base and compensated log-loss and AUC per slot" src="{{ image }}"></p>
{% for name in header.feedback %}<h2>{{ name }}</h2><div class="wide"><table>
<tr><th>slot</th><th class="l">from</th><th>rows</th><th>stored</th><th>empty</th><th>positives</th><th>λ</th>
{% for _, title in tabled %}<th>{{ title }}</th>{% endfor %}</tr>
{% for slot in slots %}{% set task = slot.tasks[name] %}<tr><td>{{ slot.slot }}</td>
<td class="l">{{ slot.window.start.strftime("%Y-%m-%d %H:%M") }}</td>
<td>{{ slot.rows }}</td><td>{{ slot.stored }}</td><td>{{ "%.0f %%"|format(100 * slot.empty) }}</td>
<td>{{ task.positives }}</td><td>{{ task.weight }}</td>
{% for metric, _ in tabled %}{% set a = task.base[metric] %}{% set b = task.compensated[metric] %}
<td{{ judged(metric, a, b) }}>{{ number(a) }} → {{ number(b) }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% endfor %}
<p class="muted">Keys: {{ header.key.kind }};
{{ header.store }}; decay {{ header.decay }};
γ {{ header.read_out.gamma }}, τ {{ header.read_out.temperature }}, pool {{ header.read_out.pool }},
n₀ {{ header.read_out.shrinkage }}; ranker {{ header.ranker_digest[:12] }}. ReLoop2, Zhu et al., KDD 2023.</p>
</body></html>
"""
)


def write_report(directory: Path, header: MemoryHeader, slots: tuple[SlotReport, ...]) -> None:
    """Write ``slots.json``, ``slots.png`` and the self-contained ``slots.html``.

    Equal reports give equal bytes.
    """
    (directory / "slots.json").write_bytes(TypeAdapter(tuple[SlotReport, ...]).dump_json(slots, indent=2))
    draw(directory / "slots.png", header, slots)
    environment = Environment(autoescape=True)
    page = environment.from_string(_PAGE).render(
        header=header,
        slots=slots,
        tabled=TABLED,
        number=_number,
        judged=_judged,
        image=picture(directory / "slots.png"),
    )
    (directory / "slots.html").write_text(page, encoding="utf-8")


def draw(path: Path, header: MemoryHeader, slots: tuple[SlotReport, ...]) -> None:
    """Draw base against compensated per slot, one row of panels per task."""
    figure = new_figure(10, 3.2 * len(header.feedback))
    panels = figure.subplots(len(header.feedback), len(DRAWN), squeeze=False)
    at = [slot.slot for slot in slots]
    for row, name in enumerate(header.feedback):
        for column, (metric, title) in enumerate(DRAWN):
            panel = panels[row][column]
            for label, colour, style in (("base", SLATE, "--"), ("compensated", TEAL, "-")):
                values = [
                    getattr(slot.tasks[name].base if label == "base" else slot.tasks[name].compensated, metric)
                    for slot in slots
                ]
                drawn = [float("nan") if value is None else value for value in values]
                panel.plot(at, drawn, style, color=colour, marker="o", markersize=3.5, label=label)
            style_slots(panel, f"{name}: {title}", last=row == len(header.feedback) - 1)
    panels[0][0].legend(frameon=False, fontsize=9)
    save(figure, path)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _judged(metric: Metric, base: float | None, compensated: float | None) -> str:
    from markupsafe import Markup

    if base is None or compensated is None or base == compensated:
        return ""
    if metric == "pcoc":
        better = abs(compensated - 1) < abs(base - 1)
    else:
        better = (compensated < base) == (metric == "log_loss")
    return Markup(' class="better"' if better else ' class="worse"')  # noqa: S704  # one of two constants
