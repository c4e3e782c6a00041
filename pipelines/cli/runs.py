"""What has run, and what of it is still needed? `rankmill runs` and `rankmill gc`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.show.terminal import frameless, show

if TYPE_CHECKING:
    from rich.table import Table

    from components.platform.store.collect import Unused
    from pipelines.record.runs import RecordedRun

_COLOURS = {"success": "green", "running": "cyan", "failed": "red", "killed": "red"}


def runs(
    pipeline: Annotated[
        str | None, typer.Argument(help="Name of a pipeline; all when left out.", metavar="PIPELINE")
    ] = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Newest runs to show.")] = 20,
    at: Annotated[
        str | None, typer.Option("--at", help="Only runs for this day or time (UTC), as `rankmill run --at` takes it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    pin: Annotated[
        str | None,
        typer.Option(help="Keep what this run made from `rankmill gc`; the day it is for, or a part of its id."),
    ] = None,
    unpin: Annotated[str | None, typer.Option(help="Keep it no longer.")] = None,
    report: Annotated[
        str | None, typer.Option(help="Write this run's page anew and say where it lies; its day, or a part of its id.")
    ] = None,
) -> None:
    """List recent runs: state, stages, how long they took, what came out."""
    import json

    from components.platform.errors import BadInputError
    from components.platform.settings import Settings
    from pipelines.record import runs as records

    settings = Settings.from_environment()
    if pin or unpin:
        if pipeline is None or (pin and unpin):
            raise BadInputError("a run is pinned by pipeline and id: rankmill runs PIPELINE --pin RUN, or --unpin RUN")
        run = records.find_run(settings, pipeline, pin or unpin or "")
        records.pin(run, keep=bool(pin))
        state = "stays" if pin else "may go"
        typer.echo(f"{pipeline} {run.start.run_id}: what it made {state} when `rankmill gc` cleans up")
        return
    if report:
        if pipeline is None:
            raise BadInputError("a run is named by pipeline and id: rankmill runs PIPELINE --report RUN")
        from pipelines.show.pages.report import plan_of, write_report

        run = records.find_run(settings, pipeline, report)
        typer.echo(write_report(run, plan_of(run), settings))
        return
    limit = most if at is None else None
    found = [run for run in records.recorded_runs(settings, pipeline, limit) if at is None or records.is_for(run, at)]
    found = found[:most]
    if as_json:
        typer.echo(json.dumps([run_json(run) for run in found], indent=2, ensure_ascii=False))
    elif not found:
        typer.echo(f"no run is for {at}" if at else f"nothing has run yet below {settings.runs}")
    else:
        show(runs_table(found))
        if (page := next((run.report for run in found if run.report), None)) is not None:
            typer.echo(f"newest report: {page}")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    keep_days: Annotated[
        int | None,
        typer.Option("--keep-days", min=1, help="Keep what was made or used within so many days; 30 when left out."),
    ] = None,
    keep_versions: Annotated[
        int | None,
        typer.Option("--keep-versions", min=1, help="Keep so many versions of each model, the newest; all by default."),
    ] = None,
    keep_champions: Annotated[
        int | None,
        typer.Option("--keep-champions", min=0, help="Keep so many former champions to roll back to; all by default."),
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Also delete what MLflow, Airflow and the folder of runs recorded of it.")
    ] = False,
    served: Annotated[
        bool, typer.Option("--served", help="Also delete what services logged for longer than their file's log.keep.")
    ] = False,
) -> None:
    """Delete artifacts that nothing refers to: no kept version, no kept run, no recent use.

    Of a stage that stays for its model alone the rows go.

    What is left out is taken from the profile's `keep`. Checkpoints of trainings that failed and that nobody went on
    from in that time go too. Kept whatever their age: models and error memories of kept versions, all that a version
    behind an alias was made from, and what pinned, running and each pipeline's last successful run made. A file that
    several artifacts hold is stored once and goes with the last of them.
    """
    import shutil
    from datetime import UTC, datetime, timedelta

    from components.platform.settings import Settings
    from components.platform.store.collect import inventory, remove, stale_copies, unused
    from components.platform.store.publish import open_store
    from components.train.unfinished import leftovers, remove_leftover
    from pipelines.record.old_records import delete_records, find_records
    from pipelines.record.references import references
    from pipelines.record.retention import Retention, judged, recent
    from pipelines.record.served_logs import forget, overdue
    from pipelines.run.airflow_home import delete_before

    settings = Settings.from_environment()
    keep = Retention.of(days=keep_days, versions=keep_versions, champions=keep_champions)
    store, now = open_store(settings), datetime.now(UTC)
    since = now - timedelta(days=keep.days)
    stages = inventory(store)
    versions = judged(settings, keep, since, recent(stages, since))
    found = unused(store, stages, references(settings, versions.stay), since)
    if found:
        show(unused_table(found))
    size = sum(stage.bytes for stage in found)
    copies = stale_copies(store.cache, since)
    trainings = leftovers(settings, since)
    places = {stage.place for stage in found if not stage.outputs}
    some = len(found) - len(places)
    parts = f" and parts of {some} more" if some else ""
    stay = [stage for stage in stages if stage.place not in places]
    old = find_records(settings, versions, stay, since) if records else None
    local = f"; {len(copies)} local copies of artifacts too" if copies else ""
    if dry_run:
        typer.echo(f"kept: {keep}")
        typer.echo(
            f"{len(places)} of {len(stages)} stages{parts}, {megabytes(size)}, would be deleted{local}; nothing was"
        )
        for one in trainings:
            typer.echo(f"{one.folder}, {megabytes(one.bytes)}, an unfinished training, would be deleted too")
        if old is not None:
            typer.echo(f"{old} would be deleted too, and what Airflow recorded before {since:%Y-%m-%d}")
        for log in overdue(settings, now, timedelta(days=keep.days)) if served else ():
            typer.echo(f"log of service {log.service}: {log.days} folders of days before {log.before:%Y-%m-%d} too")
        return
    for copy in copies:
        shutil.rmtree(copy, ignore_errors=True)
    gone = [stage for stage in found if remove(store, stage, since)]
    store.remove_unused_contents()
    freed = sum(stage.bytes for stage in gone)
    taken = f"; {len(found) - len(gone)} were taken by a run meanwhile and stay" if len(gone) < len(found) else ""
    went = sum(not stage.outputs for stage in gone)
    typer.echo(f"{went} of {len(stages)} stages deleted{parts}, {megabytes(freed)}{taken}{local}")
    ended = [one for one in trainings if remove_leftover(one.folder, since)]
    if ended:
        freed = sum(one.bytes for one in ended)
        typer.echo(f"unfinished trainings deleted: {len(ended)}, {megabytes(freed)}")
    if old is not None:
        for line in delete_records(settings, old):
            typer.echo(line)
        if delete_before(settings, since):
            typer.echo(f"Airflow's records before {since:%Y-%m-%d} deleted")
    for log in overdue(settings, now, timedelta(days=keep.days)) if served else ():
        typer.echo(f"log of service {log.service}: {forget(settings, log)} folders of days deleted")


def runs_table(found: Sequence[RecordedRun]) -> Table:
    """Return one row per run."""
    from datetime import UTC

    from rich.table import Column
    from rich.text import Text

    table = frameless(
        *(Column(heading, no_wrap=True) for heading in ("pipeline", "for", "started (UTC)", "state", "stages")),
        Column("took", justify="right", no_wrap=True),
        Column("result", overflow="fold"),
    )
    for run in found:
        cached = sum(result.cached for result in run.results)
        table.add_row(
            run.start.pipeline,
            f"{run.start.moment.astimezone(UTC):%Y-%m-%d}",
            f"{run.start.started_at:%Y-%m-%d %H:%M:%S}",
            Text(run.state + (" (pinned)" if run.pinned else ""), _COLOURS.get(run.state, "")),
            f"{len(run.results)} of {len(run.start.stages)}" + (f", {cached} cached" if cached else ""),
            f"{run.seconds:.0f} s",
            Text(run.told),
        )
    return table


def run_json(run: RecordedRun) -> dict[str, object]:
    """Return a run as a JSON value."""
    return {
        **run.start.model_dump(mode="json", exclude={"host", "pid", "process_started"}),
        "state": run.state,
        "seconds": round(run.seconds, 3),
        "result": run.told,
        "pinned": run.pinned,
        "folder": str(run.folder),
        "report": str(run.report) if run.report else None,
        "finished": [
            {"stage": result.stage, "seconds": result.seconds, "cached": result.cached} for result in run.results
        ],
    }


def unused_table(found: Sequence[Unused]) -> Table:
    """Return one row per stage that may go, the largest first."""
    from rich.table import Column, Table

    table = Table("stage", "made", "last used (UTC)", Column("size", justify="right"), box=None, pad_edge=False)
    for stage in sorted(found, key=lambda stage: (-stage.bytes, stage.place)):
        when = f"{stage.used:%Y-%m-%d %H:%M}" if stage.used else "never"
        table.add_row("/".join(stage.place), ", ".join(stage.kinds), when, megabytes(stage.bytes))
    return table


def megabytes(size: int) -> str:
    """Return a size for a reader."""
    return f"{size / 1e6:,.1f} MB"
