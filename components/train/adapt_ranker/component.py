"""How is the adapt stage run? As training is, in the same child process, from given weights on the rows of a domain."""

from __future__ import annotations

import shutil
from pathlib import Path

from components.data.training_set import read_schema
from components.platform.artifacts import Ranker
from components.platform.contract import RunContext
from components.platform.errors import BadInputError, did_you_mean
from components.train.adapt_ranker.config import ADAPTED, Config, Inputs, Outputs
from components.train.train_ranker.component import best_of, fill, new_job, run_job
from components.train.train_ranker.config import Config as Training
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.job import Adaptation, read_size
from features.declaration import RankerSchema


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Adapt, follow the epochs, and publish the best one; the base itself is epoch 0, and kept if nothing beats it.

    Raises:
        BadInputError: the data has no such domain, ranker and data have different encoders, the ranker has nothing
            to adapt, there are too few CPUs or GPUs, or training diverged.
        RetryableError: a worker was lost, or MLflow cannot be written.
    """
    from components.rankers.config import RankerConfig
    from components.train.ranker_files import CONFIG

    dataset, base = context.local(inputs.dataset), context.local(inputs.ranker)
    schema = read_schema(dataset)
    _check(config.domain, schema, dataset, base)
    ranker = RankerConfig.model_validate_json((base / CONFIG).read_text(encoding="utf-8"))
    training = Training.of(ranker, config)
    adaptation = Adaptation(ranker=base, domain=config.domain, method=config.method, lora=config.lora)
    with new_job(context, dataset, training, adaptation) as job:
        history = run_job(job, context, config)
        draft = context.draft("ranker")
        fill(draft, job, history)
        if config.method == "lora":
            from components.rankers.lora.adapter import ADAPTER, HEADER

            for name in (ADAPTER, HEADER):
                shutil.copy(job.directory / name, draft / name)
        trained = sum(read_size(job.directory).values())
    (draft / "schema.json").write_text(_known_until(schema, read_schema(base)).model_dump_json(indent=2), "utf-8")
    context.annotate(ADAPTED, str(trained))
    _tell(context, config, ranker.name, history, trained)
    return Outputs(ranker=Ranker(uri=str(draft)))


def _check(domain: str, schema: RankerSchema, dataset: Path, base: Path) -> None:
    """Refuse rows that the ranker cannot read, before anything starts."""
    from features.encoding.files import read_encoder

    if schema.declaration.domain is None:
        raise BadInputError("the training set declares no domain to adapt to: name its column in build_training_set")
    if domain not in schema.domains:
        raise BadInputError(
            f"domain {domain!r} is none of the training set's{did_you_mean(domain, schema.domains)}: correct it, or "
            "widen the window"
        )
    known = read_schema(base)
    alike = read_encoder(base) == read_encoder(dataset)
    if not alike or (known.fields, known.declaration) != (schema.fields, schema.declaration):
        raise BadInputError(
            "the ranker was trained on a training set with another encoder or other roles, where the same index means "
            "another value: adapt it on that training set, or train it on this one first"
        )


def _known_until(schema: RankerSchema, base: RankerSchema) -> RankerSchema:
    """Return the schema with the time before which lies every row that base or adaptation learned from."""
    times = [time for time in (schema.trained_until, base.trained_until) if time is not None]
    return schema.model_copy(update={"trained_until": max(times, default=None)})


def _tell(context: RunContext, config: Config, name: str, history: list[EpochReport], trained: int) -> None:
    best, zero_shot = best_of(history), history[0]
    kept = "the base is kept" if best.epoch == 0 else f"epoch {best.epoch} of {len(history) - 1} kept"
    context.note(f"{name}, {config.method} for {config.domain}: {kept}, {trained:,} numbers trained")
    for task in sorted({metric.split("/")[1] for metric in zero_shot.metrics}):
        parts = [
            f"{title} {before:.4f} → {after:.4f}"
            for metric, title in (("auc", "AUC"), ("log_loss", "log-loss"))
            if (before := zero_shot.metrics.get(f"validation/{task}/{metric}")) is not None
            and (after := best.metrics.get(f"validation/{task}/{metric}")) is not None
        ]
        context.note(f"validation {task}, zero-shot → adapted: {', '.join(parts)}")
