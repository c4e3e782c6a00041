"""Which cell let the challenger through or held it back? The verdict as one self-contained page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from registry.evaluation import ALL
from registry.gate.decide import worst_of
from registry.gate.verdict import Judgement, Verdict

_HEADINGS = {
    "auc": "AUC, challenger − champion",
    "log_loss": "Log-loss, relative difference",
    "auc floor": "AUC floor",
    "pcoc floor": "Calibration floor (predicted / observed)",
}


@dataclass(frozen=True)
class _Bar:
    """A difference drawn on a line: positions in per cent of its width."""

    left: float
    width: float
    value: float
    zero: float
    limit: float


@dataclass(frozen=True)
class _Grid:
    """The judgements of one metric: a row per task, a column per domain."""

    heading: str
    domains: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Judgement, _Bar | None] | None, ...]], ...]


def render(verdict: Verdict) -> str:
    """Return the page as HTML without scripts or outside resources."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["signed"] = lambda value: "–" if value is None else f"{value:+.4f}"
    environment.filters["plain"] = lambda value: "–" if value is None else f"{value:.4f}"
    worst = worst_of(verdict.judgements)
    grids = _grids(verdict.judgements)
    bars = [cell[1] for grid in grids for _, cells in grid.rows for cell in cells if cell is not None]
    resamples = [j.resamples for j in verdict.judgements if j.resamples]
    return environment.from_string(_PAGE).render(
        verdict=verdict,
        grids=grids,
        worst=worst,
        all=ALL,
        style=_STYLE,
        drawn=any(bars),
        compared=any(j.champion is not None for j in verdict.judgements),
        fewest=min(resamples, default=0),
        most=max(resamples, default=0),
        strict=verdict.rule == "non_inferior",
    )


def _grids(judgements: tuple[Judgement, ...]) -> tuple[_Grid, ...]:
    grids = []
    for metric, heading in _HEADINGS.items():
        mine = {(j.task, j.domain): j for j in judgements if j.metric == metric}
        if not mine:
            continue
        tasks = list(dict.fromkeys(task for task, _ in mine))
        domains = tuple(sorted({domain for _, domain in mine}, key=lambda domain: (domain != ALL, domain)))
        reach = _reach(mine.values())
        rows = tuple(
            (task, tuple((mine[task, d], _bar(mine[task, d], reach)) if (task, d) in mine else None for d in domains))
            for task in tasks
        )
        grids.append(_Grid(heading, domains, rows))
    return tuple(grids)


def _reach(judgements: Collection[Judgement]) -> float:
    """Return the largest distance from zero that a grid has to show; wide bars that decide nothing are cut off."""
    judged = [j for j in judgements if j.outcome != "not judged"] or list(judgements)
    found = [1e-6]
    for judgement in judged:
        difference = judgement.difference
        values = (difference.low, difference.high, difference.value, judgement.limit) if difference else ()
        found += [abs(value) for value in values if value is not None]
    return max(found) * 1.08


def _bar(judgement: Judgement, reach: float) -> _Bar | None:
    difference = judgement.difference
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return None

    def at(value: float) -> float:
        return round(min(max(50 + 50 * value / reach, 0.0), 100.0), 2)

    low, high = at(difference.low), at(difference.high)
    return _Bar(left=low, width=max(high - low, 0.8), value=at(difference.value), zero=50.0, limit=at(judgement.limit))


