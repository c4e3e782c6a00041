"""How do impressions become feature tables? What the online store gets of them: `publish_online`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.data.materialize_features.config import Config, Inputs, Outputs
from components.data.materialize_features.publish_online import expect_write
from components.platform.artifacts import FeatureTables
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from features.declaration import Window
from features.services.service import ServiceSnapshot

if TYPE_CHECKING:
    from features.definitions import Definitions
    from features.ground.pace import Report


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Compute the tables of the service.

    Raises:
        BadInputError: the events lack a column, or none lies in the window.
        MissingError: there is no such feature service.
    """
    draft = context.draft("feature_tables")
    from features.services.own_definitions import definitions_of

    definitions = definitions_of(config.definitions)
    expect_write(config, context.settings)
    snapshot = write_tables(
        context.local(inputs.table), config.feature_service, context.window, draft, definitions,
        scratch=context.scratch, report=context.progress,
    )  # fmt: skip
    (draft / "service.json").write_text(snapshot.model_dump_json(indent=2), encoding="utf-8")
    rows = ", ".join(f"{name} {count:,}" for name, count in sorted(snapshot.rows.items()))
    context.note(f"{len(snapshot.features)} features; rows: {rows}")
    return Outputs(feature_tables=FeatureTables(uri=str(draft)))


def write_tables(
    events: Path,
    service: str,
    window: Window,
    directory: Path,
    definitions: Definitions | None = None,
    *,
    scratch: Path | None = None,
    report: Report | None = None,
) -> ServiceSnapshot:
    """Write one Parquet file per source of `service`, with the events of its histories, and return what was written.

    Rows that memory should not hold wait in `scratch`; `report` is told how far it is.

    Raises:
        BadInputError: the events lack a log or a column, or none lies in the window.
        MissingError: there is no such feature service.
    """
    from features.definitions import load_definitions
    from features.definitions.recipe import IMPRESSIONS
    from features.recipes.by_key import write_computed
    from features.services.service import describe, dtype_name, shortened

    definitions = definitions or load_definitions()
    features, sources = describe(service, definitions)
    # All features of a view, though the service may ask for some: its values in the online store are whole.
    schemas = {
        view.name: {field.name: dtype_name(field.dtype) for field in view.features}
        for view in definitions.views_of(service)
    }
    lengths = {
        view.name: shortened(view, definitions.recipes[view.batch_source.name])
        for view in definitions.views_of(service)
    }
    rows = {}
    for source in sources:
        recipe = definitions.recipes[source.name]
        log = events / f"{recipe.log}.parquet"
        if not log.exists():
            raise BadInputError(
                f"source {source.name!r} is computed from the log {recipe.log!r}, which the events table does not "
                "hold: ingest it, or choose another feature service"
            )
        rows[source.name] = write_computed(
            recipe, log, window, source.keys | schemas[source.view], directory / source.file, source.keys,
            lengths[source.view], scratch=scratch, report=report,
        )  # fmt: skip
        if not rows[source.name]:
            what = "impression" if recipe.log == IMPRESSIONS else f"row of the log {recipe.log!r}"
            raise BadInputError(
                f"no {what} lies in the window {window}: move the window of the pipeline, or ingest those days"
            )
    return ServiceSnapshot(service=service, features=tuple(features), sources=tuple(sources), window=window, rows=rows)
