"""Which runs were there, how did they end, and what did they make? Read from small files that every run leaves.

A run's folder holds ``run.json`` (what it set out to do), one file per finished stage, written by
`components.platform.execute`, ``<stage>.failed.json`` for the last failure of a stage, and, of `rankmill run`,
``end.json``. Runs of a scheduler have no end of their own there: their state follows from their stages.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from components.platform.errors import BadInputError, MissingError, did_you_mean
from components.platform.execute import StageResult, run_folder
from components.platform.settings import ROOT, Settings
from features.declaration import Frozen
from features.ground.files import write_durably
from pipelines.language.hiding import hidden
from pipelines.language.params import parse_moment
from pipelines.language.plan import Plan

START, END, PINNED, REPORT = "run.json", "end.json", "pinned", "report.html"
FAILED = ".failed.json"
SKIPPED = ".skipped.json"
State = Literal["running", "success", "failed", "stopped", "killed", "unfinished"]
"""`killed`: its process is gone without a word; `unfinished`: a scheduled run, and nothing was heard for a day."""
_SILENT = timedelta(days=1)
_LISTED = 5
"""Runs that a sentence lists."""
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Failure:
    """What ended the run."""

    stage: str
    """Name of the stage, empty when it was none."""
    message: str
    exit_code: int


@dataclass(frozen=True)
class RunOutcome:
    """What a run came to."""

    plan: Plan
    run_id: str
    folder: Path
    """Run record: one JSON file per finished stage, `run.log`, and what failed stages kept."""
    seconds: float
    results: tuple[StageResult, ...]
    """What the finished stages returned, in the order of the plan."""
    failure: Failure | None
    again: str = ""
    """Command that continues the run; empty when there is nothing to continue."""

    @property
    def exit_code(self) -> int:
        """0, or what the failure says; 128 + its number when a signal stopped the run."""
        return self.failure.exit_code if self.failure else 0

    @property
    def log(self) -> Path:
        """File with everything that Airflow and the engines said."""
        return self.folder / "run.log"


class RunStart(Frozen):
    """What a run set out to do."""

    pipeline: str
    """Name of the pipeline."""
    run_id: str
    """Id of the run."""
    moment: AwareDatetime
    """Time the run is for."""
    started_at: AwareDatetime
    """When it began."""
    stages: tuple[str, ...]
    """Names of its stages, in order, but those that it skips."""
    skipped: dict[str, str] = Field(default_factory=dict)
    """Stages that it skips, each with the param that is false, or with the `stage.output` that said nothing new."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Params given to it; the others had their defaults."""
    options: tuple[str, ...] = ()
    """Further options of the command, such as ``--from train``."""
    by: Literal["rankmill run", "airflow"] = "airflow"
    """Who runs it."""
    host: str = ""
    """Machine of the process."""
    pid: int | None = None
    """The process; None of a scheduler's run, whose stages have a process each."""
    process_started: float | None = None
    """When the process began, as psutil tells it: numbers of processes come again."""
    commit: str = ""
    """Version of the code: of a Git bundle its commit, else that of the tree, ``-dirty`` where files differ from it;
    empty where neither is known."""

    @property
    def is_alive(self) -> bool:
        """Whether its process still runs; on another machine nobody can tell, so it counts as alive for a day."""
        if self.pid is None:
            return False
        if self.host != socket.gethostname():
            return datetime.now(UTC) - self.started_at < _SILENT
        try:
            return abs(psutil.Process(self.pid).create_time() - (self.process_started or 0.0)) < 1.0
        except psutil.Error:
            return False


class StageFailure(Frozen):
    """The last failure of a stage."""

    failed: str
    """Name of the stage."""
    message: str
    """One sentence."""
    at: AwareDatetime
    """When."""


class StageSkip(Frozen):
    """A stage that an earlier one's verdict skipped."""

    stage: str
    """Its name."""
    cause: str
    """The `stage.output` that said nothing new."""


class RunEnd(Frozen):
    """How a run of this command line ended."""

    state: Literal["success", "failed", "stopped"]
    """Success, failed or stopped."""
    seconds: float
    """How long it took."""
    failed: str = ""
    """Stage that failed, empty when it was none."""
    message: str = ""
    """What went wrong, empty when nothing did."""
    again: str = ""
    """The command that continues it, empty when there is nothing to continue."""


