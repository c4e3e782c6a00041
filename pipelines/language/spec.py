"""What may a pipeline YAML say? The strict shape of the file, before any component is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from components.platform.cache import CacheMode
from components.platform.errors import did_you_mean
from features.declaration import Frozen, Name
from features.ground.durations import Duration
from pipelines.language.notify import Notify

ParamReference = Annotated[str, StringConstraints(pattern=r"^\$\{params\.[a-z][a-z0-9_]*\}$")]
"""`${params.NAME}`: the whole value is replaced by the parameter, keeping its type."""
OutputReference = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
"""`stage.output`."""
Condition = Annotated[
    str, StringConstraints(pattern=r"^(\$\{params\.[a-z][a-z0-9_]*\}|[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*)$")
]
"""A parameter, or `stage.output`."""
AssetReference = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
"""`pipeline.stage.output`."""


def _tag(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a text of visible characters")
    return value


ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
"""Name of a value of a matrix; it ends the name of a stage."""
Tag = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_tag)]
"""A word on a DAG; Airflow's database holds no more of it."""


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, KeyError):
        near = did_you_mean(value, available_timezones()) if value else ""
        raise ValueError(f"must be a time zone such as Europe/Berlin{near if len(near) < 60 else ''}") from None
    return value


TimeZone = Annotated[str, AfterValidator(_time_zone)]
"""Name of a time zone as the IANA database has it, such as `Europe/Berlin`."""


class SpecModel(Frozen):
    """Base of the file's blocks; field docstrings become the JSON Schema's descriptions."""


class JoinedAssets(SpecModel):
    """Artifacts of other pipelines, and how many of them start a run."""

    all: tuple[AssetReference, ...] = ()
    """A run starts once each of them is new since the run before."""
    any: tuple[AssetReference, ...] = ()
    """A run starts when one of them is new, as with a list."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.all) == bool(self.any):
            raise ValueError("name the artifacts in one of all and any")
        return self


class Schedule(SpecModel):
    """When the DAG runs: by time, by assets, or when either comes."""

    cron: str | None = None
    """Cron expression or preset (`@daily`)."""
    timezone: TimeZone | None = None
    """Time zone of the cron expression, such as `Europe/Berlin`, with its summer time; UTC when left out."""
    assets: tuple[AssetReference, ...] | JoinedAssets = ()
    """Artifacts of other pipelines, `pipeline.stage.output`; a new one starts a run, or a block with `all` or `any`."""
    partitioned: bool = False
    """Whether a run carries the time it is for as Airflow's partition key, so that a backfill of one pipeline starts
    those that wait for its artifacts for the same day; all pipelines of a chain must be partitioned."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.cron is None and not self.assets:
            raise ValueError("name a cron expression, assets, or both")
        if self.partitioned and self.cron is not None and self.assets:
            raise ValueError("a partitioned schedule has a cron expression or assets, not both: leave one out")
        if self.timezone is not None and self.cron is None:
            raise ValueError("a time zone is that of a cron expression: name one, or leave timezone out")
        return self


class WindowSpec(SpecModel):
    """Which interval of events a run reads: `days` days up to, not including, midnight UTC of `end`."""

    days: int = Field(ge=1, le=36_500)
    """Length of the window in days."""
    end: date | ParamReference | None = None
    """Last day, exclusive; left out, the day the run is for."""


ScalarType = Literal["string", "integer", "number", "boolean"]
"""JSON types of one value."""


class ItemSpec(SpecModel):
    """What stands in a list."""

    type: ScalarType
    """JSON type of each entry."""


class ParamSpec(SpecModel):
    """One field of the trigger form, checked as JSON Schema."""

    type: Literal["string", "integer", "number", "boolean", "array", "object"]
    """JSON type; `array` is a list, `object` a block of keys."""
    default: Any = None
    """Value of a run that gives none; left out, each run must give one, so none is started by a schedule."""
    nullable: bool = False
    """Whether the value may be `null` as well."""
    items: ItemSpec | None = None
    """What stands in an `array`; left out, anything."""
    description: str = ""
    """Help text of the form."""
    minimum: float | None = None
    """Least number allowed."""
    maximum: float | None = None
    """Greatest number allowed."""
    enum: tuple[str | int | float, ...] = ()
    """The only values allowed."""
    format: Literal["date", "date-time"] | None = None
    """Format of a string."""

    @property
    def required(self) -> bool:
        """Whether each run must give a value."""
        return "default" not in self.model_fields_set


Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{1,250}$")]
"""Name of something that an installation of Airflow has."""


class Resources(SpecModel):
    """What a stage needs of the machine it runs on, as Airflow's operators say it; some executors read it."""

    cpus: int | None = Field(None, ge=1, le=100_000)
    """Cores."""
    ram: int | None = Field(None, ge=1, le=1 << 40)
    """Memory in MB."""
    disk: int | None = Field(None, ge=1, le=1 << 40)
    """Disk in MB."""
    gpus: int | None = Field(None, ge=0, le=100_000)
    """GPUs."""


class Placement(SpecModel):
    """Where a scheduler runs a stage, and when it lets it; `rankmill run` runs all in its own process."""

    pool: Word | None = None
    """Airflow pool that the stage takes slots of, such as one for each GPU; `default_pool` when left out."""
    pool_slots: int | None = Field(None, ge=1, le=100_000)
    """Slots of the pool that it takes; 1 when left out."""
    queue: Word | None = None
    """Queue of the workers that may run it."""
    executor: Word | None = None
    """Executor, where Airflow has several; the first when left out."""
    resources: Resources | None = None
    """What it needs of the machine."""
    priority: int | None = Field(None, ge=-1_000_000, le=1_000_000)
    """Airflow's `priority_weight`: of stages that wait for slots the highest first; 1 when left out."""


