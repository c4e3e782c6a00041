"""What does a reader see of the study? One page: four learners over the period, then slot by slot."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, StrictUndefined

from components.memory.study_error_memory.report import (
    METRICS,
    VARIANTS,
    PeriodMetric,
    SlotTask,
    StudyMetric,
    StudyReport,
    Variant,
)
from components.pages.plots import BLUE, ORANGE, SLATE, TEAL, new_figure, save, style_slots
from components.pages.style import SLOTS_STYLE, picture
from registry.evaluation import Interval

TITLES: dict[StudyMetric, str] = {"auc": "AUC", "gauc": "GAUC", "log_loss": "log-loss", "pcoc": "PCOC"}
PERIOD_TITLES: dict[PeriodMetric, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "gauc_in_slot": "GAUC in slot",
    "log_loss": "log-loss",
    "pcoc": "PCOC",
}
NAMES: dict[Variant, str] = {
    "base": "base",
    "memory": "base + memory",
    "incremental": "incremental training",
    "both": "incremental + memory",
}
_STYLES: dict[Variant, tuple[str, str, float]] = {
    "memory": (TEAL, "-", 2.8),
    "incremental": (ORANGE, "-", 2.8),
    "both": (BLUE, "-", 1.3),
    "base": (SLATE, "--", 1.3),
}
"""Colour, dashes and width, in the order of drawing: a memory of weight 0 lies on its learner, which stays visible."""
_AIM: dict[StudyMetric, str] = {
    "auc": " − base (higher is better)",
    "gauc": " − base (higher is better)",
    "log_loss": " − base (lower is better)",
    "pcoc": " (1 is right)",
}

_PAGE = (
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Error memory study of {{ report.ranker }}</title>
<style>"""
    + SLOTS_STYLE
    + """</style></head><body>
<h1>Error memory study of {{ report.ranker }}</h1>
<p class="muted">{{ "{:,}".format(report.rows) }} test rows, {{ report.window }}, in {{ report.slots | length }} slots
of time. Every slot is scored before anything learns from it, so the first slot is the base model's in all four.</p>
{% for task, variants in report.tasks.items() %}<h2>{{ task }}, whole period</h2><div class="wide"><table>
<tr><th class="l"></th>{% for title in period.values() %}<th>{{ title }}</th>{% endfor %}</tr>
{% for variant, found in variants.items() %}<tr><td class="l">{{ names[variant] }}</td>
{% for metric in period %}<td>{{ found.metrics[metric] | number }}{% if metric in found.difference %}
<small>{{ found.difference[metric] | change }}</small>{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% endfor %}
<p class="muted">Below each figure: difference from the base{% if report.bootstrap %} with its 95 % interval over
{{ report.bootstrap }} paired resamples of users{% endif %}. GAUC compares all rows of a user, those from before a
learner knew the user with those from after. It counts users with both labels, and among those with few rows the first
label foretells the opposite of the rest: a learner that follows users tends to lose there. GAUC in slot compares only
rows that one state of the learner ranked.</p>
<p><img alt="Metrics of the four learners per slot" src="{{ image }}"></p>
<h2>How the settings were chosen</h2>
<p>λ of each slot: least log-loss on earlier slots of this period, out of {{ report.lambdas | join(", ") }}. Learning
rate {{ report.learning_rate }}: least log-loss when the validation split is replayed the same way. Nothing was chosen
on the rows it is judged by.</p>
<table><tr><th>learning rate</th><th>validation log-loss</th></tr>
{% for tried in report.learning_rates %}<tr><td>{{ tried.rate or "base" }}</td>
<td>{{ tried.log_loss | number }}</td></tr>
{% endfor %}</table>
<p>Memory: {{ report.memory }}.{% for variant, choice in report.choices.items() %} {{ names[variant] | capitalize }}:
{{ choice.memory }}{% if choice.helps is not none %}, on validation {{ "better" if choice.helps else "no better" }} than
no memory{% endif %}.{% endfor %}
{% if report.choices["memory"].tried %}Chosen the same way, on a tie the plainer: less fading, then more neighbours or
fewer bits, then higher τ.</p>
<div class="wide"><table><tr><th class="l">validation log-loss of</th>
{% for variant in report.choices %}<th>{{ names[variant] }}</th>{% endfor %}</tr>
{% for first in report.choices["memory"].tried %}{% set at = loop.index0 %}
<tr><td class="l">{{ first.memory or "no memory" }}</td>{% for choice in report.choices.values() %}
{% set found = choice.tried[at] %}<td>{% if found.memory == choice.memory %}<b>{{ found.log_loss | fine }}</b>
{% else %}{{ found.log_loss | fine }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></div>{% else %}Given, not chosen.</p>{% endif %}
<p>Incremental training is one pass of Adam over each finished slot, on a copy of the weights. The memory beside it
holds that copy's own errors, under keys of the frozen base: keys of moving weights would not meet again.</p>
{% for task in report.tasks %}<h2>{{ task }}, slot by slot</h2><div class="wide"><table>
<tr><th>slot</th><th class="l">from</th><th>rows</th><th>positives</th><th>stored</th><th>λ memory</th><th>λ both</th>
{% for metric in titles %}{% for variant in variants %}
<th>{{ titles[metric] }}<br>{{ variant }}</th>{% endfor %}{% endfor %}</tr>
{% for slot in report.slots %}{% set found = slot.tasks[task] %}<tr><td>{{ slot.slot }}</td>
<td class="l">{{ slot.window.start.strftime("%Y-%m-%d %H:%M") }}</td><td>{{ slot.rows }}</td>
<td>{{ found.positives }}</td><td>{{ slot.stored }}</td><td>{{ found.weights["memory"] }}</td>
<td>{{ found.weights["both"] }}</td>
{% for metric in titles %}{% for variant in variants %}
<td>{{ found.metrics[variant][metric] | number }}</td>{% endfor %}{% endfor %}</tr>
{% endfor %}</table></div>{% endfor %}
<p class="muted">ranker {{ report.ranker_digest[:12] }}, data {{ report.dataset_digest[:12] }}. ReLoop2, Zhu et al., KDD
2023. A dash means that the metric is undefined on those rows.</p>
</body></html>
"""
)


