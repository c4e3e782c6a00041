"""How does `rankmill run` run a pipeline? The same DAG, in this process, through Airflow's own `dag.test()`."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.platform.approval import Answer, Question
from components.platform.errors import BadInputError, RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from pipelines.language.check import load_plan
from pipelines.language.load import pipeline_file
from pipelines.language.notify import unsendable
from pipelines.language.params import check_params, written
from pipelines.language.plan import (
    ALL,
    Plan,
    Selection,
    due,
    left_out,
    refuse_missing,
    select,
    skip_reason,
    skipped,
    skips,
)
from pipelines.language.profile import ACTIVE, active_profile
from pipelines.record import runs
from pipelines.record.runs import Failure, RunOutcome
from pipelines.run import asking
from pipelines.run.airflow_home import in_process_environment, initialise, private_home, writing_below
from pipelines.run.predict import predict
from pipelines.run.task import Attempt, InterruptedRunError, end_children, may_pass, process, sentence
from pipelines.show import render
from pipelines.show.terminal import quiet_terminal

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console


def run_pipeline(
    name: str,
    params: Mapping[str, Any],
    settings: Settings,
    *,
    selection: Selection = ALL,
    moment: datetime | None = None,
    notify: bool = False,
    said: asking.Said | None = None,
) -> RunOutcome:
    """Run a pipeline to its end, showing on stdout one line when a stage starts and one when it ends.

    Retries and their delays are the DAG's own, so a stage that lost a worker is tried again as it
    would be under the scheduler, and a wrong config fails at once. Call once per process: Airflow
    reads its environment when it is imported. Nobody is told of it unless it is to `notify`. A stage that asks a person
    gets what was `said` already, else asks at the terminal; without one the run ends there and can be continued.

    Raises:
        PipelineError: the YAML is wrong.
        BadInputError: a param is unknown or has a wrong value, or nobody could be told.
        MissingError: a stage that is to be taken from the store is not there.
        StorageError: the embedded databases cannot be created.
    """
    whole = load_plan(pipeline_file(name), active_profile())
    given = check_params(whole.spec, params)
    if notify:
        refuse_silence(whole)
    if said is not None:
        refuse_needless_answer(whole)
    profile = os.environ.get(ACTIVE)
    started = time.monotonic()
    now = datetime.now(UTC)
    moment = moment or now
    part = select(whole, selection)
    plan = predict(due(part, given), given, moment, settings)
    refuse_missing(plan)
    run_id = f"manual__{now.isoformat()}"
    folder = run_folder(settings, plan.name, run_id)
    options = tuple(filter(None, (str(selection), f"--profile {profile}" if profile else "")))
    start = runs.start_of(plan.name, run_id, moment, tuple(stage.name for stage in plan.stages), params, *options)
    start = start.model_copy(update={"skipped": skipped(part, given)})
    with writing_below(settings.runs):
        folder.mkdir(parents=True, exist_ok=True)
        runs.write_start(settings, start)
    initialise(settings)
    with private_home(settings) as home, quiet_terminal(folder / "run.log") as console:
        head = f"{plan.name} · {len(plan.stages)} stages · log {folder / 'run.log'}"
        console.print(head, markup=False, soft_wrap=True)
        for left in filter(None, (left_out(whole, selection), skips(part, given))):
            console.print(left, markup=False, soft_wrap=True)
        console.print(render.summary(plan), markup=False, soft_wrap=True)
        os.environ.update(in_process_environment(settings, home))
        progress = _Progress(console, said)
        try:
            with _watched(progress):
                state = _test(plan, home, now, moment, params, selection, notify)
        except (InterruptedRunError, KeyboardInterrupt) as stop:
            process.stopped_by = getattr(stop, "number", signal.SIGINT)
            state = "interrupted"
        except Exception as error:
            # Stages hand their errors to Airflow, so this one is Airflow's own.
            logging.getLogger("rankmill").exception("Airflow could not run the DAG")
            progress.failure = Failure("", f"Airflow could not run the DAG ({sentence(error)}); the log says where", 1)
            state = "failed"
        finally:
            end_children()
        failure = progress.failure
        if process.stopped_by is not None:
            told = signal.Signals(process.stopped_by).name
            failure = Failure("", f"the run was stopped by {told}", 128 + process.stopped_by)
        elif state != "success" and failure is None:
            failure = Failure("", "Airflow ended the run before a stage failed, see the log", 1)
        elif failure is None:
            failure = _unfinished(plan, {*progress.results, *progress.gone})
    results = tuple(progress.results[stage.name] for stage in plan.stages if stage.name in progress.results)
    seconds = time.monotonic() - started
    again = ""
    if failure is not None:
        finished = {result.stage for result in results} | {*start.skipped, *progress.gone}
        again = command_to_continue(
            name, whole, selection=selection, params=given, moment=moment, profile=profile, finished=finished,
            failed=failure.stage,
        )  # fmt: skip
    with writing_below(settings.runs):
        ended = "success" if failure is None else "stopped" if process.stopped_by is not None else "failed"
        stage, message = (failure.stage, failure.message) if failure else ("", "")
        end = runs.RunEnd(state=ended, seconds=seconds, failed=stage, message=message, again=again)
        runs.write_end(settings, start, end)
    return RunOutcome(plan, run_id, folder, seconds, results, failure, again)


def _unfinished(plan: Plan, ended: Collection[str]) -> Failure | None:
    """Return what is wrong with a run that Airflow calls a success although a stage neither ran nor was skipped."""
    missing = [stage.name for stage in plan.stages if stage.name not in ended]
    if not missing:
        return None
    what = "no stage" if len(missing) == len(plan.stages) else f"all stages but {', '.join(missing)}"
    return Failure("", f"Airflow ended the run as a success and ran {what}: the log says why", 1)


def exit_code_of(error: BaseException) -> int:
    """Return the exit status of a run that `error` ended."""
    return error.exit_code if isinstance(error, RankmillError) else 1


def refuse_silence(plan: Plan) -> None:
    """Make sure that a run which is to tell people can.

    Raises:
        BadInputError: the pipeline names nobody, or what sends is not installed.
    """
    if plan.spec.notify is None or not plan.spec.notify.events:
        raise BadInputError(f"{plan.name} tells nobody anything: say whom under notify:, or leave --notify out")
    if problem := next(unsendable(plan.spec.notify), None):
        raise BadInputError(f"{plan.name}: {problem}")


def refuse_needless_answer(plan: Plan) -> None:
    """Make sure that a run which is given an answer asks something.

    Raises:
        BadInputError: no stage of it asks people.
    """
    if not any(stage.config.get("approval") for stage in plan.stages):
        raise BadInputError(
            f"no stage of {plan.name} asks people: write approval: into with: of its promote_model, or leave --approve "
            "and --refuse out"
        )


def _test(
    plan: Plan, home: Path, begun: datetime, moment: datetime, given: Mapping[str, Any], part: Selection, notify: bool
) -> str:
    """Run the DAG through `dag.test()`; return the state of the run.

    `dag.test` wants its DAG in the DAG folder, so the private home holds a stub of this one pipeline.
    The run's id comes from the time it begins, what it reads from the time it is for.
    """
    file = f"Path({str(plan.path.resolve())!r})"
    imports = (
        "from pathlib import Path\n"
        "from pipelines.run.airflow_dag import build_dag\n"
        "from pipelines.language.plan import Selection\n"
    )
    stub = f"# Airflow DAG\n{imports}dag = build_dag({file}, {part!r}, alone=True, notify={notify})\n"
    (home / "dags" / f"{plan.name}.py").write_text(stub, encoding="utf-8")
    from pipelines.run.airflow_dag import build_dag, speak_newest_version

    speak_newest_version()
    dag = build_dag(plan.path, part, alone=True, notify=notify)
    run = dag.test(run_after=begun, logical_date=moment, run_conf=dict(given))
    return str(run.state.value if hasattr(run.state, "value") else run.state)


@dataclass
class _Progress:
    """Prints what stages do as they do it, and remembers what they returned."""

    console: Console
    said: asking.Said | None = None
    """What a stage that asks is answered."""
    results: dict[str, StageResult] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    """Stages that a verdict skipped, each with what decided it."""
    failure: Failure | None = None
    begun: dict[str, float] = field(default_factory=dict)

    def started(self, attempt: Attempt) -> None:
        again = f" (try {attempt.number} of {attempt.of})" if attempt.number > 1 else ""
        self.begun[attempt.stage.name] = time.monotonic()
        self.line(f"▶ {attempt.stage.name}{again}", attempt.stage.component.name)

    def finished(self, attempt: Attempt, result: StageResult) -> None:
        self.results[attempt.stage.name] = result
        self.line(f"✔ {attempt.stage.name}", "cached" if result.cached else f"{result.seconds:.1f} s", style="green")

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        if isinstance(error, InterruptedRunError | KeyboardInterrupt):
            return
        message = sentence(error)
        if type(error).__name__ == "AirflowTaskTimeout" and attempt.stage.timeout:
            limit = _duration(attempt.stage.timeout)
            message = f"it ran longer than its timeout of {limit}; raise `timeout:` or give it less to do"
        seconds = time.monotonic() - self.begun.get(attempt.stage.name, time.monotonic())
        if attempt.number >= attempt.of or not may_pass(error):
            self.failure = self.failure or Failure(attempt.stage.name, message, exit_code_of(error))
            self.line(f"✘ {attempt.stage.name}", f"{seconds:.1f} s", style="red")
            return
        due = datetime.now().astimezone() + attempt.stage.retry_delay
        wait = _duration(attempt.stage.retry_delay)
        self.line(f"↻ {attempt.stage.name}", f"try {attempt.number} of {attempt.of} failed: {message}", style="yellow")
        self.line("", f"tries again in {wait}, at {due:%H:%M:%S}")

    def left_out(self, stages: Mapping[str, str]) -> None:
        self.gone |= stages
        for stage, cause in stages.items():
            self.line(f"– {stage}", f"skipped: {skip_reason(cause)}", style="yellow")

    def asked(self, question: Question) -> Answer | None:
        if self.said is not None:
            answer = self.said.answer(question, asking.user_name())
            self.detail(f"{asking.subject(question)} {'Yes' if answer.approved else 'No'}, says {answer.by}")
            return answer
        if not sys.stdin.isatty():
            return None
        return asking.ask_here(question, asking.user_name(), lambda text: self.line("?", text), sys.stdin.readline)

    def detail(self, text: str) -> None:
        self.line("", text, style="dim")

    def line(self, head: str, text: str, style: str = "") -> None:
        from rich.text import Text

        self.console.print(
            Text(f"{head:<24} ", style=style).append(text, style="dim" if style == "dim" else ""), soft_wrap=True
        )


class _Details(logging.Handler):
    """Shows what stages note about their work; the rest of the log goes to the file."""

    def __init__(self, progress: _Progress) -> None:
        super().__init__(logging.INFO)
        self.progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        stage, _, text = record.getMessage().partition(": ")
        self.progress.detail(text if text and stage in self.progress.begun else record.getMessage())


@contextmanager
def _watched(progress: _Progress) -> Iterator[None]:
    """Let `progress` see the stages of this process, and let Ctrl-C and SIGTERM end the running one."""
    logger, details = logging.getLogger("rankmill"), _Details(progress)
    process.observer, process.stopped_by = progress, None
    logger.addHandler(details)
    logger.setLevel(logging.INFO)

    def stop(number: int, frame: FrameType | None) -> None:
        process.stop(number)

    # Airflow puts its own SIGTERM handler in place for each task; that one calls the operator's `on_kill`.
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        logger.removeHandler(details)
        process.observer = None


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def command_to_continue(
    name: str,
    plan: Plan,
    *,
    selection: Selection,
    params: Mapping[str, Any],
    moment: datetime,
    profile: str | None,
    finished: Set[str],
    failed: str,
) -> str:
    """Return the command line.

    It starts at the failed stage and takes what this run has finished as it was made, also where a
    cache is off. Where other stages are due as well, the run as a whole is asked for again: what is
    finished comes from the store then, too.
    """
    words = ["rankmill", "run", name]
    if profile:
        words += ["--profile", profile]
    for param, value in params.items():
        if plan.spec.params[param].required or value != plan.spec.params[param].default:
            words += ["--param", f"{param}={written(value)}"]
    if plan.spec.window.end is None:
        words += ["--at", moment.isoformat(timespec="seconds")]
    return shlex.join([*words, *str(_rest(plan, selection, finished, failed)).split()])


def _rest(plan: Plan, selection: Selection, finished: Set[str], failed: str) -> Selection:
    """Return the part that is still due."""
    if not failed or selection.extent == "only":
        return selection
    asked = {stage.name for stage in select(plan, selection).stages}
    later = replace(selection, extent="from", stage=failed)
    covered = {stage.name for stage in select(plan, later).stages if stage.start == "anew"}
    return later if asked - finished <= covered else selection
