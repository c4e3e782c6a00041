"""Did a day drift away from what a version was judged on? Baseline → cells per day → Holm → report, page and alarm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.judge.watch_drift.config import Config, Inputs, Outputs
from components.platform.artifacts import DriftAlarm, DriftReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, MissingError
from features.ground.durations import written

if TYPE_CHECKING:
    from components.judge.watch_drift.days import Watched
    from components.judge.watch_drift.report import Report
    from components.judge.watch_drift.rows import Rows

ALARM = "alarm.json"
REPORT = "drift.json"


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Compare every span of the window with the baseline and write what the last one says.

    Pipelines that wait for `alarm` start only where there is one.

    Raises:
        MissingError: the registry has no such version, or the version no baseline.
        BadInputError: the window holds no whole span, or the rows lack a column that the version declares.
    """
    from components.judge.watch_drift.days import day_of, spans, traffic_cells
    from components.judge.watch_drift.page import write_report
    from components.judge.watch_drift.report import Alarm, Report, sentence, settled
    from components.judge.watch_drift.rows import read_rows

    watched, number = _watched(config, context)
    rows = read_rows(context.local(inputs.rows), watched.roles.time)
    joined = None if inputs.joined is None else read_rows(context.local(inputs.joined), watched.roles.time)
    _check_columns(watched, rows)
    days = []
    found = spans(context.window, config.every)
    if not found:
        raise BadInputError(f"the window {context.window} holds no {written(config.every)}: widen it, or shorten every")
    for start, end in found:
        context.progress(f"comparing {start:%Y-%m-%d}")
        days.append(day_of(watched, rows, joined, start, end, config))
        extra = traffic_cells(days, config)
        days[-1] = days[-1].model_copy(update={"cells": (*days[-1].cells, *extra)})
    report = Report(
        model=config.model,
        version=number,
        digest=watched.digest,
        rows_digest=inputs.rows.digest,
        baseline_rows=watched.baseline.rows,
        baseline_users=watched.baseline.users,
        baseline_window=watched.baseline.window,
        every=written(config.every),
        false_alarms=config.false_alarms,
        days=settled(days, config.false_alarms),
        remarks=tuple(_remarks(watched, rows)),
    )
    today = report.today
    alarm = Alarm(
        model=report.model,
        version=number,
        start=today.start,
        end=today.end,
        raised=bool(today.alarms),
        sentences=tuple(sentence(cell) for cell in today.alarms),
    )
    drafts = context.draft("report"), context.draft("alarm")
    (drafts[0] / REPORT).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    write_report(drafts[0], report)
    (drafts[1] / ALARM).write_text(alarm.model_dump_json(indent=1), encoding="utf-8")
    if not alarm.raised:
        context.says_no_news("alarm")
    _tell(report, context)
    return Outputs(report=DriftReport(uri=str(drafts[0])), alarm=DriftAlarm(uri=str(drafts[1])))


def _watched(config: Config, context: RunContext) -> tuple[Watched, int]:
    """Return the version and its number."""
    from components.judge.watch_drift.days import Watched
    from components.rankers.tasks import tasks_of
    from registry.evaluation import Evaluation
    from registry.serving.evidence.baseline import read_baseline
    from registry.serving.model.served_model import ServedModel
    from registry.versions.client import Registry

    registry = Registry(context.settings.tracking_uri, context.settings.mlflow_artifacts)
    version = registry.version(config.model, config.version)
    label = f"{config.model} v{version.version}"
    # By number: the alias may move while the files are on their way.
    folder: Path = registry.download(config.model, version.version, context.scratch / "version")
    baseline = read_baseline(folder, label)
    if baseline is None:
        raise MissingError(f"{label} has no baseline to compare with: evaluate and register it with this release")
    model = ServedModel.open(folder, config.provider, label=label)
    report = folder / "report.json"
    evaluation = Evaluation.model_validate_json(report.read_bytes()) if report.is_file() else None
    tasks = tuple(task for task in tasks_of(model.contract.schema_.declaration) if task.name in model.contract.tasks)
    return Watched(model, version.digest, baseline, evaluation, tasks), version.version


def _check_columns(watched: Watched, rows: Rows) -> None:
    roles = watched.roles
    for name in (roles.user, *roles.feedback, *([roles.domain] if roles.domain else [])):
        if name not in rows.tables[0].column_names:
            raise BadInputError(
                f"the rows have no column {name!r}, which {watched.model.called} declares: label them with feedback "
                f"[{', '.join(roles.feedback)}], and do not drop it from a service's log"
            )


def _remarks(watched: Watched, rows: Rows) -> list[str]:
    from components.judge.watch_drift.rows import readable

    said = []
    absent = sorted({*watched.baseline.fields} - rows.columns)
    if absent:
        said.append(f"not compared, because the rows do not hold them: {', '.join(absent)}")
    if not readable(watched.model, rows.columns, watched.roles):
        said.append("nothing could be asked again, and no value be told to be new: the rows lack what the model reads")
    if watched.evaluation is None:
        said.append("the version carries no evaluation: its ranking is not compared, its calibration with 1")
    return said


def _tell(report: Report, context: RunContext) -> None:
    from components.judge.watch_drift.report import sentence

    day = report.today
    judged = [cell for cell in day.cells if cell.state != "not judged"]
    context.note(
        f"{day.start:%Y-%m-%d} against {report.model} v{report.version}: {len(judged)} of {len(day.cells)} comparisons "
        f"judged, {len(day.alarms)} alarms, {len(day.drifted)} beyond their limit for the first day"
    )
    for cell in (*day.alarms, *day.drifted)[:5]:
        context.note(f"{cell.state}: {sentence(cell)} ({cell.reason})")
