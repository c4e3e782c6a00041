"""How does a reader see what a data contract found? One page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence

from components.data.validate_data.config import SuiteResult
from components.data.validate_data.profile import ColumnProfile

_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ result.suite }}: {{ "holds" if result.passed else "broken" }}</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --paper: #fff; --band: #f6f8fa;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --aside: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --paper: #0d1117;
  --band: #151b23; --good: #3fb950; --bad: #f85149; --warn: #d29922; --aside: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.5rem 4rem; font: 15px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .75rem; }
p { margin: 0; } .soft { color: var(--soft); }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.5rem 0 0; padding: 0; list-style: none; }
.figures li { border: 1px solid var(--line); border-radius: 6px; padding: .6rem 1rem; min-width: 9rem; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem; border-bottom: 1px solid var(--line); }
th { background: var(--band); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
code { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .aside { color: var(--aside); }
td.state { font-weight: 600; white-space: nowrap; }
td.found { min-width: 17rem; }
ul.examples { margin: .25rem 0 0; padding-left: 1.1rem; }
</style>
</head>
<body>
<h1>{{ result.suite }}: <span class="{{ 'good' if result.passed else 'bad' }}">
{{- "the contract holds" if result.passed else "the contract is broken" }}</span></h1>
<p class="soft">{{ description }}</p>
<ul class="figures">
<li><b>{{ "{:,}".format(result.rows) }}</b> rows checked</li>
<li><b>{{ "{:,}".format(result.kept) }}</b> rows kept</li>
<li><b>{{ "{:,}".format(result.rows - result.kept) }}</b> rows quarantined
  <span class="soft">(at most {{ "{:.1%}".format(result.max_quarantined) }})</span></li>
<li><b>{{ met }} of {{ result.expectations | length }}</b> expectations met</li>
</ul>

<h2>Expectations</h2>
<p class="soft">Broken ones first. Quarantine rules see every row, the others the rows that are kept.</p>
<div class="wide"><table>
<thead><tr><th>Result</th><th>Column</th><th>Expectation</th>
<th class="number">Checked</th><th class="number">Broken</th><th>Found</th></tr></thead>
<tbody>
{% for one in expectations %}
<tr>
<td class="state {{ one | tone }}">{{ one | state }}</td>
<td>{% if one.column %}<code>{{ one.column }}</code>{% else %}<span class="soft">table</span>{% endif %}</td>
<td><code>{{ one.expectation }}</code>
{% if one.arguments %}<br><code class="soft">
{%- for name, value in one.arguments.items() %}{{ "; " if not loop.first }}{{ name }} {{ value }}{% endfor -%}
</code>{% endif %}
{% if one.why %}<br><span class="soft">{{ one.why }}</span>{% endif %}</td>
<td class="number">{{ "{:,}".format(one.checked) }}</td>
<td class="number">{{ "–" if one.observed or one.problem else "{:,}".format(one.broken) }}</td>
<td class="found">{% if one.problem %}not checked: {{ one.problem }}{% endif %}
{% if one.observed %}<code>{{ one.observed }}</code>{% endif %}
{% if one.examples %}<ul class="examples">
{% for example in one.examples %}<li><code>{{ example }}</code></li>{% endfor %}</ul>{% endif %}</td>
</tr>
{% endfor %}
</tbody></table></div>

<h2>Columns</h2>
<p class="soft">All {{ "{:,}".format(result.rows) }} rows, as they came.</p>
<div class="wide"><table>
<thead><tr><th>Column</th><th>Type</th><th class="number">Null</th><th>Smallest</th><th>Largest</th>
<th class="number">Distinct</th></tr></thead>
<tbody>
{% for column in columns %}
<tr><td><code>{{ column.name }}</code></td><td><code class="soft">{{ column.kind }}</code></td>
<td class="number">{{ "{:.2%}".format(column.nulls) }}</td><td>{{ column.smallest }}</td><td>{{ column.largest }}</td>
<td class="number">{{ "{:,}".format(column.distinct) }}</td></tr>
{% endfor %}
</tbody></table></div>
</body>
</html>
"""
_TONES = {"fail": "bad", "warn": "warn", "quarantine": "aside"}
_STATES = {"fail": "broken", "warn": "warning", "quarantine": "quarantined"}


def render(result: SuiteResult, description: str, columns: Sequence[ColumnProfile]) -> str:
    """Return the page as HTML: no script, no file and no address outside it.

    Args:
        result: what the suite found.
        description: what the contract protects.
        columns: profile of the table that was checked.
    """
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["tone"] = lambda one: "good" if one.passed else "bad" if one.problem else _TONES[one.action]
    environment.filters["state"] = lambda one: (
        "met" if one.passed else "not checked" if one.problem else _STATES[one.action]
    )
    order = {"fail": 0, "quarantine": 1, "warn": 2}
    return environment.from_string(_TEMPLATE).render(
        result=result,
        description=description,
        met=sum(one.passed for one in result.expectations),
        expectations=sorted(result.expectations, key=lambda one: (one.passed, order[one.action], one.line)),
        columns=columns,
    )
