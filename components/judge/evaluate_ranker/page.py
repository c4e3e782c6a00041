"""How is the evaluation read in a browser? One self-contained page: figures as a table, plots inside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from components.pages.style import REPORT_STYLE, picture
from registry.evaluation import Evaluation, Interval, Metric

TITLES: dict[Metric, str] = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "log-loss",
    "normalised_entropy": "norm. entropy",
    "ece": "ECE",
    "pcoc": "PCOC",
}
"""Column heads of the table, in its order."""

_PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation of {{ name }}</title>
<style>"""
    + REPORT_STYLE
    + """tr.all td { font-weight: 600; }
figure { display: inline-block; margin: 0 .5rem .5rem 0; vertical-align: top; }
</style>
</head>
<body>
<h1>Evaluation of {{ name }}</h1>
<p>How well the exported graph ranks and calibrates on rows that training never saw.</p>
<dl>
<dt>split</dt><dd>{{ report.split }}, {{ "{:,}".format(report.rows) }} rows</dd>
{% if report.window_start %}
<dt>window</dt><dd>{{ report.window_start | minute }} to {{ report.window_end | minute }} UTC</dd>
{% endif %}
<dt>intervals</dt><dd>
{% if report.resamples %}
{{ "{:g}".format(100 * report.confidence) }}% bootstrap, {{ report.resamples }} resamples of users
{% else %}
none
{% endif %}
</dd>
<dt>provider</dt><dd>{{ report.provider }}</dd>
<dt>model</dt><dd><code>{{ report.model_digest[:16] }}</code></dd>
<dt>data set</dt><dd><code>{{ report.dataset_digest[:16] }}</code></dd>
</dl>
{% for task, space, cells in tasks %}
<h2>{{ task }} <small>over {{ space }}</small></h2>
<div class="scroll"><table>
<thead><tr><th>domain</th><th>rows</th><th>positives</th>
{% for title in titles %}
<th>{{ title }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for cell in cells %}
<tr{% if loop.first %} class="all"{% endif %}>
<td>{{ cell.domain }}</td><td>{{ "{:,}".format(cell.rows) }}</td><td>{{ "{:,}".format(cell.positives) }}</td>
{% for metric in metrics %}
<td>{{ cell.metrics[metric] | value }}<small>{{ cell.metrics[metric] | bounds }}</small></td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% endfor %}
{% if remarks %}<h2>Remarks</h2>
<ul>{% for line in remarks %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
<h2>Plots</h2>
{% for title, data in images %}<figure><img alt="{{ title }}" src="{{ data }}"></figure>
{% endfor %}
<h2>How to read it</h2>
<p>AUC: how often a positive row is scored above a negative one. GAUC: the same within each user, weighted by rows.
Normalised entropy: log-loss over the entropy of the base rate, below 1 is better than always saying the base rate.
ECE: mean gap between predicted and observed in equal-mass bins. PCOC: predicted over observed positives, 1 is right.
A dash means that the value is undefined on these rows.</p>
</body>
</html>
"""
)


def render(report: Evaluation, name: str, remarks: Sequence[str], plots: Sequence[Path]) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere.

    Args:
        report: the figures.
        name: what was evaluated.
        remarks: lines about what could not be judged or believed.
        plots: PNG files to put inside.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"value": _value, "bounds": _bounds, "minute": lambda time: f"{time:%Y-%m-%d %H:%M}"}
    tasks = []
    for task in report.tasks:
        cells = [cell for cell in report.cells if cell.task == task]
        tasks.append((task, cells[0].space, cells))
    images = [(p.stem.replace("_", " "), picture(p)) for p in plots]
    return environment.from_string(_PAGE).render(
        report=report,
        name=name,
        tasks=tasks,
        metrics=list(TITLES),
        titles=list(TITLES.values()),
        remarks=remarks,
        images=images,
    )


def _value(interval: Interval) -> str:
    return "–" if interval.value is None else f"{interval.value:.4f}"


def _bounds(interval: Interval) -> str:
    return "" if interval.low is None or interval.high is None else f"{interval.low:.4f} … {interval.high:.4f}"
