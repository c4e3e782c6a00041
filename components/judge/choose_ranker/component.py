"""How does `choose_ranker` run? Every candidate scores the validation split; the files of the best are published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.data.training_set import raw_file, read_schema
from components.judge.choose_ranker.config import Config, Inputs, Outputs
from components.platform.artifacts import OnnxModel, RankerChoice
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError

if TYPE_CHECKING:
    from features.declaration import RankerSchema


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Judge the candidates by what the training set says to `judge_by` and publish the best; test is not read.

    Raises:
        BadInputError: the validation split is empty or too small, or a candidate was trained on another training set.
        MissingError: the requested provider did not load.
    """
    from components.judge.choose_ranker.choice import FILE, Answers, Rows, choose, told
    from components.judge.choose_ranker.page import write_page
    from components.judge.evaluate_ranker.rows import judged, role_columns
    from components.platform.store.records import MANIFEST
    from features.ground.files import lay
    from registry.serving.answers.by_block import said
    from registry.serving.model.served_model import ServedModel

    dataset = context.local(inputs.dataset)
    schema = read_schema(dataset)
    declaration = schema.declaration
    file = raw_file(dataset, "validation")
    if file.num_rows == 0:
        raise BadInputError(f"stage {context.stage!r}: the validation split has no rows to choose by: widen it")
    rows = judged(file.read(role_columns(file.column_names, declaration)), declaration)
    answers = {}
    for stage, artifact in sorted(inputs.models.items()):
        model = ServedModel.open(context.local(artifact), config.provider)
        _refuse_stranger(context.stage, stage, model.contract.schema_, schema)
        context.progress(f"{stage}: scoring {file.num_rows} validation rows on {model.provider}")
        scores = said(model, file, report=context.progress).base
        own = {name: scores[name] for name in declaration.feedback}
        answers[stage] = Answers(model.contract.ranker, artifact.digest, own)
    judged_rows = Rows({name: rows.labels[name] for name in declaration.feedback}, rows.user, rows.request)
    found = choose(answers, judged_rows, declaration.judge_by, config, inputs.dataset.digest)

    chosen = inputs.models[found.chosen.stage]
    draft, page = context.draft("onnx_model"), context.draft("choice")
    for path in sorted(context.local(chosen).iterdir()):
        if path.name != MANIFEST:
            lay(path, draft / path.name)
    (page / FILE).write_text(found.model_dump_json(indent=2), encoding="utf-8")
    write_page(page, found)
    if run_id := context.annotations_of(chosen).get(MLFLOW_RUN_ID):
        context.annotate(MLFLOW_RUN_ID, run_id)
    for line in told(found):
        context.note(line)
    return Outputs(onnx_model=OnnxModel(uri=str(draft)), choice=RankerChoice(uri=str(page)))


def _refuse_stranger(stage: str, name: str, theirs: RankerSchema, ours: RankerSchema) -> None:
    """Refuse a candidate that was trained on other rows: it may have seen those that judge.

    Raises:
        BadInputError: it was.
    """
    parts = ("fields", "declaration", "rows", "trained_from", "trained_until")
    if any(getattr(theirs, part) != getattr(ours, part) for part in parts):
        raise BadInputError(
            f"stage {stage!r}: {name} was trained on another training set and may have seen the rows that judge: wire "
            "candidates of one training set, and that set"
        )
