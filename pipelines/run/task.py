"""What does one task of a DAG do? Params, window and inputs in, an executed stage out; no Airflow in here."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psutil

from components.platform.approval import Answer, ApprovalNeededError, People, Question
from components.platform.errors import BadInputError, MissingError, RankmillError
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.records import ArtifactRef
from features.ground.library_errors import library_of, reason
from pipelines.language import shape
from pipelines.language.params import check_params, resolve_config, resolve_window
from pipelines.language.plan import Plan, PlannedStage, skipped
from pipelines.record.runs import RunStart, write_failure, write_skips, write_start


@dataclass(frozen=True)
class Attempt:
    """One try at one stage of one run."""

    plan: Plan
    stage: PlannedStage
    run_id: str
    conf: Mapping[str, Any]
    """Params given when the run was triggered; scheduled runs give none."""
    moment: datetime
    """Time the run is for: its logical date, or when it was to start if it has none."""
    upstream: Mapping[str, StageResult]
    """What the stages that this one reads returned, by stage name."""
    number: int = 1
    """1 for the first try."""
    of: int = 1
    """Tries allowed."""
    answer: Answer | None = None
    """What a person said to the question of an earlier part of this try."""
    commit: str = ""
    """Version of the bundle that the stage's file came from; empty where it has none."""


class Observer(Protocol):
    """Somebody who watches stages run in this process."""

    def started(self, attempt: Attempt) -> None:
        """The stage begins."""

    def finished(self, attempt: Attempt, result: StageResult) -> None:
        """The stage succeeded, or was taken from the store."""

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """The try failed."""

    def left_out(self, stages: Mapping[str, str]) -> None:
        """Stages are skipped, each for the `stage.output` that said nothing new."""

    def asked(self, question: Question) -> Answer | None:
        """The stage asks whoever sits before this process; None where nobody answers."""


