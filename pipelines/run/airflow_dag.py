"""How does a plan become an Airflow DAG? Only this module, its channels and the plugin of our page import Airflow."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from airflow.sdk import (
    DAG,
    Asset,
    AssetAll,
    AssetAny,
    AssetOrTimeSchedule,
    BaseNotifier,
    BaseOperator,
    Connection,
    Context,
    CronPartitionTimetable,
    CronTriggerTimetable,
    Param,
    PartitionedAssetTimetable,
    TaskGroup,
)
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRuntimeError,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskAwaitingInput,
)
from airflow.sdk.execution_time.comms import CreateHITLDetailPayload
from airflow.sdk.execution_time.context import InletEventsAccessor
from airflow.sdk.log import mask_secret

from components.platform.approval import Answer, ApprovalNeededError, Question
from components.platform.artifacts import DriftAlarm, Promotion
from components.platform.errors import RankmillError
from components.platform.execute import StageResult
from components.platform.settings import Settings
from features.declaration import Window
from pipelines.language.check import load_plan
from pipelines.language.hiding import secrets
from pipelines.language.load import pipeline_path
from pipelines.language.notify import Notify
from pipelines.language.params import check_params, form_schema, resolve_window
from pipelines.language.plan import ALL, Plan, PlannedStage, Selection, select, skip_reason
from pipelines.language.profile import active_profile, use_profile
from pipelines.language.schedule import moment_of, schedule_parts
from pipelines.language.spec import ParamSpec, PipelineSpec, Placement, Schedule
from pipelines.run import asking
from pipelines.run.channels import PATIENCE, not_told, notifier_of, send_within
from pipelines.run.doctor import rooms_problem
from pipelines.run.notice import Notice, Where, asks, late, link_of, news_of, not_done, timed_out
from pipelines.run.task import (
    Attempt,
    InterruptedRunError,
    end_children,
    leave_out,
    may_pass,
    process,
    run_stage,
    sentence,
)
from pipelines.show.dag_doc import dag_doc, stage_doc

START = datetime(1, 1, 2, tzinfo=UTC)
"""Fixed start of every DAG: Airflow gives a run of an earlier day no task, so there is no earlier day.

