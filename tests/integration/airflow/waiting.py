"""What does Airflow's scheduler make of events that come while a run is active? One consumer, four events.

Run in a process of its own, since Airflow reads its environment when it is imported: the arguments are a folder
with an empty database of Airflow and the consumer's pipeline file; the last line of stdout is JSON, see `runs`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.integration.airflow.pages import prepare


def runs(folder: Path, file: Path) -> list[tuple[list[int], int]]:
    """Return by run of the consumer which events it lists, and how many there were when it began.

    The first event starts a run, and the other three come while it is active.
    """
    assert prepare(folder, [file]) == {}
    from airflow.assets.manager import asset_manager
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit
    from sqlalchemy import func, select

    with create_session() as session:
        session.get_one(DagModel, file.stem).is_paused = False
        session.add(job := Job())
        session.flush()
        scheduler = SchedulerJobRunner(job=job)
        session.expunge(job)

    upstream = select(AssetModel).where(AssetModel.name.not_like(f"{file.stem}.%"))

    def event() -> None:
        with create_session() as session:
            asset_manager.register_asset_change(asset=session.scalars(upstream).one(), session=session)
        time.sleep(0.01)

    def one_round() -> None:
        """Create the runs that are due, as each round of the scheduler does."""
        with create_session() as session, prohibit_commit(session) as guard:
            scheduler._create_dagruns_for_dags(guard, session)
        with create_session() as session:
            scheduler._set_exceeds_max_active_runs(dag_model=session.get_one(DagModel, file.stem), session=session)

    def end() -> None:
        with create_session() as session:
            for run in session.scalars(select(DagRun)):
                run.state = "success"
        one_round()

    event()
    begun = []
    for later in (3, 0, 0):
        one_round()
        with create_session() as session:
            events = session.scalar(select(func.count(AssetEvent.id))) or 0
            begun.append((len(session.scalars(select(DagRun)).all()), events))
        for _ in range(later):
            event()
            one_round()
        end()
    with create_session() as session:
        found = session.scalars(select(DagRun).order_by(DagRun.id)).all()
        listed = [sorted(event.id for event in run.consumed_asset_events) for run in found]
    return [(ids, dict(reversed(begun)).get(number, 0)) for number, ids in enumerate(listed, start=1)]


def main() -> None:
    """Answer the arguments."""
    said = json.dumps(runs(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.stdout.write(f"\n{said}\n")