class InterruptedRunError(BaseException):
    """The run was told to stop, by signal `number`. Not an `Exception`: no component may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class Process:
    """What this process does with its stages: who watches them, and whether they were told to stop.

    `observer` is None under a scheduler; no stage starts once `stopped_by` holds a signal.
    """

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.stopped_by: int | None = None

    def stop(self, number: int) -> None:
        """End the running stage and start no other.

        Raises:
            InterruptedRunError: always, so that the stage's `with` blocks end what they started.
        """
        self.stopped_by = number
        raise InterruptedRunError(number)


process = Process()

_MISTAKES = (TypeError, ValueError, AttributeError, NameError, LookupError, ImportError, AssertionError)
"""Errors of code, not of the environment: the next try would end the same way."""


def may_pass(error: BaseException) -> bool:
    """Return whether another try at the stage may succeed."""
    return error.retryable if isinstance(error, RankmillError) else not isinstance(error, _MISTAKES)


def sentence(error: BaseException) -> str:
    """Return what a reader is told about an error, in one line.

    An error that we mean to be read has its own words, a library's its name and what it says first. Anything else is a
    fault of code, whose type says more than its words.
    """
    if isinstance(error, RankmillError):
        return str(error)
    if library := library_of(error):
        return f"{library}: {reason(error)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def request_of(attempt: Attempt) -> StageRequest:
    """Return what `components.platform.execute` must do for this attempt.

    Raises:
        BadInputError: the run's conf holds an unknown param or a wrong value, or an input is absent.
    """
    params = check_params(attempt.plan.spec, attempt.conf)
    stage = attempt.stage
    return StageRequest(
        component=stage.component.name,
        config=resolve_config(stage, params),
        inputs={wire.key: _output(attempt, wire.stage, wire.output) for wire in stage.wires},
        window=resolve_window(attempt.plan.spec, params, attempt.moment),
        pipeline=attempt.plan.name,
        stage=stage.name,
        run_id=attempt.run_id,
        cache=stage.cache,
        start=stage.start,
    )


def read_request(component: str, path: Path) -> StageRequest:
    """Return the request that a JSON file makes of a component; the file need not repeat the component's name.

    Raises:
        MissingError: there is no such file.
        BadInputError: it is not JSON, asks for another component, or is no request; all its mistakes in one message.
    """
    try:
        value: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"there is no file {path}: write a JSON file with config, inputs and window") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}): name a JSON file") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON ({error}): mend it") from None
    if isinstance(value, dict) and value.setdefault("component", component) != component:
        raise BadInputError(f"{path} is a request of component {value['component']!r}: run that one, or mend the file")
    request, findings = shape.fit(StageRequest, value)
    if request is None:
        raise BadInputError(f"{path}: " + "; ".join(finding.message for finding in findings))
    return request


def run_stage(attempt: Attempt, settings: Settings | None = None) -> StageResult:
    """Run one stage, telling the observer of this process.

    Raises:
        ApprovalNeededError: it asks a person who has not answered yet; under a scheduler that is no failure.
        RankmillError: the stage failed; `retryable` says whether another try may help.
        InterruptedRunError: the run was told to stop.
    """
    settings = settings or Settings.from_environment()
    observer = process.observer
    start = _start(attempt)
    if observer:
        observer.started(attempt)
    try:
        if process.stopped_by is not None:
            raise InterruptedRunError(process.stopped_by)
        # The record helps whoever looks at the run later; where it cannot be written, the stage says why.
        with suppress(OSError):
            write_start(settings, start)
        result = execute(request_of(attempt), settings, _people(attempt))
    except BaseException as error:
        waits = observer is None and isinstance(error, ApprovalNeededError)
        if not waits and not isinstance(error, InterruptedRunError):
            with suppress(OSError):
                write_failure(settings, start, attempt.stage.name, sentence(error))
        if observer:
            observer.failed(attempt, error)
        raise
    if observer:
        observer.finished(attempt, result)
    return result


def leave_out(attempt: Attempt, cause: str, settings: Settings | None = None) -> None:
    """Write down that a verdict skips a stage and all that need it, and tell the observer of this process."""
    settings = settings or Settings.from_environment()
    start, gone = _start(attempt), attempt.plan.after({attempt.stage.name})
    # As with a start: the record helps whoever looks at the run later.
    with suppress(OSError):
        write_start(settings, start)
        write_skips(settings, start, sorted(gone), cause)
    if process.observer:
        process.observer.left_out({stage.name: cause for stage in attempt.plan.stages if stage.name in gone})


def _people(attempt: Attempt) -> People:
    if process.observer is not None:
        return People("command line", process.observer.asked)
    return People("airflow", lambda question: attempt.answer, answered=attempt.answer is not None)


def _start(attempt: Attempt) -> RunStart:
    params = {name: param.default for name, param in attempt.plan.spec.params.items()} | dict(attempt.conf)
    gone = skipped(attempt.plan, params)
    return RunStart(
        pipeline=attempt.plan.name,
        run_id=attempt.run_id,
        moment=attempt.moment if attempt.moment.tzinfo else attempt.moment.replace(tzinfo=UTC),
        started_at=datetime.now(UTC),
        stages=tuple(stage.name for stage in attempt.plan.stages if stage.name not in gone),
        skipped=gone,
        params=dict(attempt.conf),
        commit=attempt.commit,
    )


def end_children() -> None:
    """End every process that stages of this process left running: SIGTERM, five seconds later SIGKILL."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        _signal(child, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=5)
    for child in alive:
        _signal(child, signal.SIGKILL)


def _signal(child: psutil.Process, number: int) -> None:
    try:
        child.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _output(attempt: Attempt, stage: str, output: str) -> ArtifactRef:
    outputs = attempt.upstream[stage].outputs
    if output not in outputs:
        raise BadInputError(
            f"stage {attempt.stage.name!r} reads {stage}.{output}, but that run of {stage!r} gave {sorted(outputs)}: "
            f"the pipeline changed meanwhile, clear {stage!r} or start a new run"
        )
    return outputs[output]