With ``catchup=False`` nothing is made up for. A day's room is left for other time zones.
"""
log = logging.getLogger("rankmill")
EVENTS = 1000
"""How many of the newest events of an asset are looked through for a content."""


def dag_of_stub(stub: str) -> DAG:
    """Return the DAG of the pipeline that a stub in ``dags/`` is named after.

    Raises:
        ImportError: one of our packages comes from another tree than the stub.
        PipelineError: the YAML is wrong; the message holds ``file:line:column``.
    """
    path = Path(stub).resolve()
    if problem := rooms_problem(path.parent.parent):
        raise ImportError(problem)
    return build_dag(path.stem)


def build_dag(
    name_or_path: str | Path, selection: Selection = ALL, *, alone: bool = False, notify: bool = False
) -> DAG:
    """Compile a pipeline to a DAG: one task per stage, one Asset per output.

    A run `alone` in this process has no pools, queues and executors, and nobody who waits for it; it tells nobody
    unless it is to `notify`.

    Raises:
        PipelineError: the YAML is wrong; the message holds ``file:line:column``.
    """
    path = name_or_path if isinstance(name_or_path, Path) else pipeline_path(name_or_path)
    plan = select(load_plan(path, active_profile()), selection)
    spec = plan.spec
    dag = DAG(
        dag_id=spec.name,
        description=spec.description or None,
        schedule=schedule_of(spec),
        start_date=START,
        catchup=False,
        max_active_runs=spec.max_active_runs,
        deadline=_deadline(spec) if spec.deadline and not alone else None,
        params={name: _param(param) for name, param in spec.params.items()},
        tags=sorted({*spec.tags, "rankmill"}),
        default_args={"owner": spec.owner},
        doc_md=dag_doc(plan),
    )
    told = spec.notify if spec.notify and (notify or not alone) else Notify()
    groups: dict[str, TaskGroup] = {}
    tasks: dict[str, StageOperator] = {}
    for stage in plan.stages:
        if stage.group and stage.group not in groups:
            groups[stage.group] = TaskGroup(stage.group, dag=dag, prefix_group_id=False)
        tasks[stage.name] = StageOperator(
            plan=plan,
            stage=stage,
            asks=StageNotifier(told, "asks", linked=not alone) if told.approval else None,
            task_id=stage.name,
            dag=dag,
            task_group=groups[stage.group] if stage.group else None,
            retries=stage.retries,
            retry_delay=stage.retry_delay,
            execution_timeout=stage.timeout,
            # Backfills have a limit of their own for runs, ten if nobody says so, but count tasks of all runs.
            max_active_tis_per_dag=spec.max_active_runs,
            **({} if alone else _placed(stage.placement)),
            **_callbacks(told, stage, linked=not alone),
            outlets=[asset(f"{plan.name}.{stage.name}.{output}") for output in sorted(stage.component.output_types)],
            doc_md=stage_doc(stage),
        )
        for name in stage.upstream:
            tasks[name] >> tasks[stage.name]
    return dag


def _placed(placement: Placement) -> dict[str, Any]:
    """Return the arguments of an operator that say where it runs."""
    given = {
        "pool": placement.pool,
        "pool_slots": placement.pool_slots,
        "queue": placement.queue,
        "executor": placement.executor,
        "priority_weight": placement.priority,
        "resources": placement.resources.model_dump(exclude_none=True) if placement.resources else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _callbacks(told: Notify, stage: PlannedStage, *, linked: bool) -> dict[str, Any]:
    """Return the arguments of an operator that say who is called when it has ended."""
    found: dict[str, Any] = {}
    if told.failure or told.refusal:
        found["on_failure_callback"] = StageNotifier(told, "failed", linked=linked)
    # A refusal that finishes its stage is told where it ends well.
    promotion = told.promotion or told.refusal
    news = tuple(kind for kind, channels in ((Promotion, promotion), (DriftAlarm, told.drift)) if channels)
    if any(issubclass(kind, news) for kind in stage.component.output_types.values()):
        found["on_success_callback"] = StageNotifier(told, "succeeded", linked=linked)
    return found


def _deadline(spec: PipelineSpec) -> DeadlineAlert:
    # Airflow keeps these beside the run: who is told is what the file said when the run was queued.
    needed = {"name", "schedule", "window", "params", "deadline", "notify"}
    told = spec.model_dump_json(by_alias=True, exclude_unset=True, include=needed) if spec.notify else ""
    called = AsyncCallback(deadline_missed, {"pipeline": spec.name, "deadline": str(spec.deadline), "told": told})
    return DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=spec.deadline, callback=called)


async def deadline_missed(pipeline: str, deadline: str, context: Mapping[str, Any], told: str = "") -> None:
    """Tell the log of the triggerer, which calls this with the run, that it is late, and whoever wants to know."""
    run = context["dag_run"]["dag_run_id"]
    log.error("%s: run %s has not ended %s after it was queued: see which stage is running", pipeline, run, deadline)
    if not told:
        return
    stand_in = {"stages": {"unnamed": {"uses": "unnamed"}}}
    spec = PipelineSpec.model_validate_json(json.dumps(json.loads(told) | stand_in))
    if spec.notify is None or spec.deadline is None:
        return
    link = link_of(conf.get("api", "base_url", fallback=""), pipeline, run)
    notice = late(Where(pipeline, run, "", _window_of_response(spec, context["dag_run"]), link), spec.deadline)
    for target in spec.notify.targets("deadline"):
        try:
            async with asyncio.timeout(PATIENCE):
                await notifier_of(target, notice).async_notify({})
        except Exception as error:
            not_told(notice, target, error)


def _window_of_response(spec: PipelineSpec, run: Mapping[str, Any]) -> Window | None:
    """Return the window of a run of which only what Airflow's API says is known."""
    times = {
        name: datetime.fromisoformat(run[name]) if run.get(name) else None
        for name in ("partition_date", "data_interval_end", "logical_date", "run_after")
    }
    rest = {name: run.get(name) for name in ("partition_key", "run_type", "conf")}
    return _window(spec, SimpleNamespace(**times, **rest))