_STYLE = """
:root { color-scheme: light dark; --ink: #1c2530; --soft: #5d6b7a; --line: #d8dee6; --card: #fff; --page: #f5f7f9;
  --good: #1b7f4d; --bad: #b3261e; --mute: #8a94a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa7b4; --line: #33404d; --card: #1a222b;
  --page: #11171d; --good: #57c78d; --bad: #ff8a80; --mute: #7a8693; } }
body { margin: 0; padding: 2rem; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1100px; margin: auto; }
h1 { font-size: 1.5rem; margin: 0 0 .4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
.answer { font-weight: 650; } .promoted, .passed { color: var(--good); } .refused { color: var(--bad); }
.unchanged, .older, .held, .not-judged { color: var(--mute); }
.reason { margin: 0; } .warning { margin: .3rem 0 0; color: var(--bad); } .facts, small { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { border: 1px solid var(--line); padding: .5rem .6rem; text-align: left; vertical-align: top; }
th { font-weight: 600; } td { width: 175px; } td b { font-variant-numeric: tabular-nums; } small { display: block; }
td.refused { outline: 2px solid var(--bad); outline-offset: -2px; } td { color: var(--ink) !important; }
.bar { position: relative; height: 12px; margin: .35rem 0; background: var(--page);
  border-radius: 2px; min-width: 110px; }
.bar i { position: absolute; top: 4px; height: 4px; background: currentColor; border-radius: 2px; }
.bar u { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--line); }
.bar u.limit { background: var(--bad); }
.bar em { position: absolute; top: 1px; width: 10px; height: 10px; margin-left: -5px; border-radius: 50%;
  background: currentColor; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ verdict.model }} v{{ verdict.challenger }}: {{ verdict.answer }}</title>
<style>{{ style | safe }}</style></head><body><main>
<h1>{{ verdict.model }} v{{ verdict.challenger }}
  {%- if verdict.champion is not none %} against champion v{{ verdict.champion }}{% endif %}:
  <span class="answer {{ verdict.answer }}">{{ verdict.answer }}</span></h1>
<p class="reason">{{ verdict.reason }}</p>
{% for warning in verdict.warnings %}
<p class="warning">{{ warning }}</p>
{% endfor %}
<p class="facts">
{%- if verdict.rows %}{{ "{:,}".format(verdict.rows) }} rows scored{% if compared %} by both models{% endif %} ·
  {% endif %}
  decided {{ verdict.decided_at.strftime("%Y-%m-%d %H:%M:%S") }} UTC ·
  training set {{ verdict.dataset_digest[:12] }}</p>
{% for grid in grids %}
<h2>{{ grid.heading }}</h2>
<div class="scroll"><table>
<tr><th>task</th>{% for domain in grid.domains %}<th>{{ "all rows" if domain == all else domain }}</th>{% endfor %}</tr>
{% for task, cells in grid.rows %}
<tr><th>{{ task }}</th>
{% for cell in cells %}
{% if cell is none %}<td></td>{% else %}
{% set judged, bar = cell %}
{% set kind = judged.outcome.replace(" ", "-") %}
<td class="{{ kind }}"><span class="{{ kind }}"><b>
{%- if judged.difference %}{{ judged.difference.value | signed }}
{%- else %}{{ judged.challenger | plain }}{% endif %}</b>
 {{ judged.outcome }}{% if judged is sameas worst %} · decided it{% endif %}
{% if bar %}<div class="bar" role="img" aria-label="{{ judged.reason }}"><u style="left:{{ bar.zero }}%"></u>
<u class="limit" style="left:{{ bar.limit }}%"></u><i style="left:{{ bar.left }}%;width:{{ bar.width }}%"></i>
<em style="left:{{ bar.value }}%"></em></div>{% endif %}</span>
{% if judged.champion is not none %}<small>{{ judged.challenger | plain }} against {{ judged.champion | plain }}</small>
{% endif %}
<small>{{ judged.reason }}</small></td>
{% endif %}
{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
{% if drawn %}<p class="facts">Dot: difference. Bar: paired bootstrap interval over users
{%- if most %}, {{ "{:,}".format(fewest) }}
{%- if most != fewest %} to {{ "{:,}".format(most) }}{% endif %} resamples{% endif %}. Grey line: no difference.
Red line: the limit; a cell refuses when {{ "any part of its bar" if strict else "its whole bar" }} lies beyond it.</p>
{% endif %}
</main></body></html>
"""
