"""How is the continue stage run? As training is, in the same child process, from the predecessor's rows and weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from components.data.table_vectors import ATTACHED
from components.platform.artifacts import Ranker, TrainingSet
from components.platform.contract import RunContext
from components.platform.errors import BadInputError
from components.train.continue_ranker.config import (
    CONTINUED,
    LAST_SEEN,
    Config,
    Continuation,
    Inputs,
    Outputs,
    TableGrowth,
)
from components.train.take_champion.config import RANKER, TAKEN, Taken
from components.train.train_ranker.component import best_of, fill, new_job, run_job
from components.train.train_ranker.config import Config as Training
from components.train.train_ranker.config import EpochReport
from components.train.train_ranker.job import OPTIMISER


def run(inputs: Inputs, config: Config, context: RunContext) -> Outputs:
    """Grow the vocabularies, train from where the predecessor is, and publish the best epoch with what it reads.

    With a predecessor epoch 0 is that ranker, judged on today's validation rows, and kept if nothing beats it.

    Raises:
        BadInputError: the predecessor has other features or another architecture, the ranker does not fit the data,
            there are too few CPUs or GPUs, or training diverged.
        RetryableError: a worker was lost, or MLflow cannot be written.
    """
    from components.train.continue_ranker.dataset import regrow
    from components.train.train_ranker.start import why_anew

    dataset, folder = context.local(inputs.dataset), context.local(inputs.before)
    taken = Taken.model_validate_json((folder / TAKEN).read_text(encoding="utf-8"))
    before, reason = _start(taken, folder / RANKER, dataset, config)
    training = Training.of(config.ranker, config)
    with new_job(context, dataset, training) as plain:
        plain.directory.mkdir(parents=True, exist_ok=True)
        grown = plain.directory / "training_set"
        tables = regrow(dataset, before, grown, config.forget_after_days)
        stale = why_anew(before, config) if before is not None and config.carry_optimiser else ""
        carries = config.carry_optimiser and not stale
        job = plain.model_copy(
            update={
                "dataset": grown,
                "continues": before,
                "carries_optimiser": carries,
                "keeps_optimiser": config.carry_optimiser,
            }
        )
        history = run_job(job, context, config)
        draft = context.draft("ranker")
        fill(draft, job, history)
        if config.carry_optimiser:
            shutil.copy(job.directory / OPTIMISER, draft / OPTIMISER)
        published = _handed_over(grown, draft, context.draft("training_set"))
    report = Continuation(
        ranker_digest=taken.ranker_digest if before else "", reason=reason, optimiser=stale, tables=tables
    )
    (draft / CONTINUED).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    _tell(context, config, report, history)
    return Outputs(ranker=Ranker(uri=str(draft)), training_set=TrainingSet(uri=str(published)))


def _start(taken: Taken, ranker: Path, dataset: Path, config: Config) -> tuple[Path | None, str]:
    """Return the folder of the ranker to continue, or None and why training starts from nothing.

    Raises:
        BadInputError: there should be a ranker to continue, and there is none of use.
    """
    from components.data.training_set import read_schema
    from components.train.continue_ranker.likeness import Described, unlike
    from features.encoding.files import read_encoder

    if taken.ranker_digest:
        today = Described(config.ranker, read_schema(dataset), read_encoder(dataset))
        reason = unlike(Described.read(ranker), today) or ""
        if not reason:
            return ranker, ""
        reason = f"the champion cannot be continued: {reason}"
    else:
        reason = taken.reason
        if taken.as_expected:
            return None, reason
    if config.otherwise == "refuse":
        raise BadInputError(
            f"{reason}; set otherwise: fresh to start from nothing, or restore what it was trained with"
        )
    return None, reason


def _handed_over(grown: Path, ranker: Path, dataset: Path) -> Path:
    """Move the files of the grown training set to where they are published from, and return that folder.

    Its encoded rows stay behind: they follow from raw rows that lie in the store already and from this encoder.
    """
    from features.encoding.files import FILES
    from features.services.served import FEATURES

    # A stage that dies in between finds no training set the next time, and makes it again, instead of a part of one.
    leaving = grown.with_name(f"{grown.name}-leaving")
    shutil.rmtree(leaving, ignore_errors=True)
    grown.rename(leaving)
    shutil.move(leaving / LAST_SEEN, ranker / LAST_SEEN)
    for name in ("raw", "report.json", "schema.json", FEATURES, ATTACHED, *FILES):
        # Of another package it may lack the first, and the second is there where values have vectors.
        if name not in (FEATURES, ATTACHED) or (leaving / name).exists():
            shutil.move(leaving / name, dataset / name)
    return dataset


def _tell(context: RunContext, config: Config, report: Continuation, history: list[EpochReport]) -> None:
    best = best_of(history)
    if report.reason:
        context.note(f"{config.ranker.name} starts from nothing: {report.reason}")
    else:
        kept = "the champion is kept" if best.epoch == 0 else f"epoch {best.epoch} of {len(history) - 1} kept"
        context.note(f"{config.ranker.name} continues {report.ranker_digest[:12]}: {kept}")
        for task in sorted({metric.split("/")[1] for metric in history[0].metrics if metric.startswith("validation/")}):
            name = f"validation/{task}/log_loss"
            if name in history[0].metrics and name in best.metrics:
                context.note(f"validation {task}: log-loss {history[0].metrics[name]:.4f} → {best.metrics[name]:.4f}")
    if report.optimiser:
        context.note(f"the optimiser starts anew: {report.optimiser}")
    for line in _growth(report):
        context.note(line)


def _growth(report: Continuation) -> Iterator[str]:
    """Yield what became of the tables' rows: in all, and of those tables of a continued ranker that changed."""
    yield f"rows of tables: {_counts(*report.tables)}"
    for table in report.tables:
        if report.ranker_digest and (table.new or table.expired or table.not_admitted):
            yield f"{table.table}: {_counts(table)}"


def _counts(*tables: TableGrowth) -> str:
    carried, new, expired, rare = (
        sum(getattr(table, count) for table in tables) for count in ("carried", "new", "expired", "not_admitted")
    )
    return f"{carried:,} carried on, {new:,} new, {expired:,} expired, {rare:,} values not admitted"