@dataclass(frozen=True)
class RecordedRun:
    """A run as its folder tells it."""

    start: RunStart
    folder: Path
    results: tuple[StageResult, ...]
    """What its finished stages returned, in the order of its stages."""
    state: State
    seconds: float
    told: str
    """One line: what went wrong, or what the last stage made."""
    pinned: bool
    """Whether `rankmill gc` must keep what it made."""
    failures: tuple[StageFailure, ...] = ()
    """Last failure of each stage that has no result."""
    again: str = ""
    """Command that continues it; empty when there is none, or it ran under a scheduler."""

    @property
    def report(self) -> Path | None:
        """Page about the run, or None when none was written."""
        path = self.folder / REPORT
        return path if path.exists() else None


def start_of(
    pipeline: str, run_id: str, moment: datetime, stages: tuple[str, ...], params: Mapping[str, Any], *options: str
) -> RunStart:
    """Return the start of a run of this process."""
    own = psutil.Process()
    return RunStart(
        pipeline=pipeline, run_id=run_id, moment=moment, started_at=datetime.now(UTC), stages=stages,
        params=dict(params), options=options, by="rankmill run", host=socket.gethostname(), pid=os.getpid(),
        process_started=own.create_time(),
    )  # fmt: skip


@cache
def commit_of(tree: Path) -> str:
    """Return the commit of a tree, with ``-dirty`` where files differ from it; empty where git cannot tell."""
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if not done.returncode else ""


def write_start(settings: Settings, start: RunStart) -> None:
    """Write down what a run sets out to do, and with which code, unless it has been."""
    path = run_folder(settings, start.pipeline, start.run_id) / START
    if not path.exists():
        coded = start.model_copy(update={"commit": start.commit or commit_of(ROOT)})
        write_durably(path, coded.model_dump_json(indent=2))


def write_failure(settings: Settings, start: RunStart, stage: str, message: str) -> None:
    """Write down that a stage failed, instead of any earlier failure of it."""
    failure = StageFailure(failed=stage, message=hidden(message), at=datetime.now(UTC))
    path = run_folder(settings, start.pipeline, start.run_id) / f"{stage}{FAILED}"
    write_durably(path, failure.model_dump_json(indent=2))


def write_skips(settings: Settings, start: RunStart, stages: Iterable[str], cause: str) -> None:
    """Write down that an output which said nothing new skips stages of a run."""
    for stage in stages:
        skip = StageSkip(stage=stage, cause=cause)
        path = run_folder(settings, start.pipeline, start.run_id) / f"{stage}{SKIPPED}"
        write_durably(path, skip.model_dump_json(indent=2))


def write_end(settings: Settings, start: RunStart, end: RunEnd) -> None:
    """Write down how a run ended."""
    shown = end.model_copy(update={"message": hidden(end.message)})
    write_durably(run_folder(settings, start.pipeline, start.run_id) / END, shown.model_dump_json(indent=2))


def recorded_pipelines(settings: Settings) -> tuple[str, ...]:
    """Return the pipelines that have ever run, sorted."""
    if not settings.runs.is_dir():
        return ()
    return tuple(sorted(path.name for path in settings.runs.iterdir() if path.is_dir()))


def recorded_runs(settings: Settings, pipeline: str | None = None, most: int | None = None) -> tuple[RecordedRun, ...]:
    """Return the runs of a pipeline, or of all, newest first; of all that there are, or the newest `most`.

    Raises:
        MissingError: the pipeline has never run.
    """
    known = recorded_pipelines(settings)
    if pipeline is not None and pipeline not in known:
        raise MissingError(f"no run of {pipeline!r} in {settings.runs}{did_you_mean(pipeline, known)}")
    names = known if pipeline is None else (pipeline,)
    begun = [
        (start.started_at, folder)
        for name in names
        for folder in (settings.runs / name).iterdir()
        if (start := _read(RunStart, folder / START))
    ]
    newest = sorted(begun, key=lambda one: one[0], reverse=True)[:most]
    return tuple(run for _, folder in newest if (run := read_run(folder)))


