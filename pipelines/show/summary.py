"""What did a run do, how good is the model, what was decided, where to look next? The closing tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.platform.artifacts import Artifact, ErrorMemory, EvaluationReport, ModelVersion, Promotion
from components.platform.errors import RankmillError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from registry.evaluation import ALL, Cell, Evaluation, Interval
from registry.gate.verdict import Verdict
from registry.serving.model.contract import RegisteredVersion

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipelines.record.runs import Failure, RunOutcome
    from registry.memory.prequential import SlotReport


@dataclass(frozen=True)
class Made:
    """An artifact of a run, in a local folder."""

    stage: str
    artifact: Artifact
    folder: Path


_ANSWERS = {
    "promoted": "green",
    "passed": "green",
    "refused": "red",
    "unchanged": "yellow",
    "older": "yellow",
    "held": "yellow",
    "waiting": "yellow",
}


def print_summary(outcome: RunOutcome, settings: Settings, console: Console, report: Path | None = None) -> None:
    """Print what the stages of a run produced, the figures of their reports, and where to look."""
    from rich.text import Text

    results = outcome.results
    made = tuple(fetch(results, open_store(settings)))
    if results:
        console.print(stage_table(results, len(outcome.plan.stages), outcome.seconds))
    for one in made:
        if isinstance(one.artifact, EvaluationReport):
            console.print()
            console.print(evaluation_table(one.stage, read_evaluation(one.folder)))
    for one in made:
        if isinstance(one.artifact, ModelVersion):
            console.print(version_line(RegisteredVersion.model_validate_json(_text(one.folder, "version.json"))))
    for one in made:
        if isinstance(one.artifact, Promotion):
            console.print(verdict_line(read_verdict(one.folder)))
    for one in made:
        if isinstance(one.artifact, ErrorMemory):
            console.print()
            console.print(memory_table(one.stage, read_slots(one.folder)))
    pages = [(str(report), "this run on one page")] if report else []
    pages += places(made) if results else []
    if pages:
        console.print("\n[bold]where to look next[/bold]")
    for place, what in pages:
        console.print(Text(f"  {place}  ").append(what, style="dim"), soft_wrap=True)
    if outcome.failure:
        _tell_failure(outcome, outcome.failure, console)


def _tell_failure(outcome: RunOutcome, failure: Failure, console: Console) -> None:
    from rich.text import Text

    where = f"{failure.stage} failed: " if failure.stage else ""
    console.print(Text(f"\n{where}", style="bold red").append(failure.message, style="not bold"), soft_wrap=True)
    done = {failure.stage, *(result.stage for result in outcome.results)}
    if waiting := [stage.name for stage in outcome.plan.stages if stage.name not in done]:
        console.print(f"not run: {', '.join(waiting)}")
    console.print(f"log: {outcome.log}", soft_wrap=True)
    if outcome.again:
        console.print(Text("continue with: ").append(outcome.again, style="bold"), soft_wrap=True)


def stage_table(results: Sequence[StageResult], planned: int, seconds: float) -> Table:
    """Return one row per stage: seconds, whether it came from the store, what it produced."""
    from rich.table import Table
    from rich.text import Text

    cached = sum(result.cached for result in results)
    title = f"{len(results)} of {planned} stages done, {cached} cached, {seconds:.0f} s"
    table = Table(title=title, title_justify="left")
    for heading in ("stage", "seconds", "cached", "produced"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", overflow="fold")
    for result in results:
        made = "\n".join(result.notes) or ", ".join(f"{n} {ref.digest[:12]}" for n, ref in result.outputs.items())
        table.add_row(result.stage, f"{result.seconds:.1f}", "yes" if result.cached else "", Text(made))
    return table


def evaluation_table(stage: str, report: Evaluation) -> Table:
    """Return AUC, log-loss and PCOC per task and domain, with the interval of the AUC."""
    from rich.table import Table
    from rich.text import Text

    title = f"{stage}: {report.rows:,} rows of the {report.split} split, {report.provider}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("task", "domain", "rows", "pos", "AUC", f"{report.confidence:.0%}", "log-loss", "PCOC"):
        table.add_column(heading, justify="left" if heading in ("task", "domain") else "right", no_wrap=True)
    for task in report.tasks:
        cells = [cell for cell in report.cells if cell.task == task]
        for cell in sorted(cells, key=lambda c: (c.domain != ALL, c.domain)):
            table.add_row(task, Text(cell.domain), f"{cell.rows:,}", f"{cell.positives:,}", *figures(cell))
    return table


def version_line(version: RegisteredVersion) -> str:
    """Return the registered version in one line."""
    return f"\n[bold]registered[/bold] {version.model} version {version.version} [dim]{version.digest[:12]}[/dim]"


def verdict_line(verdict: Verdict) -> str:
    """Return the gate's answer in one line."""
    from rich.markup import escape

    against = f"champion {verdict.champion}" if verdict.champion is not None else "no champion yet"
    colour = _ANSWERS[verdict.answer]
    return (
        f"[bold]verdict[/bold]    [{colour}]{verdict.answer}[/{colour}]: version {verdict.challenger} against {against}"
        f"{f' on {verdict.rows:,} rows' if verdict.rows else ''}; {escape(verdict.reason)}"
    )


