"""From which weights, and on which rows, does training start? From none or a ranker's, on all rows or on a domain's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from components.data.training_set import EncodedSplit
from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.lora.adapter import attach
from components.rankers.lora.config import AdapterHeader
from components.train.ranker_files import load_ranker
from components.train.train_ranker.batches import open_split
from components.train.train_ranker.carry import carried_optimiser, carry_on
from components.train.train_ranker.job import Adaptation, TrainingJob
from features.declaration import RankerSchema
from features.encode import Encoder


@dataclass(frozen=True)
class Start:
    """What the loop trains, and on what.

    Attributes:
        ranker: the module, on the CPU.
        training: rows it learns from.
        validation: rows that choose the epoch.
        base: the ranker before it learns anything here, judged as epoch 0; None when there is none.
        keeps_base: whether epoch 0 may be the best: the ranker that trains is then `base`.
        adapter: what is written beside the weights when an adapter trains.
        optimiser: values that the optimiser starts with; None starts without any.
        ids: fields whose values have a row of their own, so that others are unknown; read where some are shown so.
    """

    ranker: RankerModule
    training: EncodedSplit
    validation: EncodedSplit
    base: RankerModule | None = None
    keeps_base: bool = False
    adapter: AdapterHeader | None = None
    optimiser: dict[str, Tensor] | None = None
    ids: tuple[str, ...] = ()


def start_of(job: TrainingJob, schema: RankerSchema) -> Start:
    """Return where a job starts; fresh weights come from torch's seed, set to the job's.

    Raises:
        BadInputError: there is no row to train on, or the ranker cannot be built or adapted.
    """
    training, validation = (open_split(job.dataset, split, schema) for split in ("train", "validation"))
    ids = _ids(_encoder(job)) if job.config.shown_unknown else ()
    if job.adaptation is not None:
        return replace(_adapted(job, job.adaptation, schema, training, validation), ids=ids)
    if training.rows == 0:
        raise BadInputError("the training split has no rows: widen the window or change the split")
    torch.manual_seed(job.config.seed)
    ranker = build_ranker(job.config.ranker, schema)
    if job.continues is None:
        return Start(ranker, training, validation, ids=ids)
    return replace(_continued(job, job.continues, ranker, training, validation), ids=ids)


def _encoder(job: TrainingJob) -> Encoder:
    return Encoder.model_validate_json((job.dataset / "encoder.json").read_text(encoding="utf-8"))


def _ids(encoder: Encoder) -> tuple[str, ...]:
    return tuple(field.name for field in encoder.fitted if field.table in encoder.vocabularies)


def _continued(
    job: TrainingJob, before: Path, ranker: RankerModule, training: EncodedSplit, validation: EncodedSplit
) -> Start:
    sources = carry_on(ranker, _encoder(job), before)
    known = carried_optimiser(ranker, sources, before, job.config) if job.carries_optimiser else None
    return Start(ranker, training, validation, ranker, keeps_base=True, optimiser=known)


def _adapted(
    job: TrainingJob, adaptation: Adaptation, schema: RankerSchema, training: EncodedSplit, validation: EncodedSplit
) -> Start:
    training, validation = (of_domain(rows, schema, adaptation.domain) for rows in (training, validation))
    if training.rows == 0:
        raise BadInputError(
            f"domain {adaptation.domain!r} has no row in the training split: choose another domain, or widen the window"
        )
    base = load_ranker(adaptation.ranker)
    torch.manual_seed(job.config.seed)
    if adaptation.method == "scratch":
        rates = {name: float(labels.mean()) for name, labels in training.labels.items()}
        alone = schema.model_copy(update={"base_rates": rates, "rows": training.rows})
        return Start(build_ranker(job.config.ranker, alone), training, validation, base)
    header = None
    if adaptation.method == "lora":
        header = attach(base, adaptation.lora, schema, adaptation.domain)
    return Start(base, training, validation, base, keeps_base=True, adapter=header)


def of_domain(rows: EncodedSplit, schema: RankerSchema, domain: str) -> EncodedSplit:
    """Return a copy of the rows of one domain.

    Args:
        rows: a split.
        schema: knows the domain's code.
        domain: one of `schema.domains`.
    """
    at = np.flatnonzero(rows.domain == schema.domains.index(domain))
    return EncodedSplit(
        features={name: values[at] for name, values in rows.features.items()},
        labels={name: values[at] for name, values in rows.labels.items()},
        domain=rows.domain[at],
        user=rows.user[at],
    )
