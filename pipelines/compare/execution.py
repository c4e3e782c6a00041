"""How does one run of a comparison happen? The product's own stages, one after the other, from the cache or anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from components.data.build_training_set.config import Split, SplitReport
from components.data.training_set import SPLITS, read_schema
from components.judge.fit_lightgbm.config import FIT_SECONDS, LEAVES, VALIDATION
from components.platform.contract import ComponentSpec
from components.platform.execute import StageRequest, StageResult, execute
from components.platform.settings import Settings
from components.platform.store.publish import open_store
from components.platform.store.records import ArtifactRef
from components.rankers.tasks import tasks_of
from components.train.train_ranker.config import EPOCH_SECONDS, PARAMETERS, EpochReport
from features.declaration import JudgeBy, Window
from pipelines.compare.load import Comparison
from pipelines.compare.record import Data, Measured
from pipelines.compare.spec import TRAIN, Candidate
from pipelines.language.params import check_params, resolve_config, resolve_window
from pipelines.run.task import Attempt, request_of
from registry.evaluation import ALL, Evaluation, Metric, goodness

METRICS: tuple[Metric, ...] = ("auc", "gauc", "log_loss", "pcoc", "mrr", "ndcg", "request_auc")
"""What is kept of a report, where it has it."""
JUDGED = {"bootstrap": 0}
"""Intervals come from seeds, so the bootstrap of users is left out."""


@dataclass(frozen=True)
class Trained:
    """A trained ranker, or a judged baseline, on one training set."""

    result: StageResult
    validation: dict[str, float]
    """What rankers are judged by, by task."""
    judge_by: JudgeBy
    """The metric that is."""
    mean: float | None
    """Its mean over the feedback; None where it is undefined."""

    @property
    def score(self) -> float:
        """What the best line of a grid has most of."""
        return float("-inf") if self.mean is None else goodness(self.judge_by, self.mean)


@dataclass(frozen=True)
class Bench:
    """Everything that the runs of one comparison share."""

    comparison: Comparison
    settings: Settings
    moment: datetime
    """The time the pipeline's window is for."""
    run_id: str
    at: datetime | None = None
    """That time where somebody asked for it."""

    def params(self, seed: int) -> dict[str, Any]:
        """Return the pipeline's params for a seed."""
        spec = self.comparison.spec
        given = dict(spec.params) | ({spec.seed_param: seed} if spec.seed_param else {})
        return check_params(self.comparison.plan.spec, given)

    def window(self, seed: int) -> Window:
        """Return the window of events that the pipeline reads."""
        return resolve_window(self.comparison.plan.spec, self.params(seed), self.moment)

    def dataset(self, seed: int) -> ArtifactRef:
        """Run the pipeline's stages up to the training set, as the pipeline itself runs them, and return it."""
        done: dict[str, StageResult] = {}
        for stage in self.comparison.stages:
            attempt = Attempt(
                plan=self.comparison.plan, stage=stage, run_id=self.run_id, conf=self.params(seed), moment=self.moment,
                upstream=done,
            )  # fmt: skip
            done[stage.name] = execute(request_of(attempt), self.settings)
        return done[self.comparison.spec.dataset].outputs[self.comparison.output]

    def folder(self, ref: ArtifactRef) -> Path:
        """Return the local folder of an artifact."""
        return open_store(self.settings).fetch(ref.load())

    def stage(
        self, component: str, label: str, seed: int, config: Mapping[str, Any], inputs: dict[str, ArtifactRef]
    ) -> StageResult:
        """Run one stage of a run."""
        request = StageRequest(
            component=component, config=dict(config), inputs=inputs, window=self.window(seed),
            pipeline=f"compare_{self.comparison.spec.name}", stage=f"{label}_{seed}_{component}", run_id=self.run_id,
        )  # fmt: skip
        return execute(request, self.settings)

    @property
    def judged(self) -> dict[str, Any]:
        """How a run is judged."""
        return JUDGED | ({"weighted": True} if self.comparison.spec.weighted else {})

    def train(
        self, component: ComponentSpec, label: str, candidate: Candidate, seed: int, dataset: ArtifactRef
    ) -> Trained:
        """Train one candidate; a baseline is judged with it."""
        config = candidate.config | {"seed": seed}
        if component.name != TRAIN:
            config = self.judged | config
        result = self.stage(component.name, label, seed, config, {"dataset": dataset})
        declaration = read_schema(self.folder(dataset)).declaration
        if component.name == TRAIN:
            metrics = self.kept_epoch(result)[0].metrics
        else:
            metrics = {name: float(value) for name, value in self.annotations(result, "report").items() if "/" in name}
        names = [task.name for task in tasks_of(declaration)]
        by = declaration.judge_by
        keys = {name: VALIDATION.format(task=name, metric=by) for name in names}
        validation = {name: metrics[key] for name, key in keys.items() if key in metrics}
        values = [validation[name] for name in declaration.feedback if name in validation]
        return Trained(result, validation, by, sum(values) / len(values) if values else None)

    def measure(self, label: str, trained: Trained, seed: int, dataset: ArtifactRef) -> Measured:
        """Export and evaluate what was trained, and return the run's figures."""
        result = trained.result
        if result.component != TRAIN:
            facts = self.annotations(result, "report")
            return Measured(
                seed=seed,
                key=result.key,
                test=self.figures(result),
                validation=trained.validation,
                fit_seconds=float(facts[FIT_SECONDS]),
                leaves=int(facts[LEAVES]),
            )
        ranker = result.outputs["ranker"]
        exported = self.stage("export_onnx", label, seed, {}, {"ranker": ranker, "dataset": dataset})
        inputs = {"model": exported.outputs["onnx_model"], "dataset": dataset}
        evaluated = self.stage("evaluate_ranker", label, seed, self.judged, inputs)
        kept, epochs = self.kept_epoch(result)
        facts = self.annotations(result, "ranker")
        return Measured(
            seed=seed,
            key=result.key,
            test=self.figures(evaluated),
            validation=trained.validation,
            epoch=kept.epoch,
            epochs=epochs,
            epoch_seconds=float(facts[EPOCH_SECONDS]),
            embedding=int(facts[f"embedding_{PARAMETERS}"]),
            dense=int(facts[f"dense_{PARAMETERS}"]),
        )

    def kept_epoch(self, result: StageResult) -> tuple[EpochReport, int]:
        """Return the epoch that training kept, and how many there were."""
        text = (self.folder(result.outputs["ranker"]) / "history.json").read_text(encoding="utf-8")
        history = [EpochReport.model_validate(report) for report in json.loads(text)]
        return next(report for report in reversed(history) if report.best), len(history)

    def annotations(self, result: StageResult, output: str) -> dict[str, str]:
        """Return the facts that a stage attached to an output."""
        return open_store(self.settings).manifest(result.outputs[output].load()).annotations

    def figures(self, result: StageResult) -> dict[str, dict[str, float | None]]:
        """Return a report's metrics over all rows, by task."""
        text = (self.folder(result.outputs["report"]) / "report.json").read_text(encoding="utf-8")
        report = Evaluation.model_validate_json(text)
        cells = {task: report.cell(task, ALL) for task in report.tasks}
        return {
            task: {metric: cell.metrics[metric].value for metric in METRICS if metric in cell.metrics}
            for task, cell in cells.items()
        }

    def data(self, seed: int, dataset: ArtifactRef) -> Data:
        """Return what a training set holds."""
        folder = self.folder(dataset)
        schema = read_schema(folder)
        report = SplitReport.model_validate_json((folder / "report.json").read_text(encoding="utf-8"))
        parts = {name: getattr(report, name) for name in SPLITS}
        return Data(
            feedback=schema.declaration.feedback,
            tasks=tuple(task.name for task in tasks_of(schema.declaration)),
            split=split_in_words(self.comparison, self.params(seed)),
            rows={name: part.rows for name, part in parts.items()},
            rates={name: dict(part.rates) for name, part in parts.items()},
            unseen_users=report.test.unseen_users,
            fields=len(schema.fields),
            judge_by=schema.declaration.judge_by,
            weighted=self.comparison.spec.weighted,
            at=self.at,
        )


def split_in_words(comparison: Comparison, params: Mapping[str, Any]) -> str:
    """Return how the data set's stage divides rows."""
    stage = comparison.stages[-1]
    if stage.component.name != "build_training_set":
        return f"as {stage.component.name} divides them"
    split = Split.model_validate(resolve_config(stage, params).get("split", {}))
    if split.validation_from is not None and split.test_from is not None:
        moments = {"validation": split.validation_from, "test": split.test_from}
        starts = (f"{name} from {at:%Y-%m-%d %H:%M} UTC" for name, at in moments.items())
        return f"by time: {', '.join(starts)}"
    shares = ":".join(f"{10 * share:g}" for share in (split.train, split.validation, split.test))
    if split.by == "time":
        return f"by time, {shares}"
    seed = "one split per seed" if comparison.spec.seed_param else f"seed {split.seed}"
    return f"random, {shares}, {seed}"