def _window(spec: PipelineSpec, run: Any) -> Window | None:
    # A message without its window is better than none.
    with suppress(RankmillError, AttributeError, TypeError):
        moment = moment_of(run)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return resolve_window(spec, check_params(spec, run.conf or {}), aware)
    return None


def asset(reference: str) -> Asset:
    """Return the Asset of `pipeline.stage.output`; every DAG that names it gets the same one."""
    return Asset(name=reference, uri=f"rankmill://{reference.replace('.', '/')}")


def schedule_of(spec: PipelineSpec) -> Any:
    """Return Airflow's form of a schedule; of several assets any starts a run, unless the file says `all`."""
    parts = schedule_parts(spec)
    partitioned = isinstance(spec.schedule, Schedule) and spec.schedule.partitioned
    if not parts.assets:
        if partitioned:
            return CronPartitionTimetable(parts.cron, timezone=parts.timezone)
        # Of a bare expression Airflow's own settings say whether a run is for the time before it.
        by_clock = parts.cron is None or parts.timezone == "UTC"
        return parts.cron if by_clock else CronTriggerTimetable(parts.cron, timezone=parts.timezone)
    join = AssetAll if parts.together else AssetAny
    assets = join(*(asset(reference) for _, reference in parts.assets))
    if parts.cron is None:
        return PartitionedAssetTimetable(assets=assets) if partitioned else assets
    return AssetOrTimeSchedule(timetable=CronTriggerTimetable(parts.cron, timezone=parts.timezone), assets=assets)


def speak_newest_version() -> None:
    """Let the task API inside this process know the newest version of its protocol alone, which its one client speaks.

    A server makes routes and models for every version that some worker may still speak: a quarter of the work of a
    night without news.
    """
    from airflow.api_fastapi.execution_api import versions
    from airflow.api_fastapi.execution_api.routes import execution_api_router
    from cadwyn import HeadVersion, Version, VersionBundle
    from cadwyn.route_generation import _DELETED_ROUTE_TAG

    versions.bundle = VersionBundle(HeadVersion(), Version(versions.bundle.versions[0].value))
    execution_api_router.routes[:] = [
        route for route in execution_api_router.routes if _DELETED_ROUTE_TAG not in getattr(route, "tags", ())
    ]


