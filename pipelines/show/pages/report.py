"""What did a run do, on one page? Stages, times, cached or why not, and what its stages show, all in one file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from components.pages.document import is_few, picture
from components.pages.document import render as page_of
from components.pages.embed import embedded
from components.platform.artifacts import EvaluationReport, Promotion, artifact_kinds
from components.platform.cache import RUN, changes, nearest_run, told
from components.platform.errors import RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from components.platform.store.records import ArtifactRef
from features.ground.files import write_durably
from pipelines.language.check import load_plan
from pipelines.language.hiding import hidden
from pipelines.language.load import pipeline_path
from pipelines.language.params import resolve_window
from pipelines.language.plan import Plan, skip_reason
from pipelines.record.runs import REPORT, RecordedRun, read_run
from pipelines.show.pages.flow import Box, Mark, levels
from pipelines.show.summary import Made, fetch, figures, read_evaluation, read_verdict
from registry.evaluation import ALL, Cell, Evaluation
from registry.gate.verdict import Verdict

log = logging.getLogger("rankmill")


@dataclass(frozen=True)
class StageLine:
    """One stage of a run, for the reader."""

    name: str
    uses: str
    """Component; empty when neither a result nor the plan says so."""
    mark: Mark
    why: str
    """Why it was taken from the store, or ran."""
    notes: tuple[str, ...]
    """What it said it made, or its failure."""
    outputs: Mapping[str, ArtifactRef]


@dataclass(frozen=True)
class Shown:
    """A page or a picture that a stage made, inside the page of its run."""

    stage: str
    what: str
    file: Path
    page: Markup | None
    image: str
    """The picture as `src`, empty for a page."""


@dataclass(frozen=True)
class _Figures:
    """An evaluation over all domains."""

    stage: str
    report: Evaluation
    cells: tuple[tuple[Cell, tuple[str, ...]], ...]
    few: bool
    """Whether one of them has too few rows of a label."""


@dataclass(frozen=True)
class _View:
    run: RecordedRun
    purpose: str
    """What the pipeline is for, and the time that it read; empty when its plan is not known."""
    window: str
    cached: int
    verdicts: tuple[tuple[str, Verdict], ...]
    evaluations: tuple[_Figures, ...]
    lines: tuple[StageLine, ...]
    levels: tuple[tuple[Box, ...], ...]
    shown: tuple[Shown, ...]


def write_report(run: RecordedRun, plan: Plan | None, settings: Settings) -> Path:
    """Write the page of a run into its folder and return it.

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


def standing_report(run: RecordedRun, settings: Settings) -> str:
    """Return the page of a run: the one that was written when it ended, or how it stands by now."""
    if run.report is not None and run.state != "running":
        with suppress(OSError):
            return run.report.read_text(encoding="utf-8")
    return hidden(render(run, plan_of(run), open_store(settings)))


def shown_outputs(run: RecordedRun) -> Iterator[tuple[str, str, str]]:
    """Yield stage, output and what a reader finds there, of every output of a run that a page or picture belongs to."""
    for result in run.results:
        for name, ref in result.outputs.items():
            kind = artifact_kinds().get(ref.kind)
            if kind is not None and (shown := kind.page or kind.picture) is not None:
                yield result.stage, name, shown.what


@dataclass(frozen=True)
class ShownFile:
    """A page or a picture as its stage made it."""

    content: bytes
    media_type: str


def shown_file(run: RecordedRun, stage: str, output: str, settings: Settings) -> ShownFile | None:
    """Return the page or picture of one output of a run, checked against its sha256; None where there is none.

    Only what an artifact's type declares as such can be asked for, never a file by its name.

    Raises:
        RankmillError: the artifact is gone from the store, or was changed.
    """
    outputs = next((result.outputs for result in run.results if result.stage == stage), {})
    if output not in outputs:
        return None
    kind = type(outputs[output].load())
    shown = kind.page or kind.picture
    if shown is None:
        return None
    content = open_store(settings).read(outputs[output], shown.file)
    return ShownFile(content, "text/html; charset=utf-8" if shown is kind.page else "image/png")


