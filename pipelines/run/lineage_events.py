"""How is lineage said in OpenLineage's words? Data sets with facets; no Airflow in here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.language.hiding import hidden, without_passwords
from pipelines.run.lineage import RAW, Column, DataSet, Lineage
from pipelines.run.lineage_verdict import Check

NAMESPACE = "rankmill"
"""Namespace of the data sets."""


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
