"""What did a run do, on one page? Stages, times, cached or why not, and what its stages show, all in one file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.pages.style import REPORT_STYLE, picture
from components.platform.cache import RUN, changes, nearest_run, told
from components.platform.errors import RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store import ArtifactRef, Store, open_store
from features.ground.files import write_durably
from features.ground.remote_files import name_below
from pipelines.language.check import load_plan, pipeline_path
from pipelines.language.hiding import hidden
from pipelines.language.plan import Plan
from pipelines.record.runs import REPORT, RecordedRun, read_run
from pipelines.show.diagram import Mark, svg
from pipelines.show.summary import PAGES, figures
from registry.evaluation import ALL, Cell, Evaluation
from registry.gate.verdict import Verdict

_PICTURES = {"ranker": ("curves.png", "training curves")}
"""File of an artifact, by kind, that is shown as a picture."""
_MORE_PAGES = (("policy_report", "report.html", "what policies are worth"),)
log = logging.getLogger("rankmill")


@dataclass(frozen=True)
class StageLine:
    """One stage of a run, for the reader.

    Attributes:
        name: stage.
        uses: component; empty when neither a result nor the plan says so.
        mark: state, and a word about it.
        why: why it was taken from the store, or ran.
        notes: what it said it made, or its failure.
        outputs: reference of each output.
    """

    name: str
    uses: str
    mark: Mark
    why: str
    notes: tuple[str, ...]
    outputs: Mapping[str, ArtifactRef]


@dataclass(frozen=True)
class Shown:
    """A page or a picture that a stage made.

    Attributes:
        stage: who made it.
        what: what a reader finds there.
        file: where it lies.
        page: its HTML, empty for a picture.
        image: the picture as `src`, empty for a page.
    """

    stage: str
    what: str
    file: Path
    page: str = ""
    image: str = ""


def write_report(run: RecordedRun, plan: Plan | None, settings: Settings) -> Path:
    """Write the page of a run into its folder and return it.

    Args:
        run: what its folder tells.
        plan: the pipeline as it ran, for the picture; None leaves that out.
        settings: where the artifacts live.

    Raises:
        OSError: the folder cannot be written.
    """
    path = run.folder / REPORT
    write_durably(path, hidden(render(run, plan, open_store(settings))))
    return path


def report_when_ended(plan: Plan, run_id: str, settings: Settings) -> None:
    """Write the page of a scheduler's run whose last stage has ended; whatever is wrong with it harms no stage."""
    try:
        run = read_run(run_folder(settings, plan.name, run_id))
        if run is not None and run.state in ("success", "failed"):
            write_report(run, plan, settings)
    except Exception as error:
        log.warning("the report of run %s was not written: %s", run_id, error)


def plan_of(run: RecordedRun) -> Plan | None:
    """Return the plan of a recorded run, or None when its pipeline is not the one that ran."""
    with suppress(RankmillError):
        plan = load_plan(pipeline_path(run.start.pipeline))
        if {stage.name for stage in plan.stages} >= {*run.start.stages}:
            return plan
    return None


