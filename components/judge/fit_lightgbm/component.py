"""How does `fit_lightgbm` run? Raw splits → columns → trees per task → the report that a ranker's evaluation gives."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from components.data.training_set import SPLITS, read_raw, read_schema
from components.judge.fit_lightgbm.config import FIT_SECONDS, LEAVES, VALIDATION, Config, Inputs, Outputs
from components.platform.artifacts import EvaluationReport
from components.platform.contract import RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    from components.judge.fit_lightgbm.trees import Fitted


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Fit trees per task, score the test split once, and report.

    Raises:
        MissingError: LightGBM is not installed.
        BadInputError: a split is empty, or a task has one class.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.judge.evaluate_ranker.cells import headline, remarks
    from components.judge.evaluate_ranker.config import Config as Judging
    from components.judge.evaluate_ranker.publish import Scored, weighted_note, write_report
    from components.judge.evaluate_ranker.rows import judged
    from components.judge.fit_lightgbm.columns import columns_of
    from components.judge.fit_lightgbm.trees import fit, settings_of
    from components.platform.store.records import sha256_json
    from components.rankers.tasks import tasks_of
    from features.encoding.files import read_encoder
    from features.services.served import freshness_of
    from registry.evaluation import ALL
    from registry.metrics import Requests, value_of
    from registry.serving.incoming import placed

    dataset = context.local(inputs.dataset)
    declaration = read_schema(dataset).declaration
    tables: dict[str, pa.Table] = {split: read_raw(dataset, split) for split in SPLITS}
    for split, table in tables.items():
        if table.num_rows == 0:
            raise BadInputError(f"stage {context.stage!r}: the {split} split has no rows: widen its window or share")
    encoder = read_encoder(dataset)
    asked = {f"{split} asked": placed(tables[split], declaration) for split in ("validation", "test")}
    columns = columns_of(encoder, tables | (asked if declaration.position else {}))
    context.progress(f"{len(columns.names)} columns, {len(columns.categories)} of them categories")

    rows = {split: judged(table, declaration) for split, table in tables.items()}
    tasks = tasks_of(declaration)
    fitted: dict[str, Fitted] = {}
    started = time.monotonic()
    for task in tasks:
        labels = {split: parts.labels[task.label] for split, parts in rows.items()}
        spaces = {split: parts.space(task) for split, parts in rows.items()}
        weights = {split: parts.weights.get(task.label) for split, parts in rows.items()}
        found = fitted[task.name] = fit(columns, labels, weights, spaces, config, task.name)
        answers = found.scores.get("validation asked", found.scores["validation"])
        inside, held = spaces["validation"], rows["validation"]
        for metric in dict.fromkeys(("auc", declaration.judge_by)):
            requests = None if held.request is None else Requests(held.request[inside])
            value = value_of(metric, labels["validation"][inside], answers[inside], held.user[inside], requests)
            if value is not None:
                context.annotate(VALIDATION.format(task=task.name, metric=metric), str(value))
            context.progress(f"{task.name}: {found.trees} trees, validation {metric} {value}")
    context.annotate(FIT_SECONDS, f"{time.monotonic() - started:.3f}")
    context.annotate(LEAVES, str(sum(found.leaves for found in fitted.values())))

    test, shown = rows["test"], {name: found.scores["test"] for name, found in fitted.items()}
    scores = {name: found.scores.get("test asked", found.scores["test"]) for name, found in fitted.items()}
    draft = context.draft("report")
    scored = Scored(
        name=f"lightgbm in {context.pipeline}",
        model_digest=sha256_json({name: found.text for name, found in fitted.items()}),
        dataset_digest=inputs.dataset.digest,
        provider="lightgbm",
        rows=test,
        scores=scores,
        tasks=tasks,
        shown=shown if declaration.position else None,
        domains=test.domains(read_schema(dataset).domains),
        judge_by=declaration.judge_by,
        group=declaration.group,
        freshness=freshness_of(dataset),
    )
    report = write_report(
        draft, scored, Judging(bootstrap=config.bootstrap, seed=config.seed, weighted=config.weighted)
    )
    kept = {"settings": settings_of(config), "trees": {name: found.trees for name, found in fitted.items()}}
    (draft / "trees.json").write_text(json.dumps(kept, indent=2), encoding="utf-8")
    predicted = {f"predicted_{name}": pa.array(values) for name, values in scores.items()}
    pq.write_table(pa.table({"row_id": tables["test"]["row_id"]} | predicted), draft / "predictions.parquet")
    for task in tasks:
        context.note(f"{headline(report.cell(task.name, ALL))}, {fitted[task.name].trees} trees")
    for line in (*weighted_note(report), *remarks(report.cells)):
        context.note(line)
    return Outputs(report=EvaluationReport(uri=str(draft)))