def write_page(directory: Path, report: StudyReport) -> None:
    """Write ``slots.png`` and the self-contained ``report.html``; equal reports give equal bytes."""
    draw(directory / "slots.png", report)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": _number, "fine": _fine, "change": _change}
    page = environment.from_string(_PAGE).render(
        report=report,
        titles=TITLES,
        period=PERIOD_TITLES,
        names=NAMES,
        variants=VARIANTS,
        image=picture(directory / "slots.png"),
    )
    (directory / "report.html").write_text(page, encoding="utf-8")


def draw(path: Path, report: StudyReport) -> None:
    """Draw the metrics per slot, one row of panels per metric and one column per task.

    Slots differ far more than learners do, so all but PCOC is drawn as the difference from the base.
    """
    figure = new_figure(5.5 * len(report.tasks), 2.6 * len(METRICS))
    panels = figure.subplots(len(METRICS), len(report.tasks), squeeze=False, sharex=True)
    at = [slot.slot for slot in report.slots]
    for row, metric in enumerate(METRICS):
        for column, task in enumerate(report.tasks):
            panel = panels[row][column]
            for variant, (colour, style, width) in _STYLES.items():
                drawn = [_drawn(slot.tasks[task], variant, metric) for slot in report.slots]
                panel.plot(
                    at, drawn, style, color=colour, marker="o", markersize=3, linewidth=width, label=NAMES[variant]
                )
            if metric == "pcoc":
                panel.axhline(1.0, color="#d1d5db", linewidth=1, zorder=0)
            style_slots(panel, f"{task}: {TITLES[metric]}{_AIM[metric]}", last=row == len(METRICS) - 1)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper left", frameon=False, ncols=4)
    save(figure, path)


def _drawn(found: SlotTask, variant: Variant, metric: StudyMetric) -> float:
    value, base = found.metrics[variant][metric], found.metrics["base"][metric]
    if value is None or base is None:
        return float("nan")
    return value if metric == "pcoc" else value - base


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _fine(value: float) -> str:
    """Return a log-loss as finely as settings of one memory differ."""
    return f"{value:.5f}"


def _change(found: Interval) -> str:
    if found.value is None:
        return "–"
    bounds = "" if found.low is None or found.high is None else f" [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{found.value:+.4f}{bounds}"
