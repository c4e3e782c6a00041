"""What should a person know before trusting a version? The model card, as Markdown."""

from __future__ import annotations

from features.declaration import FieldSpec, Frozen, RankerSchema
from features.ground.markdown import code, table, text
from registry.evaluation import ALL, Evaluation, Interval, Metric, metric_name
from registry.serving.model.contract import ModelContract, ParityReport
from registry.serving.scores.calibration import Calibration

_SHOWN: tuple[Metric, ...] = ("auc", "gauc", "log_loss", "ece", "pcoc", "mrr", "ndcg")
"""Metrics of the table; those of requests where the report has them."""
_SMALL = 200
"""Cells with fewer rows of the rarer class than this are named under the limits."""


class Lineage(Frozen):
    """Where a version comes from."""

    model: str
    """Registered model."""
    pipeline: str
    """Pipeline that made it."""
    run_id: str
    """Id of the pipeline run."""
    mlflow_run_id: str
    """MLflow run of the training, empty when unknown."""
    model_digest: str
    """Digest of the `OnnxModel`."""
    report_digest: str
    """Digest of the `EvaluationReport`."""


def model_card(
    contract: ModelContract,
    evaluation: Evaluation,
    parity: ParityReport,
    lineage: Lineage,
    calibration: Calibration | None = None,
) -> str:
    """Return the card of one version."""
    schema = contract.schema_
    sections = [
        f"# {text(lineage.model)}",
        f"Ranker {code(contract.ranker)}, {len(contract.tasks)} tasks, {len(contract.fields)} inputs, "
        f"{len(schema.domains) or 'no'} domains. Probabilities per impression; `deep_given_shallow` tasks are "
        "conditional on the shallower feedback, all others hold for every impression.",
        "## Data",
        _data(schema, evaluation),
        "## Inputs",
        _inputs(contract.fields),
        f"## Quality on the {evaluation.split} split",
        f"{evaluation.rows:,} rows, scored through the ONNX file; {evaluation.confidence:.0%} intervals from "
        f"{evaluation.resamples} resamples of users.",
        _quality(evaluation),
        _calibrated(calibration),
        "## Parity",
        _parity(parity, contract),
        "## Limits",
        _limits(contract, evaluation),
        "## Lineage",
        _lineage(contract, evaluation, lineage),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _calibrated(calibration: Calibration | None) -> str:
    """Return what stands between the graph's answers and the probabilities above."""
    if calibration is None or not calibration.stages:
        return "Probabilities are the graph's own answers, uncalibrated."
    own = ", ".join(map(text, calibration.domains)) or "none"
    return (
        f"Probabilities go through `{calibration.method}` curves fitted on the validation split, one per stage; "
        f"domains with curves of their own: {own}."
    )


def _data(schema: RankerSchema, evaluation: Evaluation) -> str:
    roles = schema.declaration
    trained = f"{schema.trained_from:%Y-%m-%d %H:%M} to {schema.trained_until:%Y-%m-%d %H:%M} UTC" if (
        schema.trained_from and schema.trained_until
    ) else "unknown"  # fmt: skip
    tested = f"{evaluation.window_start:%Y-%m-%d %H:%M} to {evaluation.window_end:%Y-%m-%d %H:%M} UTC" if (
        evaluation.window_start and evaluation.window_end
    ) else "unknown"  # fmt: skip
    funnel = " → ".join(map(text, roles.feedback)) + (" (funnel)" if roles.funnel else "")
    rates = ", ".join(f"{text(name)} {rate:.4f}" for name, rate in schema.base_rates.items())
    return "\n".join(
        [
            f"* Training rows: {schema.rows:,}, {trained} (end exclusive).",
            f"* Test rows: {evaluation.rows:,}, {tested}.",
            *([f"* Features: {text(evaluation.freshness)}."] if evaluation.freshness else []),
            f"* Feedback: {funnel}; base rates {rates}.",
            f"* Domain: {code(roles.domain)} ({', '.join(map(text, schema.domains))})."
            if roles.domain
            else "* Domain: none.",
        ]
    )


def _inputs(fields: tuple[FieldSpec, ...]) -> str:
    def shape(field: FieldSpec) -> str:
        if field.kind == "sequence":
            return f"{'bag' if field.pooled else 'history'}, at most {field.length}"
        return f"{field.kind}, {field.length}" if field.wide else field.kind

    rows = [
        [code(f.name), shape(f), f"{f.size:,}" if f.size else "–", code(f.table) if f.table else "–"] for f in fields
    ]
    return table(["input", "kind", "embedding rows", "table"], rows)


def _quality(evaluation: Evaluation) -> str:
    shown = [metric for metric in _SHOWN if any(metric in cell.metrics for cell in evaluation.cells)]
    rows = [
        [
            code(cell.task),
            "all rows" if cell.domain == ALL else text(cell.domain),
            f"{cell.rows:,}",
            f"{cell.positives:,}",
            *(_interval(cell.metrics.get(metric)) for metric in shown),
        ]
        for cell in evaluation.cells
    ]
    titles = (metric_name(metric, evaluation.top).replace("_", "-") for metric in shown)
    return table(["task", "domain", "rows", "positives", *titles], rows)


def _interval(interval: Interval | None) -> str:
    if interval is None or interval.value is None:
        return "–"
    bounds = f" [{interval.low:.4f}, {interval.high:.4f}]" if None not in (interval.low, interval.high) else ""
    return f"{interval.value:.4f}{bounds}"


def _parity(parity: ParityReport, contract: ModelContract) -> str:
    worst = max(parity.cases, key=lambda case: case.max_abs_difference, default=None)
    largest = f"largest difference {worst.max_abs_difference:.1e} ({code(worst.output)})" if worst else "no case"
    computes = "" if parity.precision == "float32" else f" in {parity.precision}"
    return (
        f"{'Passed' if parity.passed else 'Failed'}: torch against onnxruntime on {parity.provider}{computes}, "
        f"{len(parity.cases)} comparisons, {largest}, tolerance {parity.tolerance:.1e}, opset {contract.opset}."
    )


def _limits(contract: ModelContract, evaluation: Evaluation) -> str:
    thin = [
        f"{code(cell.task)} in {text(cell.domain)}"
        for cell in evaluation.cells
        if cell.domain != ALL and min(cell.positives, cell.rows - cell.positives) < _SMALL
    ]
    schema = contract.schema_
    lines = [
        "* Users, items and domains that the training rows never held share one `unknown` embedding.",
        "* Offline figures on logged impressions: what was never shown is not judged.",
    ]
    if schema.trained_until:
        lines.append(
            f"* Nothing after {schema.trained_until:%Y-%m-%d %H:%M} UTC was seen; quality fades as behaviour drifts."
        )
    if thin:
        lines.append(f"* Fewer than {_SMALL} rows of the rarer class, so figures are loose: {', '.join(thin)}.")
    return "\n".join(lines)


def _lineage(contract: ModelContract, evaluation: Evaluation, lineage: Lineage) -> str:
    rows = [
        ["pipeline", f"{code(lineage.pipeline)}, run {code(lineage.run_id)}"],
        ["MLflow run", code(lineage.mlflow_run_id) if lineage.mlflow_run_id else "–"],
        ["ONNX model", code(lineage.model_digest)],
        ["ranker", code(contract.ranker_digest)],
        ["training set", code(evaluation.dataset_digest)],
        ["report", code(lineage.report_digest)],
    ]
    return table(["what", "digest or id"], rows)
