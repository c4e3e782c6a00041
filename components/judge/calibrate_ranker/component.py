"""How does `calibrate_ranker` run? Score validation, fit a curve per stage and domain, measure, add one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.training_set import raw_file, read_schema
from components.judge.calibrate_ranker.config import Config, Inputs, Outputs
from components.platform.artifacts import OnnxModel
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    from components.judge.calibrate_ranker.measure import Answered
    from components.rankers.tasks import Task
    from features.declaration import Declaration
    from registry.serving.scores.calibration import Calibration, Stage


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Publish the model's files with `calibration.json`; the curves see the validation split only.

    An earlier calibration of the model is replaced: curves are always fitted on the graph's own answers.

    Raises:
        BadInputError: the data set does not belong to the model, the validation split is empty, or `value` does not fit
            the model's domains.
    """
    from dataclasses import replace

    import pyarrow.parquet as pq

    from components.judge.calibrate_ranker.measure import answered, cells_of, headline, own_curves
    from components.platform.store.records import MANIFEST
    from components.rankers.tasks import tasks_of
    from features.ground.files import lay
    from registry.serving.evidence.golden import GOLDEN, write_golden
    from registry.serving.model.served_model import ServedModel
    from registry.serving.scores.calibration import CALIBRATION, Calibration
    from registry.serving.scores.value import ValueTable

    folder, dataset = context.local(inputs.model), context.local(inputs.dataset)
    graph = replace(ServedModel.open(folder, config.provider), calibration=None)
    schema = graph.contract.schema_
    if read_schema(dataset).fields != schema.fields:
        raise BadInputError(
            f"stage {context.stage!r}: the training set was encoded with other fields than the model reads: wire the "
            "training set of the model's own run"
        )
    value = ValueTable(products=config.value, default=config.default_value, multiply=config.multiply).check(
        schema.domains
    )
    tasks = [task for task in tasks_of(schema.declaration) if task.name in graph.contract.tasks]
    stages: tuple[Stage, ...] = ()
    answers: list[Answered] = []
    if config.method != "none":
        validation = raw_file(dataset, "validation")
        if validation.num_rows == 0:
            raise BadInputError(f"stage {context.stage!r}: the validation split has no rows to calibrate on: widen it")
        context.progress(f"scoring {validation.num_rows} validation rows on {graph.provider}")
        answers.append(answered(graph, "validation", validation, context.progress))
        stages = _fitted(answers[0], schema.declaration, config, context, tasks)
    calibration = Calibration(
        ranker_digest=graph.contract.ranker_digest,
        dataset_digest=inputs.dataset.digest,
        method=config.method,
        stages=stages,
        value=value,
    )
    if stages:
        context.progress("measuring validation and test")
        test = raw_file(dataset, "test")
        if test.num_rows:
            answers.append(answered(graph, "test", test, context.progress))
        calibration = calibration.model_copy(update={"cells": cells_of(graph, calibration, answers, tasks)})

    draft = context.draft("onnx_model")
    for path in sorted(folder.iterdir()):
        if path.name not in (MANIFEST, CALIBRATION, GOLDEN):  # these are written anew
            lay(path, draft / path.name)
    (draft / CALIBRATION).write_text(calibration.model_dump_json(indent=2), encoding="utf-8")
    calibrated = ServedModel.open(draft, config.provider)  # what is published can be opened
    if (folder / GOLDEN).is_file():
        write_golden(calibrated, pq.read_table(folder / GOLDEN), draft)
    run_id = context.annotations_of(inputs.model).get(MLFLOW_RUN_ID)
    if run_id:
        context.annotate(MLFLOW_RUN_ID, run_id)
    for stage in stages:
        context.note(own_curves(stage, config.method, schema.domains))
    for task in tasks:
        for line in headline(calibration.cells, task.name):
            context.note(line)
    if value.products or value.default is not None:
        context.note(f"value of a conversion: {_worth(calibration)}")
    if value.multiply:
        context.note(f"the score is multiplied by {', '.join(one.column for one in value.multiply)}")
    return Outputs(onnx_model=OnnxModel(uri=str(draft)))


def _fitted(
    found: Answered, declaration: Declaration, config: Config, context: RunContext, tasks: list[Task]
) -> tuple[Stage, ...]:
    """Return the curves of every stage, fitted on the answers to the validation split."""
    import numpy as np

    from components.judge.calibrate_ranker.fit import fit_stage
    from components.judge.evaluate_ranker.rows import NO_DOMAIN
    from registry.serving.incoming import ELSEWHERE, domain_codes
    from registry.serving.scores.calibration import stages_of

    roles, rows, scores = found.roles, found.rows, found.scores
    domains = tuple(name for name in rows.domains(()) if name != NO_DOMAIN)
    codes = np.full(roles.num_rows, ELSEWHERE, dtype=np.int64)
    if declaration.domain is not None:
        codes = domain_codes(roles[declaration.domain], domains)
    by_name = {task.name: task for task in tasks}
    fitted = []
    for name in stages_of(declaration):
        if name not in by_name:
            raise BadInputError(
                f"stage {context.stage!r}: the model does not predict {name}, which its funnel needs: export it again"
            )
        task = by_name[name]
        space = rows.space(task)
        label = rows.labels[task.label][space]
        fitted.append(fit_stage(name, scores[name][space], label, codes[space], domains, config))
    return tuple(fitted)


def _worth(calibration: Calibration) -> str:
    parts = [f"{name} {worth:g}" for name, worth in sorted(calibration.value.products.items())]
    if calibration.value.default is not None:
        parts.append(f"any other {calibration.value.default:g}" if parts else f"{calibration.value.default:g}")
    return ", ".join(parts)