def run_of(settings: Settings, pipeline: str, run_id: str) -> RecordedRun | None:
    """Return the run with this id, or None when there is no record of it; any text may be asked for."""
    if pipeline not in recorded_pipelines(settings):
        return None
    run = read_run(run_folder(settings, pipeline, run_id))
    return run if run and (run.start.pipeline, run.start.run_id) == (pipeline, run_id) else None


def read_run(folder: Path) -> RecordedRun | None:
    """Return the run of a folder, or None when it holds none that can be read."""
    start = _read(RunStart, folder / START)
    if start is None:
        return None
    start = _with_skips(start, folder)
    results = tuple(result for name in start.stages if (result := _read(StageResult, folder / f"{name}.json")))
    done = {result.stage for result in results}
    failures = tuple(failure for failure in _failures(folder) if failure.failed not in done)
    end = _read(RunEnd, folder / END)
    seconds = end.seconds if end else sum(result.seconds for result in results)
    told = end.message if end else "; ".join(failure.message for failure in failures)
    if not told and results:
        told = "; ".join(results[-1].notes) or f"{results[-1].stage} done"
    state = end.state if end else _state(start, folder, done, failed=bool(failures))
    pinned, again = (folder / PINNED).exists(), end.again if end else ""
    return RecordedRun(start, folder, results, state, seconds, told, pinned, failures, again)


def is_for(run: RecordedRun, at: str) -> bool:
    """Return whether a run is for a time, or some time of a day, UTC, written as `rankmill run --at` takes it.

    Raises:
        BadInputError: it is no time.
    """
    asked, moment = parse_moment(at), run.start.moment.astimezone(UTC)
    return moment.date() == asked.date() if "T" not in at and " " not in at else moment == asked


def find_run(settings: Settings, pipeline: str, named: str) -> RecordedRun:
    """Return a run by its id, or the only one whose id holds what is named, or which is for that day or time.

    Raises:
        MissingError: there is none, or more than one; the message lists the newest of them.
    """
    runs = recorded_runs(settings, pipeline)
    found = [run for run in runs if run.start.run_id == named] or [run for run in runs if _is_named(run, named)]
    if not found:
        raise MissingError(f"{pipeline} has no run for {named!r} or with it in its id: see `rankmill runs {pipeline}`")
    if len(found) > 1:
        listed = ", ".join(
            f"{run.start.run_id} ({run.state}, for {run.start.moment:%Y-%m-%d})" for run in found[:_LISTED]
        )
        more = f" and {len(found) - _LISTED} older" if len(found) > _LISTED else ""
        raise MissingError(
            f"{pipeline} has {len(found)} runs for {named!r} or with it in their id: name {listed}{more}"
        )
    return found[0]


def _is_named(run: RecordedRun, named: str) -> bool:
    try:
        return named in run.start.run_id or is_for(run, named)
    except BadInputError:  # no time, so only a part of an id
        return False


def pin(run: RecordedRun, *, keep: bool) -> None:
    """Keep what a run made from `rankmill gc`, or no longer."""
    if keep:
        write_durably(run.folder / PINNED, "")
    else:
        (run.folder / PINNED).unlink(missing_ok=True)


def _state(start: RunStart, folder: Path, done: set[str], *, failed: bool) -> State:
    if start.pid is not None:
        return "running" if start.is_alive else "killed"
    if done == {*start.stages}:
        return "success"
    if failed:
        return "failed"
    heard = datetime.fromtimestamp(max(path.stat().st_mtime for path in folder.iterdir()), UTC)
    return "running" if datetime.now(UTC) - heard < _SILENT else "unfinished"


def _with_skips(start: RunStart, folder: Path) -> RunStart:
    """Return the start with what verdicts skipped since; a stage that ran after all is none of them."""
    skips = (_read(StageSkip, path) for path in sorted(folder.glob(f"*{SKIPPED}")))
    found = {one.stage: one.cause for one in skips if one and not (folder / f"{one.stage}.json").exists()}
    if not found:
        return start
    stages = tuple(stage for stage in start.stages if stage not in found)
    return start.model_copy(update={"stages": stages, "skipped": start.skipped | found})


def _failures(folder: Path) -> Iterator[StageFailure]:
    for path in sorted(folder.glob(f"*{FAILED}")):
        if (failure := _read(StageFailure, path)) is not None:
            yield failure


def _read(model: type[Model], path: Path) -> Model | None:
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None
