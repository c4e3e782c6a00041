"""Which version gave an answer, and what was it made from? From a service's log back to the rows and the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime

from components.platform.errors import MissingError, RankmillError, did_you_mean
from components.platform.settings import Settings
from components.platform.store.collect import inventory
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef, StageRecord
from features.declaration import Frozen
from pipelines.record.runs import RecordedRun, recorded_pipelines, recorded_runs
from registry.serving.log.segments import SERVED, SHADOW, Segments, segments_of, services_in

_ID = f"{SERVED}request"
_TOLD = {f"{SERVED}{name}": name for name in ("at", "version", "digest", "memory", "role", "propensity", "degraded")}


class Answered(Frozen):
    """What one version answered to one question."""

    service: str
    """Whose log holds it."""
    request: str
    """Id of the question."""
    at: AwareDatetime
    """When."""
    version: int
    """Number of the version."""
    digest: str
    """Digest of its files."""
    memory: str
    """Digest of its error memory, with `+37` behind it where it had learned 37 slots more; empty without one."""
    role: str
    """Alias that the service followed, `canary`, or `shadow` where nobody saw the answer."""
    propensity: float
    """Chance with which this version, of those that might have, was to answer."""
    degraded: tuple[str, ...]
    """What the answer had to do without."""
    candidates: int
    """How many items it ranked."""


class Origin(Frozen):
    """An artifact that something was made from."""

    kind: str
    """Type of the artifact."""
    digest: str
    """Its digest."""
    uri: str
    """Where it lies, or lay: `rankmill gc` may have freed it."""
    component: str
    """Component and version that made it."""
    made_by: str
    """`pipeline.stage`."""
    created_at: AwareDatetime
    """When."""
    seconds: float
    """How long that took."""
    rows: int | None
    """Rows of the Parquet files that its stage made."""
    window: str
    """Interval of events that its stage read; empty where it reads none."""
    run_id: str
    """Run whose stage it was; empty when no record of it is left."""
    commit: str
    """Version of the code that ran; empty where it was not recorded."""


class Trace(Frozen):
    """An answer and what it came from."""

    answers: tuple[Answered, ...]
    """Whoever answered the question, who was heard first."""
    model: str
    """Registered model; empty where the registry no longer knows the version."""
    registered_at: AwareDatetime | None
    """When the version was registered."""
    promoted: str
    """What the ledger says of how it became champion; empty where it never did."""
    chain: tuple[Origin, ...]
    """The model, then what it was made from, nearest first."""
    memory: tuple[Origin, ...]
    """The error memory, then what it was made from beside the chain."""
    remarks: tuple[str, ...]
    """What is not known, in sentences."""


def trace(settings: Settings, request: str, *, service: str | None = None, day: datetime | None = None) -> Trace:
    """Return where the answer to a question came from.

    Args:
        settings: where logs, registry, ledger, store and runs are.
        request: id of the question.
        service: look in the log of this one only.
        day: look at what was answered on this day only, UTC.

    Raises:
        MissingError: no log holds the question.
    """
    answers = tuple(sorted(find_answers(settings.artifacts, request, service, day), key=_heard))
    first = answers[0]
    remarks: list[str] = []
    model, registered_at, promoted = _registered(settings, first, remarks)
    makers = _makers(settings)
    runs = _runs_by_key(settings)
    chain = tuple(_origins(first.digest, makers, runs, set(), registered_at))
    if not chain:
        remarks.append(
            "no stage in the store made this version: its record was cleaned up, or it lies in another store"
        )
    base, _, learned = first.memory.partition("+")
    memory = tuple(_origins(base, makers, runs, {origin.digest for origin in chain}, first.at)) if base else ()
    if base and not memory:
        remarks.append("no stage in the store made its error memory: its record was cleaned up")
    if learned:
        remarks.append(f"the service itself had taught the memory {learned} slots of its own log")
    return Trace(
        answers=answers, model=model, registered_at=registered_at, promoted=promoted, chain=chain, memory=memory,
        remarks=tuple(remarks),
    )  # fmt: skip


def find_answers(artifacts: str, request: str, service: str | None, day: datetime | None) -> list[Answered]:
    """Return what the logs of services hold about a question.

    Raises:
        MissingError: none holds it, or there is no such service.
    """
    known = services_in(artifacts)
    if service is not None and service not in known:
        raise MissingError(f"service {service!r} has kept no log in {artifacts}{did_you_mean(service, known)}")
    start = day or datetime(1970, 1, 1, tzinfo=UTC)
    end = day + timedelta(days=1) if day else datetime.now(UTC) + timedelta(hours=1)
    found: list[Answered] = []
    for name in [service] if service else known:
        found += _in_log(segments_of(artifacts, name)[0], name, request, start, end)
    if not found:
        where = f"the log of {service}" if service else f"any log of {', '.join(known)}" if known else "any log"
        raise MissingError(
            f"question {request!r} is not in {where}{f' on {day:%Y-%m-%d}' if day else ''}: it is logged some seconds "
            "after the answer, if the service keeps a log (`log:` in its file), for as long as that says"
        )
    return found


def _in_log(segments: Segments, service: str, request: str, start: datetime, end: datetime) -> Iterator[Answered]:
    """Yield what one log holds, newest segments first; what was answered at once lies within an hour."""
    hour = ""
    for name in reversed(segments.names(start, end)):
        folder = name.rpartition("/")[0]
        if hour and folder < hour:
            return
        for told in _rows(segments, name, request):
            hour = hour or _hour_before(folder)
            yield Answered(service=service, request=request, **told)


def _hour_before(folder: str) -> str:
    day, hour = (part.partition("=")[2] for part in folder.split("/"))
    before = datetime.fromisoformat(f"{day}T{hour}:00:00") - timedelta(hours=1)
    return f"date={before:%Y-%m-%d}/hour={before:%H}"


def _rows(segments: Segments, name: str, request: str) -> Iterator[dict[str, object]]:
    import pyarrow.compute as pc

    try:
        if not pc.any(pc.equal(segments.open(name, [_ID])[_ID], request)).as_py():
            return
        table = segments.open(name, [_ID, *_TOLD])
    except FileNotFoundError:  # too old to be kept since it was listed
        return
    mine = table.filter(pc.equal(table[_ID], request))
    first = {told: mine[column][0].as_py() for column, told in _TOLD.items()}
    yield first | {"candidates": mine.num_rows}


def _heard(answer: Answered) -> tuple[bool, datetime]:
    return answer.role == SHADOW, answer.at


def _registered(settings: Settings, answer: Answered, remarks: list[str]) -> tuple[str, datetime | None, str]:
    """Return the model, when the version was registered, and how it became champion."""
    from registry.champion.ledger import MOVES, Ledger
    from registry.versions.client import Registry

    try:
        registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
        same = [
            listed.version
            for name in registry.models()
            for listed in registry.versions(name)
            if listed.version.digest == answer.digest
        ]
    except RankmillError as error:
        remarks.append(f"the registry cannot be asked: {error}")
        return "", None, ""
    if not same:
        remarks.append(f"the registry knows no version with this content any more (it was v{answer.version})")
        return "", None, ""
    version = next((one for one in same if one.version == answer.version), same[0])
    try:
        entries = Ledger(settings.ledger).entries(version.model)
    except RankmillError as error:
        remarks.append(f"the ledger cannot be read: {error}")
        return version.model, version.created_at, ""
    moves = [e for e in entries if e.digest == answer.digest and e.action in MOVES and e.at <= answer.at]
    said = f"{moves[-1].action} {moves[-1].at:%Y-%m-%d %H:%M:%S} UTC by {moves[-1].actor}" if moves else ""
    return version.model, version.created_at, f"{said}: {moves[-1].reason}" if moves and moves[-1].reason else said


def _makers(settings: Settings) -> dict[str, list[tuple[StageRecord, ArtifactRef]]]:
    """Return, by digest, the stages in the store that made an artifact with this content."""
    found: dict[str, list[tuple[StageRecord, ArtifactRef]]] = {}
    for stage in inventory(open_store(settings)):
        for ref in stage.record.outputs.values() if stage.record else ():
            if stage.record is not None:
                found.setdefault(ref.digest, []).append((stage.record, ref))
    return found


def _runs_by_key(settings: Settings) -> dict[str, RecordedRun]:
    """Return, by a stage's key, the run that made it and did not find it in the store."""
    runs = (run for name in recorded_pipelines(settings) for run in recorded_runs(settings, name))
    return {result.key: run for run in runs for result in run.results if not result.cached}