class Defaults(Placement):
    """What every stage does unless it says otherwise."""

    retries: int = Field(0, ge=0, le=20)
    """Times a stage is tried again after a failure that may pass."""
    retry_delay: Duration = timedelta(minutes=5)
    """Wait before the next try."""
    timeout: Duration | None = None
    """Longest a stage may run."""
    cache: CacheMode = "all"
    """Which earlier result a stage takes: `all` of the same code, config, inputs; `inputs` of any code; `off` none."""


Axes = Annotated[
    dict[
        Name,
        Annotated[dict[ValueName, Any], Field(min_length=1)]
        | Annotated[tuple[str | int | float | bool, ...], Field(min_length=1)],
    ],
    Field(min_length=1),
]
"""Axis → its values: by name, or a list of texts, numbers and truth values."""


def verdict_of(condition: str) -> tuple[str, str] | None:
    """Return the stage and the output that decide whether another stage runs; None where a param does, or nothing."""
    stage, dot, output = condition.partition(".")
    return (stage, output) if dot and "{" not in condition else None


class StageSpec(Placement):
    """One node of the pipeline."""

    uses: str
    """Registered name of a component."""
    in_: dict[Name, OutputReference | Annotated[tuple[OutputReference, ...], Field(min_length=1)]] = Field(
        default_factory=dict, alias="in"
    )
    """Input name → `stage.output`, or a list of them where the input takes many."""
    from_: str | None = Field(None, alias="from")
    """YAML file beside the pipeline or below it with keys of `with` that several stages share; those of `with` win."""
    without: tuple[str, ...] = ()
    """Keys of `with`, such as `shape` or `ranker.towers`, that the stage does not take from `from` or a parent."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    """Config of the component."""
    matrix: Axes | None = None
    """Values by axis; the stage, and each that reads it, is there once for each combination of them, under its name and
    theirs, and `${matrix.AXIS}` in `with:` is replaced by the value."""
    when: Condition | None = None
    """`${params.NAME}`, true or false, or `stage.output`, an alarm or a promotion: a run for which it is false, or in
    which it says nothing new, skips the stage, and all that need it."""
    after: tuple[Name, ...] = ()
    """Stages that must succeed first although nothing is read from them."""
    group: Name | None = None
    """Task group the stage is drawn in."""
    retries: int | None = Field(None, ge=0, le=20)
    """Overrides the default."""
    retry_delay: Duration | None = None
    """Overrides the default."""
    timeout: Duration | None = None
    """Overrides the default."""
    cache: CacheMode | None = None
    """Overrides the default."""

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The stage and the output that `when` names; None where it names none."""
        return verdict_of(self.when or "")

    def sources(self) -> Iterator[tuple[str, str]]:
        """Yield each input with each `stage.output` that it is wired to."""
        for port, source in self.in_.items():
            yield from ((port, one) for one in ([source] if isinstance(source, str) else source))


class PipelineSpec(SpecModel):
    """A whole pipeline file."""

    name: Name
    """Name of the pipeline, its file and its DAG."""
    extends: str | None = None
    """YAML file beside the pipeline or below it, from which it takes every key that it does not say itself; blocks are
    merged, lists replaced, and `null` removes a stage or a key."""
    description: str = ""
    """One or two sentences for the DAG list."""
    owner: str = Field("rankmill", pattern=r"^[A-Za-z0-9_.@ -]{1,100}$")
    """Who answers for it."""
    tags: tuple[Tag, ...] = ()
    """Words to filter DAGs by, at most 100 characters each."""
    schedule: str | Schedule | None = None
    """Cron expression or preset, or a block with `cron` and `assets`; null runs by hand only."""
    window: WindowSpec
    """Which events a run reads."""
    params: dict[Name, ParamSpec] = Field(default_factory=dict)
    """Fields of the trigger form."""
    max_active_runs: int = Field(1, ge=1, le=1000)
    """Runs at a time; also in a backfill no stage runs more often than that at once."""
    deadline: Duration | None = None
    """Time after which a run that was queued and has not ended is told to be late."""
    notify: Notify | None = None
    """Who is told of failures, questions, refusals, promotions, drift and missed deadlines."""
    defaults: Defaults = Defaults()
    """What every stage does unless it says otherwise."""
    stages: dict[Name, StageSpec] = Field(min_length=1)
    """The nodes, by name."""


class FolderSchedule(SpecModel):
    """What the schedules of a folder have in common."""

    timezone: TimeZone
    """Time zone of every cron expression that names none."""


class FolderSpec(SpecModel):
    """The file `defaults.yaml` of a folder: what each of its pipelines takes unless it, or one it extends, says so."""

    owner: str = Field("rankmill", pattern=r"^[A-Za-z0-9_.@ -]{1,100}$")
    """Who answers for them."""
    tags: tuple[Tag, ...] = ()
    """Words to filter DAGs by, at most 100 characters each."""
    schedule: FolderSchedule | None = None
    """Time zone of cron expressions."""
    max_active_runs: int = Field(1, ge=1, le=1000)
    """Runs of a pipeline at a time; also in a backfill no stage runs more often than that at once."""
    deadline: Duration | None = None
    """Time after which a run that was queued and has not ended is told to be late."""
    notify: Notify | None = None
    """Who is told of failures, questions, refusals, promotions, drift and missed deadlines."""
    defaults: Defaults = Defaults()
    """What every stage does unless it says otherwise."""
