"""How is the simulation read in a browser? One self-contained page: estimates as tables, plots inside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from components.judge.simulate_policy.report import Simulation
from components.pages.style import REPORT_STYLE, picture
from registry.evaluation import Interval

_PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Policies of {{ name }}</title>
<style>"""
    + REPORT_STYLE
    + """</style>
</head>
<body>
<h1>Policies of {{ name }}</h1>
<p>What each policy would have earned, judged by the impressions of another one.</p>
<dl>
<dt>reward</dt><dd>{{ report.reward }}</dd>
<dt>rows</dt><dd>{{ "{:,}".format(report.rows) }},
{{ "the test split, which the ranker has not seen" if report.held_out else "every split" }}</dd>
<dt>window</dt><dd>{{ report.window }}</dd>
<dt>weights</dt><dd>{{ "clipped at %g" % report.clip if report.clip else "not clipped" }}</dd>
<dt>intervals</dt><dd>{% if report.resamples %}{{ "{:g}".format(100 * report.confidence) }}% bootstrap,
{{ report.resamples }} resamples of {{ report.unit }}s{% else %}none{% endif %}</dd>
<dt>model</dt><dd><code>{{ report.model_digest[:16] }}</code></dd>
<dt>data set</dt><dd><code>{{ report.dataset_digest[:16] }}</code></dd>
<dt>reference</dt><dd><code>{{ report.reference_digest[:16] }}</code></dd>
</dl>
{% for group, values, image in groups %}
<h2>{{ group }} <small>{{ "{:,}".format(values[0].rows) }} rows, {{ "{:,}".format(values[0].positives) }} with
{{ report.reward }}, {{ values[0].candidates }} candidates; mean {{ report.reward }} of the log
{{ values[0].logged | value }} ({{ values[0].logged | bounds }})</small></h2>
<div class="scroll"><table>
<thead><tr><th>policy</th><th>on-policy</th>
{% for name in values[0].estimates %}<th>{{ name }}</th>{% endfor %}
<th>mean weight</th><th>largest</th><th>clipped</th><th>effective rows</th></tr></thead>
<tbody>
{% for value in values %}
<tr><td>{{ value.policy }}</td>
<td>{% if value.on_policy %}{{ value.on_policy | value }}<small>{{ value.on_policy | bounds }}</small>{% else %}–
{% endif %}</td>
{% for estimate in value.estimates.values() %}
<td>{{ estimate | value }}<small>{{ estimate | bounds }}</small></td>
{% endfor %}
<td>{{ "%.3f" % value.mean_weight.value }}<small>{{ value.mean_weight | bounds }}</small></td>
<td>{{ "%.1f" % value.largest_weight }}</td><td>{{ "%.1f %%" % (100 * value.clipped) }}</td>
<td>{{ "{:,.0f}".format(value.effective_rows) }}</td></tr>
{% endfor %}
</tbody>
</table></div>
<p><img alt="Estimates in {{ group }}" src="{{ image }}"></p>
{% endfor %}
{% if remarks %}<h2>Remarks</h2>
<ul>{% for line in remarks %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
<h2>How to read it</h2>
<p>Each row of the log counts by its weight: how much likelier the policy was to show the item than the log's own.
IPS is the weighted mean reward; SNIPS divides by the sum of the weights. The direct method asks a reward model about
every candidate and is as wrong as the model; doubly robust (DR) adds the weighted mean of what the model did not
predict, and is right when the propensities or the model are. Effective rows tell how many rows of the policy's own log
would be as informative. On-policy is the mean reward of the policy's own log in the same time. A policy named
<i>logged</i> is taken by its item frequencies per slot.</p>
</body>
</html>
"""
)


def render(report: Simulation, name: str, remarks: Sequence[str], plots: Sequence[Path]) -> str:
    """Return the page; every value is escaped and nothing is loaded from elsewhere.

    Args:
        report: the figures.
        name: which ranker.
        remarks: what a reader must know.
        plots: PNG files, one per group in the order of the report.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"value": _value, "bounds": _bounds}
    names = dict.fromkeys(value.group for value in report.values)
    groups = [
        (
            group,
            [value for value in report.values if value.group == group],
            picture(plot),
        )
        for group, plot in zip(names, plots, strict=True)
    ]
    return environment.from_string(_PAGE).render(report=report, name=name, groups=groups, remarks=remarks)


def _value(interval: Interval) -> str:
    return "–" if interval.value is None else f"{interval.value:.5f}"


def _bounds(interval: Interval) -> str:
    return "" if interval.low is None or interval.high is None else f"{interval.low:.5f} … {interval.high:.5f}"
