"""How does `evaluate_ranker` run? Raw rows → encoder → ONNX → cells, plots, page, and the training's MLflow run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.training_set import read_raw
from components.judge.evaluate_ranker.config import Config, Inputs, Outputs
from components.platform.artifacts import EvaluationReport
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError, MissingError

if TYPE_CHECKING:
    import pyarrow as pa

    from components.judge.evaluate_ranker.rows import Judged
    from features.declaration import Declaration
    from registry.serving.served_model import Probabilities


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
    from components.judge.evaluate_ranker.rows import judged
    from components.rankers.tasks import tasks_of
    from features.services.served import freshness_of
    from registry.evaluation import ALL
    from registry.serving.answer import answer
    from registry.serving.baseline import BASELINE, baseline_of
    from registry.serving.served_model import ServedModel
    from registry.versions.database import initialise
    from registry.versions.tracking import run_of_training

    model = ServedModel.open(context.local(inputs.model), config.provider)
    table = read_raw(context.local(inputs.dataset), config.split, shared=True)
    if table.num_rows == 0:
        raise BadInputError(f"stage {context.stage!r}: the {config.split} split has no rows: widen its window or share")
    schema = model.contract.schema_
    rows = judged(table, schema.declaration)
    context.progress(f"scoring {table.num_rows} rows on {model.provider}")
    answers = answer(model, table)
    scores = answers.tasks
    shown = answer(model, table, as_shown=True).tasks if schema.declaration.position else None

    tasks = [task for task in tasks_of(schema.declaration) if task.name in model.contract.tasks]
    domains = rows.domains(schema.domains)
    context.progress(f"judging {len(tasks)} tasks in {len(domains)} domains, {config.bootstrap} resamples each")
    scored = Scored(
        name=f"{model.contract.ranker} in {context.pipeline}",
        model_digest=inputs.model.digest,
        dataset_digest=inputs.dataset.digest,
        provider=model.provider,
        rows=rows,
        scores=scores,
        tasks=tasks,
        shown=shown,
        domains=domains,
        judge_by=schema.declaration.judge_by,
        group=schema.declaration.group,
        freshness=freshness_of(context.local(inputs.dataset)),
    )
    draft = context.draft("report")
    report = write_report(draft, scored, config)
    (draft / BASELINE).write_text(baseline_of(model, table, answers).model_dump_json(indent=1), encoding="utf-8")
    pq.write_table(_predictions(table, schema.declaration, rows, scores), draft / "predictions.parquet")

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
