"""What did a stage read and make, for a lineage server? Plain data: data sets, their columns and digests, models.

A data set is the output of a stage, `pipeline.stage.output`, whatever run made it, and its version is the digest of the
artifact. So two runs are two versions of one data set. Raw files that a stage read from outside count as data sets too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.ingest.events_table import ANNOTATION
from components.platform.artifacts import ModelVersion, Promotion
from components.platform.errors import RankmillError
from components.platform.execute import StageResult
from components.platform.records import Manifest
from components.platform.settings import Settings
from components.platform.store import ArtifactRef, Store, open_store
from pipelines.run.lineage_verdict import Answer, answer_of
from pipelines.run.task import Attempt, request_of
from registry.gate.verdict import Verdict
from registry.serving.contract import RegisteredVersion

RAW = "raw_file"
"""Kind of a data set that is a file from outside."""


@dataclass(frozen=True)
class Column:
    """A column of a table, or a table of an artifact that holds several.

    Attributes:
        name: its name.
        type: Arrow type, or ``struct`` for a table.
        columns: columns of the table, none for a column.
    """

    name: str
    type: str
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One data set in one version.

    Attributes:
        name: ``pipeline.stage.output``, with the file's name for a raw file.
        kind: kind of artifact, or `RAW`.
        version: digest of the content.
        uri: where it lies; empty for a raw file.
        columns: of its Parquet files.
        model: what registry or gate said about a model; empty for all else.
    """

    name: str
    kind: str
    version: str
    uri: str = ""
    columns: tuple[Column, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """What one stage of one run read and made.

    Attributes:
        inputs: what it read.
        outputs: what it made; none when it failed.
        facts: about the run of the stage: component, window, cache key, whether it came from the store.
        answer: what its gate or check said, refusals too; None for a stage that judges nothing.
    """

    inputs: tuple[DataSet, ...]
    outputs: tuple[DataSet, ...]
    facts: Mapping[str, Any]
    answer: Answer | None = None


def lineage_of(
    attempt: Attempt, result: StageResult | None, settings: Settings, error: BaseException | None = None
) -> Lineage:
    """Return what a stage read and made.

    What cannot be read is left out: lineage is told about a run, and never a reason to fail one.

    Args:
        attempt: the try at the stage.
        result: what it returned, or None when it failed.
        settings: where the artifacts live.
        error: why it failed.

    Raises:
        BadInputError: the params of the run do not fit the pipeline.
    """
    store = open_store(settings)
    request = request_of(attempt)
    pipeline, stage = request.pipeline, request.stage
    wires = {wire.input: f"{pipeline}.{wire.stage}.{wire.output}" for wire in attempt.stage.wires}
    inputs = [_data_set(wires[port], ref, store) for port, ref in sorted(request.inputs.items())]
    facts = {
        "component": f"{attempt.stage.component.name}@{attempt.stage.component.version}",
        "window": str(request.window),
    }
    answer = answer_of(attempt, result, settings, error)
    if result is None:
        return Lineage(tuple(inputs), (), facts, answer)
    outputs = [_data_set(f"{pipeline}.{stage}.{name}", ref, store) for name, ref in sorted(result.outputs.items())]
    inputs += _raw_files(f"{pipeline}.{stage}", result, store)
    return Lineage(tuple(inputs), tuple(outputs), facts | {"cached": result.cached, "key": result.key}, answer)


def _data_set(name: str, ref: ArtifactRef, store: Store) -> DataSet:
    manifest = _manifest(ref, store)
    columns = tuple(_columns(ref, manifest, store)) if manifest else ()
    return DataSet(name, ref.kind, ref.digest, ref.uri, columns, _model(ref, store))


def _manifest(ref: ArtifactRef, store: Store) -> Manifest | None:
    try:
        return store.manifest(ref.load())
    except RankmillError:
        return None


def _raw_files(stage: str, result: StageResult, store: Store) -> Iterator[DataSet]:
    for ref in result.outputs.values():
        manifest = _manifest(ref, store)
        found = manifest.annotations if manifest else {}
        for name, digest in sorted(found.items()):
            if name.startswith(ANNOTATION):
                yield DataSet(f"{stage}.{name}", RAW, digest)
        return  # every output of a stage has the same annotations


def _columns(ref: ArtifactRef, manifest: Manifest, store: Store) -> Iterator[Column]:
    """Yield the columns of an artifact's Parquet files; of several with other columns, one table each."""
    tables = {
        name.removesuffix(".parquet"): columns
        for name in sorted(manifest.files)
        if name.endswith(".parquet") and (columns := _of_file(ref, name, store))
    }
    if len(set(tables.values())) == 1:
        yield from next(iter(tables.values()))
    else:
        yield from (Column(name, "struct", columns) for name, columns in tables.items())


def _of_file(ref: ArtifactRef, name: str, store: Store) -> tuple[Column, ...]:
    import pyarrow.parquet as pq

    try:
        with store.open_file(ref, name) as stream:  # the footer only: fetching would copy and check all of it
            schema = pq.read_schema(stream)
    except (OSError, ValueError, RankmillError):
        return ()
    return tuple(Column(column.name, str(column.type)) for column in schema)


def _model(ref: ArtifactRef, store: Store) -> dict[str, Any]:
    """Return what the registry or the gate said about a model, as JSON values."""
    files = {ModelVersion.kind: "version.json", Promotion.kind: "verdict.json"}
    if ref.kind not in files:
        return {}
    try:
        with store.open_file(ref, files[ref.kind]) as stream:
            text = stream.read()
        if ref.kind == ModelVersion.kind:
            return RegisteredVersion.model_validate_json(text).model_dump(mode="json")
        verdict = Verdict.model_validate_json(text).model_dump(mode="json", exclude={"judgements"})
    except (OSError, ValueError, RankmillError):
        return {}
    return {"version": verdict.pop("challenger"), **verdict}
