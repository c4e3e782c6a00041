"""What did a stage read, make and answer, for a lineage server? Plain data first, then said in OpenLineage's words.

A data set is the output of a stage, `pipeline.stage.output`, whatever run made it, and its version is the digest of the
artifact. So two runs are two versions of one data set. Raw files that a stage read from outside count as data sets too.
A stage that refuses publishes nothing; what it found lies in the run's folder, and the error says which answer it was.
No Airflow in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from components.data.validate_data.config import ExpectationResult, SuiteResult
from components.ingest.events_table import ANNOTATION
from components.platform.artifacts import DataDocs, ModelVersion, OnnxModel, Promotion
from components.platform.errors import ContractViolationError, GateRefusedError, ParityError, RankmillError
from components.platform.execute import StageResult, run_folder
from components.platform.settings import Settings
from components.platform.store.publish import Store, open_store
from components.platform.store.records import ArtifactRef, Manifest
from pipelines.language.hiding import hidden, without_passwords
from pipelines.run.task import Attempt, request_of
from registry.gate.verdict import Verdict
from registry.serving.model.contract import ParityReport, RegisteredVersion

RAW = "raw_file"
"""Kind of a data set that is a file from outside."""
NAMESPACE = "rankmill"
"""Namespace of the data sets."""
Severity = Literal["error", "warn"]


@dataclass(frozen=True)
class Column:
    """A column of a table, or a table of an artifact that holds several."""

    name: str
    type: str
    """Arrow type, or ``struct`` for a table."""
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One data set in one version."""

    name: str
    """``pipeline.stage.output``, with the file's name for a raw file."""
    kind: str
    version: str
    """Digest of the content."""
    uri: str = ""
    columns: tuple[Column, ...] = ()
    """Of its Parquet files."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """What registry or gate said about a model; empty for all else."""


@dataclass(frozen=True)
class Check:
    """One rule about the table that a stage read."""

    expectation: str
    column: str | None
    """Column or columns it is about; None for the whole table."""
    passed: bool
    severity: Severity
    """`warn` stops nothing."""
    found: str


@dataclass(frozen=True)
class Answer:
    """What a gate or a check said."""

    facts: Mapping[str, Any]
    """`kind` (`gate`, `contract`, `parity`), `answer`, `reason` and figures, as JSON values."""
    checks: tuple[Check, ...] = ()
    """Of a contract: every rule."""


@dataclass(frozen=True)
class Lineage:
    """What one stage of one run read and made."""

    inputs: tuple[DataSet, ...]
    outputs: tuple[DataSet, ...]
    facts: Mapping[str, Any]
    """About the run of the stage: component, window, cache key, whether it came from the store."""
    answer: Answer | None = None
    """What its gate or check said, refusals too; None for a stage that judges nothing."""


def lineage_of(
    attempt: Attempt, result: StageResult | None, settings: Settings, error: BaseException | None = None
) -> Lineage:
    """Return what a stage read and made.

    What cannot be read is left out: lineage is told about a run, and never a reason to fail one.

    Raises:
        BadInputError: the params of the run do not fit the pipeline.
    """
    store = open_store(settings)
    request = request_of(attempt)
    pipeline, stage = request.pipeline, request.stage
    wires = {wire.key: f"{pipeline}.{wire.stage}.{wire.output}" for wire in attempt.stage.wires}
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


def answer_of(
    attempt: Attempt, result: StageResult | None, settings: Settings, error: BaseException | None = None
) -> Answer | None:
    """Return what a stage's gate or check said, or None for a stage that judges nothing.

    A file that cannot be read leaves the answer and the error's own sentence.
    """
    if result is not None:
        found = {ref.kind: ref for ref in result.outputs.values()}
        for judge in _JUDGES:
            if judge.artifact in found:
                return judge.read(partial(open_store(settings).open_file, found[judge.artifact])) or Answer(
                    {"kind": judge.kind, "answer": "passed"}
                )
        return None
    for judge in _JUDGES:
        if isinstance(error, judge.refusal):
            kept = run_folder(settings, attempt.plan.name, attempt.run_id) / attempt.stage.name
            known = judge.read(partial(_open_kept, kept)) or Answer({})
            said = {"kind": judge.kind, "answer": "refused", "reason": str(error)}
            return Answer(dict(known.facts) | said, known.checks)
    return None


def _open_kept(folder: Path, name: str) -> IO[bytes]:
    return (folder / name).open("rb")


@dataclass(frozen=True)
class _Judge:
    """Where a kind of answer stands, and how it is read."""

    kind: str
    refusal: type[Exception]
    artifact: str
    file: str
    told: Callable[[bytes], Answer]

    def read(self, open_file: Callable[[str], IO[bytes]]) -> Answer | None:
        try:
            with open_file(self.file) as stream:
                return self.told(stream.read())
        except (OSError, ValueError, RankmillError):
            return None


def _gate(text: bytes) -> Answer:
    verdict = Verdict.model_validate_json(text)
    facts = verdict.model_dump(mode="json", exclude={"judgements"})
    refused = [f"{one.task}/{one.domain}/{one.metric}" for one in verdict.judgements if one.outcome == "refused"]
    return Answer({"kind": "gate", **facts, "cells": len(verdict.judgements), "refused_cells": refused})


def _contract(text: bytes) -> Answer:
    result = SuiteResult.model_validate_json(text)
    facts = {
        "kind": "contract",
        "answer": "passed" if result.passed else "refused",
        "suite": result.suite,
        "rows": result.rows,
        "quarantined": result.rows - result.kept,
        "broken": [one.label for one in result.expectations if not one.passed],
    }
    return Answer(facts, tuple(map(_check, result.expectations)))


def _check(one: ExpectationResult) -> Check:
    found = one.problem or one.observed or (f"{one.broken} of {one.checked} rows" if one.broken else "")
    severity: Severity = "error" if one.action == "fail" else "warn"
    return Check(one.expectation, one.column, one.passed, severity, "" if one.passed else found)


def _parity(text: bytes) -> Answer:
    report = ParityReport.model_validate_json(text)
    worst = max((case.max_abs_difference for case in report.cases), default=0.0)
    answer = "passed" if report.passed else "refused"
    return Answer({"kind": "parity", "answer": answer, "tolerance": report.tolerance, "largest_difference": worst})


_JUDGES = (
    _Judge("gate", GateRefusedError, Promotion.kind, "verdict.json", _gate),
    _Judge("contract", ContractViolationError, DataDocs.kind, "result.json", _contract),
    _Judge("parity", ParityError, OnnxModel.kind, "parity.json", _parity),
)


def events(lineage: Lineage) -> dict[str, Any]:
    """Return inputs, outputs and facets of a stage's run as the arguments of Airflow's `OperatorLineage`."""
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import RunFacet

    found = {"rankmill_stage": RunFacet().with_additional_properties(**lineage.facts)}
    if lineage.answer is not None:
        facts = {
            name: hidden(value) if isinstance(value, str) else value for name, value in lineage.answer.facts.items()
        }
        found["rankmill_verdict"] = RunFacet().with_additional_properties(**facts)
    checked = assertions(lineage.answer.checks if lineage.answer else ())
    return {
        "inputs": [
            InputDataset(NAMESPACE, one.name, facets=facets(one), inputFacets=checked if one.kind != RAW else {})
            for one in lineage.inputs
        ],
        "outputs": [OutputDataset(NAMESPACE, one.name, facets=facets(one)) for one in lineage.outputs],
        "run_facets": found,
    }


def assertions(checks: Sequence[Check]) -> dict[str, Any]:
    """Return OpenLineage's own facet about checks of a table that was read; none when nothing was checked."""
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    made = [
        quality.Assertion(
            assertion=one.expectation,
            success=one.passed,
            column=one.column,
            severity=one.severity,
            actual=hidden(one.found) or None,
        )
        for one in checks
    ]
    return {"dataQualityAssertions": quality.DataQualityAssertionsDatasetFacet(assertions=made)} if made else {}


def facets(one: DataSet) -> dict[str, Any]:
    """Return the facets of a data set: version, type, and where they are known place, columns and model."""
    from openlineage.client.facet_v2 import (
        DatasetFacet,
        dataset_type_dataset,
        dataset_version_dataset,
        datasource_dataset,
        schema_dataset,
    )

    kind = "MODEL" if one.model else "FILE"
    found: dict[str, Any] = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=one.version),
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=kind, subType=one.kind),
    }
    if one.uri:
        found["dataSource"] = datasource_dataset.DatasourceDatasetFacet(
            name=one.kind, uri=hidden(without_passwords(one.uri))
        )
    if one.columns:
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=[_field(column) for column in one.columns])
    if one.model:
        found["rankmill_model"] = DatasetFacet().with_additional_properties(**one.model)
    return found


def _field(column: Column) -> Any:
    from openlineage.client.facet_v2 import schema_dataset

    inner = [_field(one) for one in column.columns]
    return schema_dataset.SchemaDatasetFacetFields(name=column.name, type=column.type, fields=inner)
