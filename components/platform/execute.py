"""How does one stage run, wherever it was started from? Resolve, look in the cache, run, publish.

An Airflow task, `rankmill component run` and the tests all call `execute`.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from components.platform.approval import People
from components.platform.artifacts import Artifact
from components.platform.cache import RUN, CacheMode, Start, cache_key, earlier_result, key_parts, looks_back
from components.platform.catalog import component
from components.platform.contract import ComponentSpec, Ports, RunContext
from components.platform.errors import BadInputError, MissingError, RankmillError, StorageError
from components.platform.settings import Settings, quiet_engines
from components.platform.sources import modules_of, source_files
from components.platform.store.publish import Store, open_store
from components.platform.store.records import ArtifactRef, StageRecord, sha256_json
from components.platform.usage import PeakMemory, rows_of
from features.declaration import Frozen, Window
from features.ground.files import is_gone, write_durably

log = logging.getLogger("rankmill")


class StageRequest(Frozen):
    """Everything one stage needs, as JSON."""

    component: str
    config: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, ArtifactRef] = Field(default_factory=dict)
    """By input; those of an input that takes several by `input.stage`."""
    window: Window
    pipeline: str = "component"
    stage: str = "component"
    run_id: str = "manual"
    cache: CacheMode = "all"
    start: Start = "cache"


class StageResult(Frozen):
    """What a stage did: references, not bytes. This is what XCom carries."""

    stage: str
    component: str
    key: str
    cached: bool
    seconds: float
    outputs: dict[str, ArtifactRef]
    notes: list[str]
    no_news: tuple[str, ...] = ()
    """Outputs that a pipeline which waits for them need not start for."""
    made_seconds: float | None = None
    """How long it took to make the outputs; of what comes from the store, then. None in records of earlier releases."""
    peak_bytes: int | None = None
    """The most memory that its processes took at once; None where it comes from the store."""
    rows: int | None = None
    """Rows of the Parquet files among its outputs; None without one."""


def execute(request: StageRequest, settings: Settings | None = None, people: People | None = None) -> StageResult:
    """Run one stage and publish its outputs, or take them from the cache.

    Args:
        request: what to run.
        settings: where everything lies; what the environment says when None.
        people: whom a stage asks that asks; nobody when None.

    Raises:
        ApprovalNeededError: it asks, and nobody has answered yet.
        BadInputError: config or inputs do not fit the component.
        RankmillError: the stage failed; nothing was published. Only `after_publish` fails later: its outputs
            exist, and running again announces them or newer ones.
    """
    quiet_engines()
    settings = settings or Settings.from_environment()
    spec = component(request.component)
    config = validated_config(spec, request.config, request.stage)
    inputs = _typed_inputs(spec, request)
    canonical = config.model_dump(mode="json")
    parts = key_parts(spec, canonical, {n: a.digest for n, a in inputs.items()}, request.window)
    keyed = spec.cacheable and request.cache != "off"
    key = cache_key(parts)
    store = open_store(settings)
    started = time.monotonic()
    record = _reuse(store, spec, parts, request, config, settings)
    old = store.find(spec.name, key) if keyed and record is None else None
    if old is not None and looks_back(spec, request.cache, request.start):
        # Another run published it between the two questions.
        record = _reuse(store, spec, parts, request, config, settings)
    cached = record is not None
    no_news: set[str] = set()
    if record is None:
        if old is not None or not keyed:
            # What lies under the key stays as it is: another run may be reading it.
            unique = {RUN: f"{request.run_id}/{request.stage}/{time.time_ns()}"}
            parts |= {} if keyed else unique
            fresh = cache_key(parts | unique)
        else:
            fresh = key
        with _scratch(settings, spec.name) as scratch:
            context = RunContext(
                settings=settings,
                pipeline=request.pipeline,
                stage=request.stage,
                run_id=request.run_id,
                window=request.window,
                scratch=scratch,
                kept=run_folder(settings, request.pipeline, request.run_id) / request.stage,
                key=fresh,
                fetch=store.fetch,
                read_annotations=lambda artifact: store.manifest(artifact).annotations,
                people=people or People(),
            )
            with PeakMemory() as memory:
                outputs = _run(spec, inputs, config, context)
            no_news = context.no_news
            record = store.publish(
                scratch / "outputs",
                outputs,
                component=spec.name,
                component_version=spec.version,
                key=fresh,
                config_digest=sha256_json(canonical),
                inputs={n: a.digest for n, a in inputs.items()},
                explanation=parts,
                config=canonical,
                sources=source_files(*modules_of(spec)),
                made_by=f"{request.pipeline}.{request.stage}",
                seconds=time.monotonic() - started,
                notes=context.notes,
                annotations=context.annotations,
                peak_bytes=memory.bytes,
                rows=rows_of((scratch / "outputs").rglob("*")),
            )
        if old is not None:
            store.supersede(spec.name, key, record)
    notes = record.notes
    if spec.after_publish and request.start != "taken":
        published = spec.outputs(**{name: ref.load() for name, ref in record.outputs.items()})
        said: str | None = load_function(spec.after_publish)(published, config, settings)
        notes = [*notes, *([said] if said else [])]
    result = StageResult(
        stage=request.stage,
        component=spec.name,
        key=record.key,
        cached=cached,
        seconds=round(time.monotonic() - started, 3),
        outputs=record.outputs,
        notes=notes,
        no_news=tuple(sorted(no_news)),
        made_seconds=round(record.seconds, 3),
        peak_bytes=None if cached else record.peak_bytes,
        rows=record.rows,
    )
    _record(settings, request, result)
    return result


def load_function(entrypoint: str) -> Callable[..., Any]:
    """Import and return the function that ``package.module:function`` names."""
    module, _, function = entrypoint.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded


def validated_config(spec: ComponentSpec, given: Mapping[str, Any], stage: str) -> Any:
    """Return the config of a stage, checked.

    Raises:
        BadInputError: it does not fit the component.
    """
    try:
        return spec.config.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInputError(f"stage {stage!r}: config {where}: {first['msg']}; fix the with: block") from None


def _typed_inputs(spec: ComponentSpec, request: StageRequest) -> dict[str, Artifact]:
    """Return the artifacts of a request, as it names them, sorted.

    Raises:
        BadInputError: they are not what the component takes.
    """
    inputs = {name: ref.load() for name, ref in sorted(request.inputs.items())}
    ports = {name: _port(spec, name) for name in inputs}
    wanted = spec.input_types
    unknown = {name for name, port in ports.items() if port not in wanted}
    for name in sorted(({*spec.needed_inputs} - {*ports.values()}) | unknown):
        state = "is missing" if name in wanted else "is not an input of the component"
        known = [port if port in spec.needed_inputs else f"{port}, if any" for port in sorted(wanted)]
        raise BadInputError(f"stage {request.stage!r}: input {name!r} {state}; inputs of {spec.name} are {known}")
    for name, artifact in inputs.items():
        kind = wanted[ports[name]]
        if not isinstance(artifact, kind):
            raise BadInputError(
                f"stage {request.stage!r}: input {name!r} is a {artifact.kind}, {spec.name} takes a {kind.kind}"
            )
    return inputs


def _port(spec: ComponentSpec, name: str) -> str:
    """Return the input that an artifact of a request belongs to."""
    port, dot, stage = name.partition(".")
    return port if dot and stage and port in spec.many_inputs else name if name not in spec.many_inputs else ""


def _inputs(spec: ComponentSpec, given: Mapping[str, Artifact]) -> Ports:
    """Return the artifacts of a request as the component takes them."""
    taken: dict[str, Any] = {name: artifact for name, artifact in given.items() if name in spec.input_types}
    for port in spec.many_inputs:
        start = f"{port}."
        found = {name.removeprefix(start): one for name, one in given.items() if name.startswith(start)}
        taken |= {port: found} if found else {}
    return spec.inputs(**taken)


def _reuse(
    store: Store, spec: ComponentSpec, parts: Mapping[str, str], request: StageRequest, config: Any, settings: Settings
) -> StageRecord | None:
    """Return the earlier result that the stage takes: every file of it is unharmed and it still holds outside.

    Raises:
        MissingError: the stage must be taken from the store, which has no such result.
    """
    if not looks_back(spec, request.cache, request.start):
        return None
    record = earlier_result(store, spec, parts, request.cache, request.start)
    reason = "" if record else "the store does not have it"
    # Said before it is read, so that nobody collects it in between.
    if record is not None and not store.touch(spec.name, record.key):
        reason = "it was deleted meanwhile"
    elif record is not None:
        try:
            for ref in record.outputs.values():
                store.fetch(ref.load())
        except RankmillError as error:
            reason = str(error)
        if not reason and spec.recheck:
            outputs = spec.outputs(**{name: ref.load() for name, ref in record.outputs.items()})
            reason = load_function(spec.recheck)(outputs, config, settings) or ""
    if not reason:
        return record
    if request.start == "taken":
        raise MissingError(
            f"stage {request.stage!r} was to come from the store ({reason}): run it too, with --from {request.stage}"
        )
    if record is not None:
        log.warning("cached %s %s is not used, the stage runs again: %s", spec.name, record.key, reason)
        store.discard(record)
    return None


def _run(spec: ComponentSpec, inputs: dict[str, Artifact], config: Any, context: RunContext) -> dict[str, Artifact]:
    try:
        outputs = load_function(spec.entrypoint)(_inputs(spec, inputs), config, context)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = f"the disk of {context.scratch} is full" if full else str(error.strerror or error)
        place = f" ({error.filename})" if error.filename else ""
        raise StorageError(
            f"stage {context.stage!r}: {reason}{place}; nothing was published, fix it and run again"
        ) from error
    if not isinstance(outputs, Ports) or type(outputs) is not spec.outputs:
        raise TypeError(f"{spec.entrypoint} must return {spec.outputs.__qualname__}, not {type(outputs).__qualname__}")
    drafts: dict[str, Artifact] = {name: getattr(outputs, name) for name in spec.output_types}
    for name, draft in drafts.items():
        if Path(draft.uri) != context.scratch / "outputs" / name:
            raise ValueError(f"{spec.entrypoint}: output {name!r} must be written to context.draft({name!r})")
    return drafts


@contextmanager
def _scratch(settings: Settings, name: str) -> Iterator[Path]:
    parent = settings.home / "scratch"
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Delete scratch folders whose process is gone: what a killed stage leaves behind."""
    for folder in parent.iterdir():
        pid = folder.name.split("-")[1:2]
        if pid and pid[0].isdigit() and is_gone(int(pid[0])):
            shutil.rmtree(folder, ignore_errors=True)


def run_folder(settings: Settings, pipeline: str, run_id: str) -> Path:
    """Return the folder with the records of a run, one JSON file per finished stage."""
    safe = "".join(c if c.isalnum() or c in "-_.+" else "_" for c in run_id)
    return settings.runs / pipeline / safe


def _record(settings: Settings, request: StageRequest, result: StageResult) -> None:
    write_durably(
        run_folder(settings, request.pipeline, request.run_id) / f"{request.stage}.json",
        result.model_dump_json(indent=2),
    )