def _origins(
    digest: str,
    makers: Mapping[str, Sequence[tuple[StageRecord, ArtifactRef]]],
    runs: Mapping[str, RecordedRun],
    seen: set[str],
    by: datetime | None,
) -> Iterator[Origin]:
    """Yield an artifact and what it was made from, nearest first; what several stages made, as the last one before did.

    Args:
        digest: its content.
        makers: by content the stages that made it.
        runs: by key of a stage the run that made it.
        seen: contents that are told already; all that is yielded is added.
        by: moment by which it existed.
    """
    due = [(digest, by)]
    while due:
        now, until = due.pop(0)
        if now in seen or now not in makers:
            continue
        seen.add(now)
        ordered = sorted(makers[now], key=lambda one: one[0].created_at)
        before = [one for one in ordered if until is None or one[0].created_at <= until]
        record, ref = before[-1] if before else ordered[0]
        run = runs.get(record.key)
        yield Origin(
            kind=ref.kind,
            digest=now,
            uri=ref.uri,
            component=f"{record.component}@{record.component_version}",
            made_by=record.made_by,
            created_at=record.created_at,
            seconds=round(record.seconds, 3),
            rows=record.rows,
            window=record.explanation.get("window", ""),
            run_id=run.start.run_id if run else "",
            commit=run.start.commit if run else "",
        )
        inputs = [value for name, value in record.explanation.items() if name.startswith("input.")]
        due += [(value, record.created_at) for value in inputs]