def plan_of(run: RecordedRun) -> Plan | None:
    """Return the plan of a recorded run, or None when its pipeline is not the one that ran."""
    with suppress(RankmillError):
        plan = load_plan(pipeline_path(run.start.pipeline))
        if {stage.name for stage in plan.stages} >= {*run.start.stages}:
            return plan
    return None


def render(run: RecordedRun, plan: Plan | None, store: Store) -> str:
    """Return the page of a run as HTML without scripts or outside resources."""
    made = tuple(fetch(run.results, store))
    view = _View(
        run=run,
        purpose=plan.spec.description if plan else "",
        window=_window(run, plan) if plan else "",
        cached=sum(result.cached for result in run.results),
        verdicts=tuple((one.stage, read_verdict(one.folder)) for one in made if isinstance(one.artifact, Promotion)),
        evaluations=tuple(_evaluations(made)),
        lines=tuple(stage_lines(run, plan, store)),
        levels=levels(plan, marks(run, plan)) if plan else (),
        shown=(*_left(run), *_shown(made)),
    )
    return page_of(__file__, view)


def _window(run: RecordedRun, plan: Plan) -> str:
    """Return the interval of events that a run read, or nothing when its file no longer fits its params."""
    defaults = {name: param.default for name, param in plan.spec.params.items()}
    with suppress(RankmillError):
        return str(resolve_window(plan.spec, defaults | run.start.params, run.start.moment))
    return ""


def marks(run: RecordedRun, plan: Plan) -> dict[str, Mark]:
    """Return what to say about each stage of a plan after a run of it."""
    return {stage.name: _mark(run, stage.name) for stage in plan.stages}


def _mark(run: RecordedRun, stage: str) -> Mark:
    result = next((result for result in run.results if result.stage == stage), None)
    if result is not None:
        return Mark("cached") if result.cached else Mark("done", f"{result.seconds:.1f} s")
    if stage in run.start.skipped:
        return Mark("skipped")
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
    for name, cause in run.start.skipped.items():
        yield StageLine(name, uses.get(name, ""), _mark(run, name), f"skipped: {skip_reason(cause)}", (), {})


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


def _left(run: RecordedRun) -> Iterator[Shown]:
    """Yield the pages that failed stages left for the reader of their error: a verdict, what a contract found."""
    for failure in run.failures:
        for path in sorted((run.folder / failure.failed).glob("*.html")):
            with suppress(OSError, UnicodeDecodeError):
                body = Markup(embedded(path.read_text(encoding="utf-8")))  # noqa: S704  # written anew, as below
                yield Shown(failure.failed, "why it failed", path, body, "")


def _shown(made: Sequence[Made]) -> Iterator[Shown]:
    for one in made:
        for view in (one.artifact.page, one.artifact.picture):
            if view is None or not (path := one.folder / view.file).exists():
                continue
            if view is one.artifact.page:
                # `embedded` writes every tag anew and escapes every text.
                body = Markup(embedded(path.read_text(encoding="utf-8")))  # noqa: S704
                yield Shown(one.stage, view.what, path, body, "")
            else:
                yield Shown(one.stage, view.what, path, None, picture(path))


def _evaluations(made: Sequence[Made]) -> Iterator[_Figures]:
    for one in made:
        if not isinstance(one.artifact, EvaluationReport):
            continue
        with suppress(ValueError):  # a report of an older release may have another shape; its page still tells
            report = read_evaluation(one.folder)
            cells = [cell for cell in report.cells if cell.domain == ALL]
            figured = tuple((cell, tuple(figures(cell))) for cell in cells)
            yield _Figures(one.stage, report, figured, any(map(is_few, cells)))