def render(run: RecordedRun, plan: Plan | None, store: Store) -> str:
    """Return the page of a run as HTML without scripts or outside resources."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    lines = list(stage_lines(run, plan, store))
    shown = list(shown_by(run.results, store))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["minute"] = lambda moment: f"{moment:%Y-%m-%d %H:%M} UTC"
    environment.tests["of_the_store"] = lambda uri: name_below(store.root, uri) is not None
    # The picture escapes its texts itself.
    graph = Markup(svg(plan, marks(run, plan))) if plan is not None else ""  # noqa: S704  # made by `diagram` alone
    return environment.from_string(_PAGE).render(
        run=run, start=run.start, lines=lines, graph=graph, shown=shown, all=ALL, style=REPORT_STYLE + _STYLE,
        verdicts=_verdicts(shown), evaluations=_evaluations(shown), figures=_figures,
        cached=sum(result.cached for result in run.results),
    )  # fmt: skip


def marks(run: RecordedRun, plan: Plan) -> dict[str, Mark]:
    """Return what to say about each stage of a plan after a run of it."""
    return {stage.name: _mark(run, stage.name) for stage in plan.stages}


def _mark(run: RecordedRun, stage: str) -> Mark:
    result = next((result for result in run.results if result.stage == stage), None)
    if result is not None:
        return Mark("cached") if result.cached else Mark("done", f"{result.seconds:.1f} s")
    return Mark("failed") if any(failure.failed == stage for failure in run.failures) else Mark("not run")


def stage_lines(run: RecordedRun, plan: Plan | None, store: Store) -> Iterator[StageLine]:
    """Yield what there is to say about each stage of a run, in order."""
    results = {result.stage: result for result in run.results}
    failures = {failure.failed: failure.message for failure in run.failures}
    uses = {stage.name: stage.component.name for stage in plan.stages} if plan else {}
    for name in run.start.stages:
        mark = _mark(run, name)
        if (result := results.get(name)) is not None:
            notes = tuple(map(hidden, result.notes))
            yield StageLine(name, result.component, mark, reason(result, store), notes, result.outputs)
        else:
            said = (failures[name],) if name in failures else ()
            yield StageLine(name, uses.get(name, ""), mark, "", said, {})


def reason(result: StageResult, store: Store) -> str:
    """Return why a stage came from the store, or what made it run, as its record and earlier ones tell."""
    record = store.find(result.component, result.key)
    if record is None:
        return "its record is no longer in the store"
    if result.cached:
        maker = f" by {record.made_by}" if record.made_by else ""
        return f"made {record.created_at:%Y-%m-%d %H:%M} UTC{maker}, nothing changed since"
    if RUN in record.explanation:
        return "its result is never taken from the store"
    earlier = [other for other in store.records(result.component) if other.created_at < record.created_at]
    near = nearest_run(record.explanation, earlier, record.made_by)
    if near is None:
        return "it had never run"
    found = changes(near, record.explanation, record.config, record.sources)
    return told(found) if found else "it was asked to run again, or its earlier result no longer held"


def shown_by(results: tuple[StageResult, ...], store: Store) -> Iterator[Shown]:
    """Yield the pages and pictures that stages made, in the order of the stages."""
    pages = {kind: (file, what) for kind, file, what in (*PAGES, *_MORE_PAGES)}
    for result in results:
        for ref in result.outputs.values():
            if ref.kind not in pages and ref.kind not in _PICTURES:
                continue
            try:
                folder = store.fetch(ref.load())
            except RankmillError:
                continue  # the table still names it; whoever reads the artifact next is told what is wrong with it
            file, what = pages[ref.kind] if ref.kind in pages else _PICTURES[ref.kind]
            path = folder / file
            if not path.exists():
                continue
            if ref.kind in _PICTURES:
                yield Shown(result.stage, what, path, image=picture(path))
            else:
                yield Shown(result.stage, what, path, page=path.read_text(encoding="utf-8"))


def _evaluations(shown: list[Shown]) -> list[tuple[str, Evaluation]]:
    found = [(item.stage, item.file.with_name("report.json")) for item in shown if item.file.name == "report.html"]
    reports: list[tuple[str, Evaluation]] = []
    for stage, file in found:
        with suppress(OSError, ValueError):  # reports of other kinds have a report.json of another shape
            reports.append((stage, Evaluation.model_validate_json(file.read_text(encoding="utf-8"))))
    return reports


def _verdicts(shown: list[Shown]) -> list[tuple[str, Verdict]]:
    files = [(item.stage, item.file.with_name("verdict.json")) for item in shown if item.file.name == "verdict.html"]
    return [(stage, Verdict.model_validate_json(file.read_text(encoding="utf-8"))) for stage, file in files]


def _figures(cell: Cell) -> list[str]:
    return list(figures(cell))


_STYLE = """
.state { border-radius: .3rem; padding: .05rem .45rem; background: #f1f4f8; color: #52606d; font-weight: 600; }
.success, .done { background: #e6f6ec; color: #22703f; } .failed, .killed { background: #fdecea; color: #b02525; }
.cached, .running { background: #e3f0fb; color: #24598f; } .refused { background: #fdecea; color: #b02525; }
.promoted { background: #e6f6ec; color: #22703f; } .unchanged { background: #fdf6e3; color: #8a5a12; }
table.stages { table-layout: fixed; } table.stages td, table.stages th { text-align: left; white-space: normal; }
table.stages td { overflow-wrap: anywhere; vertical-align: top; }
table.stages td.number, table.stages th.number { text-align: right; white-space: nowrap; }
.graph svg { max-width: 100%; height: auto; display: block; } .narrow { width: auto; }
iframe { width: 100%; height: 36rem; border: 1px solid #cbd2d9; border-radius: .3rem; resize: vertical; }
details { margin: .4rem 0; } summary { cursor: pointer; } .fault { color: #b02525; }
.again { background: #f5f7fa; padding: .4rem .6rem; display: block; overflow-x: auto; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ start.pipeline }}: {{ run.state }}</title>
<style>{{ style }}</style>
</head>
<body>
<h1>{{ start.pipeline }} <span class="state {{ run.state }}">{{ run.state }}</span></h1>
<dl>
<dt>run</dt><dd><code>{{ start.run_id }}</code>, by {{ start.by }}{{ " on " + start.host if start.host else "" }}</dd>
<dt>for</dt><dd>{{ start.moment | minute }}</dd>
<dt>started</dt><dd>{{ start.started_at | minute }}</dd>
<dt>took</dt><dd>{{ "%.1f" | format(run.seconds) }} s, {{ run.results | length }} of {{ start.stages | length }} stages
done, {{ cached }} from the store</dd>
{% for name, value in start.params.items() %}
<dt>{{ name }}</dt><dd><code>{{ value }}</code></dd>
{% endfor %}
{% if start.options %}<dt>options</dt><dd><code>{{ start.options | join(" ") }}</code></dd>{% endif %}
</dl>
{% if run.state != "success" and run.told %}<p class="fault"><b>{{ run.told }}</b></p>{% endif %}
{% if run.again %}<p>Continue with: <code class="again">{{ run.again }}</code></p>{% endif %}
{% for stage, verdict in verdicts %}
<p>{{ stage }}: <span class="state {{ verdict.answer }}">{{ verdict.answer }}</span> version {{ verdict.challenger }}
{{ "against champion %s" | format(verdict.champion) if verdict.champion is not none else "with no champion yet" }}
{%- if verdict.rows %}, {{ "{:,}".format(verdict.rows) }} rows{% endif %}: {{ verdict.reason }}
{%- for warning in verdict.warnings %}; <span class="fault">{{ warning }}</span>{% endfor %}</p>
{% endfor %}
{% for stage, report in evaluations %}
<h2>{{ stage }} <small>{{ "{:,}".format(report.rows) }} rows of the {{ report.split }} split, all domains</small></h2>
<div class="scroll"><table class="narrow">
<thead><tr><th>task</th><th>rows</th><th>positives</th><th>AUC</th><th>interval</th><th>log-loss</th><th>PCOC</th></tr>
</thead><tbody>
{% for cell in report.cells if cell.domain == all %}
<tr><td>{{ cell.task }}</td><td>{{ "{:,}".format(cell.rows) }}</td><td>{{ "{:,}".format(cell.positives) }}</td>
{% for figure in figures(cell) %}<td>{{ figure }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
<h2>Stages</h2>
<table class="stages">
<colgroup><col style="width:15%"><col style="width:10%"><col style="width:9%"><col style="width:28%"><col></colgroup>
<thead><tr><th>stage</th><th>state</th><th class="number">seconds</th><th>why it ran, or did not</th><th>made</th></tr>
</thead>
<tbody>
{% for line in lines %}
<tr><td><b>{{ line.name }}</b><small>{{ line.uses }}</small></td>
<td><span class="state {{ line.mark.state }}">{{ line.mark.state }}</span></td>
<td class="number">{{ line.mark.text | replace(" s", "") }}</td>
<td>{{ line.why }}</td>
<td>{% for note in line.notes %}
<div{{ ' class=fault' if line.mark.state == "failed" else "" }}>{{ note }}</div>{% endfor %}
{% for name, ref in line.outputs.items() %}
<small>{% if ref.uri is of_the_store %}<a href="{{ ref.uri }}">{{ name }}</a>{% else %}{{ name }}{% endif %}
 {{ ref.kind }} <code>{{ ref.digest[:12] }}</code></small>
{% endfor %}</td></tr>
{% endfor %}
</tbody></table>
{% if graph %}
<h2>How it hangs together</h2>
<div class="graph">{{ graph }}</div>
{% endif %}
{% if shown %}
<h2>What the stages show</h2>
{% for item in shown %}
<details{{ " open" if item.image else "" }}>
<summary><b>{{ item.stage }}</b>: {{ item.what }} (<a href="{{ item.file.as_uri() }}">file</a>)</summary>
{% if item.image %}
<img alt="{{ item.stage }}: {{ item.what }}" src="{{ item.image }}">
{% else %}
<iframe sandbox="" title="{{ item.stage }}: {{ item.what }}" srcdoc="{{ item.page }}"></iframe>
{% endif %}
</details>
{% endfor %}
{% endif %}
</body>
</html>
"""
