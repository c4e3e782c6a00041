"""How does `evaluate_ranker` run? Raw rows → encoder → ONNX → cells, plots, page, and the training's MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.training_set import raw_file
from components.judge.evaluate_ranker.config import Config, Inputs, Outputs
from components.platform.artifacts import EvaluationReport
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError, MissingError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.judge.evaluate_ranker.rows import Judged
    from features.declaration import Declaration
    from registry.serving.model.served_model import Probabilities


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Score one split through the exported model as it would be served, and report.

    Raises:
        BadInputError: the split is empty, or the rows lack a column that the model needs.
        MissingError: the requested provider did not load, or the training's MLflow run is gone.
        RetryableError: MLflow could not be written; nothing was published.
    """
    import pyarrow.parquet as pq

    from components.judge.evaluate_ranker.cells import headline, remarks
    from components.judge.evaluate_ranker.publish import Scored, log_evaluation, weighted_note, write_report
    from components.judge.evaluate_ranker.rows import judged, role_columns
    from components.rankers.tasks import tasks_of
    from features.services.served import freshness_of
    from registry.evaluation import ALL
    from registry.serving.answers.by_block import said
    from registry.serving.evidence.baseline import BASELINE, baseline_of, directions
    from registry.serving.model.served_model import ServedModel
    from registry.versions.database import initialise
    from registry.versions.tracking import run_of_training

    model = ServedModel.open(context.local(inputs.model), config.provider)
    file = raw_file(context.local(inputs.dataset), config.split)
    if file.num_rows == 0:
        raise BadInputError(f"stage {context.stage!r}: the {config.split} split has no rows: widen its window or share")
    schema = model.contract.schema_
    roles = file.read(role_columns(file.column_names, schema.declaration))
    rows = judged(roles, schema.declaration)
    context.progress(f"scoring {file.num_rows} rows on {model.provider}")
    found = said(
        model,
        file,
        shown=schema.declaration.position is not None,
        directions=directions(model.contract.hidden),
        report=context.progress,
    )

    tasks = [task for task in tasks_of(schema.declaration) if task.name in model.contract.tasks]
    domains = rows.domains(schema.domains)
    context.progress(f"judging {len(tasks)} tasks in {len(domains)} domains, {config.bootstrap} resamples each")
    scored = Scored(
        name=f"{model.contract.ranker} in {context.pipeline}",
        model_digest=inputs.model.digest,
        dataset_digest=inputs.dataset.digest,
        provider=model.provider,
        rows=rows,
        scores=found.base,
        tasks=tasks,
        shown=found.shown,
        domains=domains,
        judge_by=schema.declaration.judge_by,
        group=schema.declaration.group,
        freshness=freshness_of(context.local(inputs.dataset)),
    )
    draft = context.draft("report")
    report = write_report(draft, scored, config)
    (draft / BASELINE).write_text(baseline_of(model, file, found).model_dump_json(indent=1), encoding="utf-8")
    pq.write_table(_predictions(roles, schema.declaration, rows, found.base), draft / "predictions.parquet")

    run_id = context.annotations_of(inputs.model).get(MLFLOW_RUN_ID)
    if run_id:
        try:
            initialise(context.settings.tracking_uri, context.settings.mlflow_artifacts)
            log_evaluation(run_of_training(context.settings.tracking_uri, run_id), report, draft)
            context.annotate(MLFLOW_RUN_ID, run_id)
        except MissingError as error:
            # A cached model may come from another tracker; its evaluation is no less true.
            context.note(f"not in MLflow: {error}")
    for task in tasks:
        context.note(headline(report.cell(task.name, ALL)))
    for line in (*weighted_note(report), *remarks(report.cells)):
        context.note(line)
    return Outputs(report=EvaluationReport(uri=str(draft)))


def _predictions(table: pa.Table, declaration: Declaration, rows: Judged, scores: dict[str, Probabilities]) -> pa.Table:
    """Return row_id, user, request, domain, ``label_<feedback>`` and ``predicted_<task>`` of every scored row."""
    import pyarrow as pa

    columns = {"row_id": table["row_id"], "user": table[declaration.user]}
    if declaration.request is not None:
        columns["request"] = table[declaration.request]
    if rows.domain is not None:
        columns["domain"] = pa.array(rows.domain)
    columns |= {f"label_{name}": pa.array(values.astype("int8")) for name, values in rows.labels.items()}
    columns |= {f"predicted_{name}": pa.array(values) for name, values in scores.items()}
    return pa.table(columns)