def memory_table(stage: str, slots: Sequence[SlotReport]) -> Table:
    """Return log-loss and AUC of the base model and of the compensated one, per slot and task."""
    from rich.table import Table

    title = f"{stage}: error memory, each slot scored before the memory learns it"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for heading in ("slot", "from", "rows", "task", "log-loss", "with memory", "AUC", "with memory"):
        table.add_column(heading, justify="left" if heading in ("from", "task") else "right", no_wrap=True)
    for slot in slots:
        for task, cell in slot.tasks.items():
            table.add_row(
                str(slot.slot),
                f"{slot.window.start:%Y-%m-%d}",
                f"{slot.rows:,}",
                task,
                *(_number(value) for value in (cell.base.log_loss, cell.compensated.log_loss)),
                *(_number(value) for value in (cell.base.auc, cell.compensated.auc)),
            )
    return table


def read_slots(folder: Path) -> list[SlotReport]:
    """Return the slots of an `ErrorMemory` artifact."""
    from registry.memory.prequential import SlotReport

    return [SlotReport.model_validate(slot) for slot in json.loads(_text(folder, "slots.json"))]


def read_evaluation(folder: Path) -> Evaluation:
    """Return the figures of an `EvaluationReport` artifact."""
    return Evaluation.model_validate_json(_text(folder, "report.json"))


def read_verdict(folder: Path) -> Verdict:
    """Return the verdict of a `Promotion` artifact."""
    return Verdict.model_validate_json(_text(folder, "verdict.json"))


def places(made: Sequence[Made]) -> Iterator[tuple[str, str]]:
    """Yield pages of this run, then commands, each with what a reader finds there."""
    for one in made:
        if one.artifact.page is not None and (path := one.folder / one.artifact.page.file).exists():
            yield str(path), f"{one.stage}: {one.artifact.page.what}"
    if any(isinstance(one.artifact, ModelVersion) for one in made):
        yield "rankmill models", "versions, aliases and who is champion"
    yield "make ui", "this DAG in Airflow, runs and models in MLflow"


def fetch(results: Sequence[StageResult], store: Store) -> Iterator[Made]:
    """Yield every artifact of a run that a reader can look at, in the order of its stages."""
    for result in results:
        for ref in result.outputs.values():
            # The run itself succeeded; whoever reads the artifact next is told what is wrong with it.
            with suppress(RankmillError):
                artifact = ref.load()
                if artifact.page or artifact.picture or isinstance(artifact, ModelVersion):
                    yield Made(result.stage, artifact, store.fetch(artifact))


def figures(cell: Cell) -> Iterator[str]:
    """Yield AUC, its interval, log-loss and PCOC as text; a dash where one is undefined."""
    auc, log_loss, pcoc = (cell.metrics.get(m, Interval(value=None)) for m in ("auc", "log_loss", "pcoc"))
    yield _number(auc.value)
    yield f"[{_number(auc.low, 3)}, {_number(auc.high, 3)}]" if auc.low is not None else "—"
    yield _number(log_loss.value)
    yield _number(pcoc.value, 2)


def _number(value: float | None, digits: int = 4) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def _text(folder: Path, file: str) -> str:
    return (folder / file).read_text(encoding="utf-8")