class StageOperator(BaseOperator):
    """A stage of a pipeline: reads its inputs' references from XCom, returns its own."""

    ui_color = "#e8f0fe"

    def __init__(self, *, plan: Plan, stage: PlannedStage, asks: StageNotifier | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._plan = plan
        self._stage = stage
        self._asks = asks
        self._question: Question | None = None
        self._timed_out = False
        self._attempt: Attempt | None = None
        self._result: StageResult | None = None
        self._error: RankmillError | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the stage, publish its references as Asset events, return its result as JSON.

        Raises:
            TaskAwaitingInput: the stage asks a person; Airflow calls `execute_complete` once there is an answer.
            AirflowFailException: the stage failed in a way that another try cannot help.
            AirflowException: another try may help.
        """
        return self._execute(context, None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on with what a person answered in Airflow, or with what no answer in time means; raises as `execute`."""
        try:
            answer = asking.answer_of_event(event)
        except RankmillError as error:
            raise AirflowFailException(sentence(error)) from None
        return self._execute(context, answer)

    def _execute(self, context: Context, answer: Answer | None) -> dict[str, Any]:
        # `dag.test()` tries again with this operator.
        self._timed_out, self._attempt, self._result, self._error = False, None, None, None
        if process.observer is None:  # a run of this command line has done so already
            _use_profile()
        ti, run = context["ti"], context["dag_run"]
        when, params = self._stage.when, self._plan.spec.params
        if when in params and (run.conf or {}).get(when, params[when].default) is False:
            # Airflow then skips by itself whatever needs it.
            raise AirflowSkipException(f"stage {self._stage.name!r} is skipped: {skip_reason(when)} in this run")
        attempt = Attempt(
            plan=self._plan,
            stage=self._stage,
            run_id=run.run_id,
            conf=run.conf or {},
            moment=moment_of(run),
            upstream={name: _result(ti, name) for name in sorted({wire.stage for wire in self._stage.wires})},
            number=ti.try_number,
            of=self.retries + 1,
            answer=answer,
            commit=getattr(getattr(ti, "bundle_instance", None), "version", None) or "",
        )
        self._attempt = attempt
        try:
            if self._says_nothing(ti):
                leave_out(attempt, self._stage.when)
                raise AirflowSkipException(f"stage {self._stage.name!r} is skipped: {skip_reason(self._stage.when)}")
            self._result = result = run_stage(attempt)
        except ApprovalNeededError as asked:
            if process.observer is not None:
                self._error = asked
                raise AirflowFailException(sentence(asked)) from None
            _ask(asked.question, ti)
            self._question = asked.question
            if self._asks is not None:
                self._asks.notify(context)
            raise TaskAwaitingInput(method_name="execute_complete", timeout=asked.question.within) from None
        except RankmillError as error:
            self._error = error
            # One sentence for the reader of the log; the frames would only say where it was raised.
            raise (AirflowException if may_pass(error) else AirflowFailException)(sentence(error)) from None
        except Exception as error:
            if may_pass(error):
                raise
            raise AirflowFailException(sentence(error)) from error
        except AirflowTaskTimeout:
            self._timed_out = True
            raise
        except InterruptedRunError as stop:
            end_children()
            # Under a scheduler the run outlives this worker, so the stage is due again; alone it is over.
            kind = AirflowFailException if process.observer else AirflowException
            raise kind(f"stage {self._stage.name!r} was {stop}") from None
        finally:
            if process.observer is None:
                from pipelines.show.pages.report import report_when_ended  # parsing a DAG needs none of it

                report_when_ended(self._plan, run.run_id, Settings.from_environment())
        # Airflow publishes an event for each outlet that the task has when it ends.
        self.outlets = []
        for name in sorted(_news(self._plan, result, run.partition_key)):
            outlet, ref = asset(f"{self._plan.name}.{self._stage.name}.{name}"), result.outputs[name]
            self.outlets.append(outlet)
            context["outlet_events"][outlet].extra = {"uri": ref.uri, "digest": ref.digest}
        return result.model_dump(mode="json")

    def _says_nothing(self, ti: Any) -> bool:
        """Return whether the output that decides about this stage said nothing new; one taken from the store did."""
        if (verdict := self._stage.verdict) is None:
            return False
        stage, output = verdict
        return output in _result(ti, stage).no_news

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return what the stage read, made and judged; Airflow's provider asks where a transport is configured."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        from pipelines.run.lineage import events, lineage_of

        if self._attempt is None:
            return None
        told = lineage_of(self._attempt, self._result, Settings.from_environment(), self._error)
        return OperatorLineage(**events(told))

    def on_kill(self) -> None:
        """End the stage with everything it started: Airflow got SIGTERM for it, or its time is up."""
        if self._timed_out:
            end_children()  # the stage itself has been ended already
        else:
            process.stop(signal.SIGTERM)


def _ask(question: Question, ti: Any) -> None:
    """Put a question where Airflow shows it: whoever it lets answer for this DAG may, or only those who are named.

    Raises:
        AirflowFailException: Airflow still shows what an earlier try of this task asked.
    """
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    note = Param("", type="string", title="Note", description="Why; the ledger keeps it with your name.")
    asked = {
        "ti_id": ti.id,
        "options": [asking.PROMOTE, asking.REFUSE],
        "subject": asking.subject(question),
        "body": asking.body(question),
        "defaults": [asking.PROMOTE if question.on_deadline == "promote" else asking.REFUSE],
        "multiple": False,
        "params": {asking.NOTE: note.serialize()},
        "assigned_users": [{"id": person, "name": person} for person in question.by],
    }
    kept: Any = SUPERVISOR_COMMS.send(msg=CreateHITLDetailPayload.model_validate(asked))
    # Airflow keeps what the first try asked, and whom: nobody may answer a question that they do not see.
    shown = {"people": {user.id for user in kept.assigned_users or ()}}
    shown |= {name: getattr(kept, name) for name in ("subject", "body", "defaults")}
    if shown != {name: asked[name] for name in ("subject", "body", "defaults")} | {"people": {*question.by}}:
        raise AirflowFailException(
            f"{question.version}: Airflow still shows the question of an earlier try of this task, which was about "
            "another verdict: start a new run"
        )


class StageNotifier(BaseNotifier):
    """Tells people what became of a stage. It fails no task: what does not get through is a line in the log."""

    def __init__(self, told: Notify, ended: Literal["failed", "asks", "succeeded"], *, linked: bool) -> None:
        super().__init__()
        self.told, self.ended, self.linked = told, ended, linked

    def notify(self, context: Context) -> None:
        """Send a message through every channel of what happened, if it is anything that people are told of."""
        task = context["task"]
        try:
            notice = self._notice(task, context)
        except Exception as error:
            log.warning("%s: nobody was told what became of stage %s: %s", task.dag_id, task.task_id, sentence(error))
            return
        if notice is None:
            return
        for target in self.told.targets(notice.event):
            try:
                send_within(PATIENCE, notifier_of(target, notice))
            except Exception as error:
                not_told(notice, target, error)

    def _notice(self, task: StageOperator, context: Context) -> Notice | None:
        run: Any = context.get("dag_run")
        run_id = run.run_id if run else context["ti"].run_id
        base = conf.get("api", "base_url", fallback="") if self.linked else ""
        link = link_of(base, task.dag_id, run_id, task.task_id)
        where = Where(task.dag_id, run_id, task.task_id, _window(task._plan.spec, run), link)
        if self.ended == "asks":
            return asks(where, task._question) if task._question else None
        if self.ended == "succeeded":
            return news_of(where, task._stage.component.output_types, task._result) if task._result else None
        return not_done(where, self._said(task, context), task._error, Settings.from_environment())

    @staticmethod
    def _said(task: StageOperator, context: Context) -> str:
        error: Any = context.get("exception")
        if task._timed_out and task.execution_timeout:
            return timed_out(task.execution_timeout)
        if isinstance(error, AirflowException | str):
            return str(error)
        # Airflow calls this in a process of its own for a task whose process has gone.
        return sentence(error) if error else "its process was killed, or its machine is gone: see its log and memory"


def _news(plan: Plan, result: StageResult, partition: str | None) -> set[str]:
    """Return the outputs that a waiting pipeline starts for.

    What comes from the store is none where Airflow knows it already. It may not: this run made it and was interrupted,
    another pipeline with the same stage made it, or a pipeline downstream still waits for it under this partition.
    """
    news = {*result.outputs} - {*result.no_news}
    if not result.cached:
        return news
    if process.observer is not None:
        return set()  # nothing waits in the database of a single run
    return {
        name
        for name in news
        if not _is_told(asset(f"{plan.name}.{result.stage}.{name}"), result.outputs[name].digest, partition)
    }


def _is_told(outlet: Asset, digest: str, partition: str | None) -> bool:
    """Return whether an event of this asset had this content, for this partition where the run has one."""
    told = InletEventsAccessor(asset_name=outlet.name, asset_uri=outlet.uri).ascending(False).limit(EVENTS)
    try:
        return any(event.partition_key == partition and (event.extra or {}).get("digest") == digest for event in told)
    except AirflowRuntimeError:
        # Better told twice than never: what starts for it finds everything in the store.
        return False


def _use_profile() -> None:
    """Set what the profile says, and let Airflow hide its secrets too."""
    try:
        use_profile(None, fetch=_connection)
    except RankmillError as error:
        raise AirflowFailException(sentence(error)) from None
    for secret in secrets():
        mask_secret(secret)


def _connection(name: str) -> str | None:
    try:
        return str(Connection.get(name).get_uri())
    except AirflowException:
        return None


def _result(ti: Any, stage: str) -> StageResult:
    value = ti.xcom_pull(task_ids=stage)
    if value is None:
        raise AirflowFailException(f"stage {stage!r} left no result in this run: clear it to run it again")
    return StageResult.model_validate(value)


def _param(spec: ParamSpec) -> Param:
    default = {} if spec.required else {"default": spec.default}
    return Param(**default, description=spec.description or None, **form_schema(spec))
