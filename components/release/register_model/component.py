"""How does an exported model become a version in the registry? Graph, report and card in one folder, one version."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.pages.links import Links
from components.platform.artifacts import EvaluationReport, ModelVersion
from components.platform.contract import MLFLOW_RUN_ID, RunContext
from components.platform.errors import BadInputError, MissingError, ParityError
from components.platform.store.records import MANIFEST
from components.release.register_model.config import Config, Inputs, Outputs
from features.ground.files import lay
from registry.evaluation import Evaluation
from registry.gate.window import WINDOW_END
from registry.serving.evidence.baseline import BASELINE
from registry.serving.model.contract import ModelContract
from registry.serving.scores.calibration import read_calibration
from registry.versions.card import Lineage, model_card
from registry.versions.client import CHALLENGER, Registry
from registry.versions.database import shown
from registry.versions.seal import check_parity

REPORT_FILES = ("report.json", EvaluationReport.page.file, BASELINE)
"""What of a report a version carries, if the report has it."""
_TAG_LIMIT = 250
"""Characters of a tag's value that every MLflow store takes."""


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Register the model with its report and card, and point the alias `challenger` at it.

    The same model is not registered twice: its version is found by digest and returned.

    Raises:
        ParityError: the graph does not answer as the trained ranker does.
        BadInputError: the report is about another model, or a file may not be registered.
        RetryableError: MLflow cannot be written; no version was made.
    """
    model, report = context.local(inputs.model), context.local(inputs.report)
    try:
        parity = check_parity(model, f"the model for {config.model}")
    except BadInputError as error:
        raise ParityError(str(error)) from error
    evaluation = Evaluation.model_validate_json((report / "report.json").read_bytes())
    if evaluation.model_digest != inputs.model.digest:
        raise BadInputError(
            f"the report at {inputs.report.uri} is about model {evaluation.model_digest[:12]}, not "
            f"{inputs.model.digest[:12]}: wire register_model to the report of the same model"
        )
    contract = ModelContract.model_validate_json((model / "contract.json").read_bytes())
    run_id = _training_run(inputs, context)
    lineage = Lineage(
        model=config.model,
        pipeline=context.pipeline,
        run_id=context.run_id,
        mlflow_run_id=run_id,
        model_digest=inputs.model.digest,
        report_digest=inputs.report.digest,
    )
    calibration = read_calibration(model, contract.ranker_digest, contract.schema_.declaration)
    card = model_card(contract, evaluation, parity, lineage, calibration)
    settings = context.settings
    page = Links(settings.page.rstrip("/")).run(context.pipeline, context.run_id) if settings.page else ""
    registry = Registry(settings.tracking_uri, settings.mlflow_artifacts)
    before = _versions(registry, config.model)
    context.progress(f"registering {config.model} in MLflow at {shown(settings.tracking_uri)}")
    version = registry.register(
        _folder(model, report, card, context.scratch / "version"),
        config.model,
        digest=inputs.model.digest,
        ranker_digest=contract.ranker_digest,
        report_digest=inputs.report.digest,
        tags=_tags(contract, evaluation, lineage, page) | {WINDOW_END: context.window.end.isoformat()},
        description=f"[Report of its run]({page})\n\n{card}" if page else card,
        run_id=run_id or None,
    )
    registry.set_alias(config.model, CHALLENGER, version.version)
    if run_id:
        context.annotate(MLFLOW_RUN_ID, run_id)
    draft = context.draft("model_version")
    (draft / "version.json").write_text(version.model_dump_json(indent=2), encoding="utf-8")
    (draft / "card.md").write_text(card, encoding="utf-8")
    known = version.version in before
    context.note(f"{config.model} v{version.version} is challenger{' (registered before)' if known else ''}")
    return Outputs(model_version=ModelVersion(uri=str(draft)))


def _training_run(inputs: Inputs, context: RunContext) -> str:
    """Return the MLflow run of the training, handed down with the artifacts; empty when there was none."""
    for artifact in (inputs.model, inputs.report):
        found = context.annotations_of(artifact).get(MLFLOW_RUN_ID)
        if found:
            return found
    return ""


def _versions(registry: Registry, model: str) -> set[int]:
    try:
        return {listed.version.version for listed in registry.versions(model)}
    except MissingError:  # the first version makes the model, and perhaps the database
        return set()


def _folder(model: Path, report: Path, card: str, to: Path) -> Path:
    """Lay out what one version holds: the model's files, the report and the card."""
    shutil.copytree(model, to, ignore=shutil.ignore_patterns(MANIFEST), copy_function=lay)
    for name in REPORT_FILES:
        if (report / name).is_file():
            shutil.copy2(report / name, to / name)
    (to / "card.md").write_text(card, encoding="utf-8")
    return to


def _tags(contract: ModelContract, evaluation: Evaluation, lineage: Lineage, page: str) -> dict[str, str]:
    """Return what MLflow's page and `rankmill models` show about a version; `page` is the report of its run."""
    tags = {
        "rankmill.ranker": contract.ranker,
        "rankmill.dataset_digest": evaluation.dataset_digest,
        "rankmill.pipeline": lineage.pipeline,
        "rankmill.run_id": lineage.run_id,
    }
    for task in evaluation.tasks:
        interval = evaluation.cell(task).metrics.get("auc")
        if interval is not None and interval.value is not None:
            tags[f"rankmill.{evaluation.split}.{task}.auc"] = f"{interval.value:.4f}"
    if page and len(page) <= _TAG_LIMIT:  # half an address leads nowhere
        tags["rankmill.report"] = page
    return {name: value[:_TAG_LIMIT] for name, value in tags.items()}
