"""From which weights, and on which rows, does training start? From none or a ranker's, on all rows or on a domain's.

Where a ranker goes on with another vocabulary, its rows go by value, all else as it is. Row numbers follow the
vocabulary, so a value may have another number today; its vector and what the optimiser knows of it move with the value.
Rows 0 and 1 (padding, unknown), hashed and binned values keep their numbers. A new value has the weights it was drawn
with, and the optimiser knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.data.training_set import EncodedSplit
from components.platform.errors import BadInputError, StorageError
from components.rankers.base import RankerModule
from components.rankers.build import build_ranker
from components.rankers.embedding.frozen import FrozenEmbedding
from components.rankers.embedding.shards import WHOLE, Shard, sharded
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.lora.adapter import attach
from components.rankers.lora.config import AdapterHeader
from components.train.frozen_vectors import buffers_of, give_vectors
from components.train.ranker_files import load_ranker
from components.train.train_ranker.config import Knobs
from components.train.train_ranker.feed import open_split
from components.train.train_ranker.job import OPTIMISER, Adaptation, TrainingJob
from features.declaration import FIRST, RankerSchema
from features.encoding.encoder import Encoder
from features.encoding.files import read_encoder
from features.encoding.vocabularies import ABSENT

FRESH = -1
"""Stands for a row that had none before."""
_TABLES = "tables"
_WEIGHT = "embedding.weight"
_PLACES = "place.weight"


@dataclass(frozen=True)
class Start:
    """What the loop trains, and on what."""

    ranker: RankerModule
    training: EncodedSplit
    """Rows it learns from."""
    validation: EncodedSplit
    """Rows that choose the epoch."""
    base: RankerModule | None = None
    """The ranker before it learns anything here, judged as epoch 0; None when there is none."""
    keeps_base: bool = False
    """Whether epoch 0 may be the best: the ranker that trains is then `base`."""
    adapter: AdapterHeader | None = None
    """What is written beside the weights when an adapter trains."""
    optimiser: dict[str, Tensor] | None = None
    """Values that the optimiser starts with; None starts without any."""
    ids: tuple[str, ...] = ()
    """Fields whose values have a row of their own, so that others are unknown; read where some are shown so."""


def start_of(job: TrainingJob, schema: RankerSchema, shard: Shard = WHOLE) -> Start:
    """Return where a job starts; fresh weights come from torch's seed, set to the job's.

    Args:
        job: what to train.
        schema: of its training set.
        shard: which rows of the ranker's table this worker is to hold.

    Raises:
        BadInputError: there is no row to train on, or the ranker cannot be built or adapted.
    """
    training, validation = (open_split(job.dataset, split, schema) for split in ("train", "validation"))
    ids = _ids(read_encoder(job.dataset), schema) if job.config.shown_unknown else ()
    if job.adaptation is not None:
        return replace(_adapted(job, job.adaptation, schema, training, validation), ids=ids)
    if training.rows == 0:
        raise BadInputError("the training split has no rows: widen the window or change the split")
    torch.manual_seed(job.config.seed)
    with sharded(shard):
        ranker = build_ranker(job.config.ranker, schema)
    _check_shards(ranker, job.config.ranker.name, shard)
    give_vectors(ranker, job.dataset)
    if job.continues is None:
        return Start(ranker, training, validation, ids=ids)
    return replace(_continued(job, job.continues, ranker, training, validation), ids=ids)


def _check_shards(ranker: RankerModule, name: str, shard: Shard) -> None:
    """Refuse a ranker whose rows the loop would not bring together."""
    embedding = getattr(ranker, "embedding", None)
    divided = [module for module in ranker.modules() if isinstance(module, FieldEmbedding) and module.shard == shard]
    if shard.world > 1 and divided != [embedding]:
        raise BadInputError(
            f"ranker {name!r} has rows elsewhere than in its one table `embedding`, so workers cannot share them out: "
            "leave tables.sharded out, or choose another ranker"
        )


def _ids(encoder: Encoder, schema: RankerSchema) -> tuple[str, ...]:
    fields = (field for field in encoder.fitted if field.name != schema.declaration.added)
    return tuple(field.name for field in fields if field.table in encoder.vocabularies)


def _continued(
    job: TrainingJob, before: Path, ranker: RankerModule, training: EncodedSplit, validation: EncodedSplit
) -> Start:
    sources = carry_on(ranker, read_encoder(job.dataset), before)
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
        fresh = build_ranker(job.config.ranker, alone)
        give_vectors(fresh, job.dataset)
        return Start(fresh, training, validation, base)
    header = None
    if adaptation.method == "lora":
        header = attach(base, adaptation.lora, schema, adaptation.domain)
    return Start(base, training, validation, base, keeps_base=True, adapter=header)


def of_domain(rows: EncodedSplit, schema: RankerSchema, domain: str) -> EncodedSplit:
    """Return a copy of the rows of one domain."""
    at = np.flatnonzero(rows.domain == schema.domains.index(domain))
    return EncodedSplit(
        features={name: values[at] for name, values in rows.features.items()},
        labels={name: values[at] for name, values in rows.labels.items()},
        domain=rows.domain[at],
        user=rows.user[at],
        weights={name: values[at] for name, values in rows.weights.items()},
        request=None if rows.request is None else rows.request[at],
    )


def write_optimiser(path: Path, state: dict[str, Tensor], knobs: Knobs) -> None:
    """Write the state of a `RankerOptimiser`, and which one that is."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, str(path), metadata={_TABLES: knobs.tables.optimiser})


def why_anew(ranker: Path, knobs: Knobs) -> str:
    """Return why a ranker's optimiser values are of no use, or nothing when they are."""
    file = ranker / OPTIMISER
    if not file.exists():
        return "the champion was trained without keeping its values"
    try:
        with safe_open(str(file), framework="pt") as opened:
            made = (opened.metadata() or {}).get(_TABLES)
    except SafetensorError as error:
        raise StorageError(f"{file} cannot be read: {error}; restore it or train the ranker again") from error
    return "" if made == knobs.tables.optimiser else f"the champion's tables learned with {made}"


def carry_on(ranker: RankerModule, encoder: Encoder, before: Path) -> dict[str, Tensor]:
    """Give a new ranker the weights of an earlier one, in place.

    Args:
        ranker: with fresh weights; its architecture is the earlier one's.
        encoder: of the data that it is for.
        before: local directory of the earlier `Ranker`.

    Returns:
        By weight that is a table (of values, of places): int64 ``[V]``, by row its row in the earlier one, or `FRESH`.

    Raises:
        BadInputError: a weight has another shape.
    """
    earlier = load_ranker(before)
    known = read_encoder(before)
    sources = {_WEIGHT: row_sources(_embedding(ranker), encoder, _embedding(earlier), known)}
    if (places := getattr(ranker, "place", None)) is not None:
        sources[_PLACES] = row_sources(places, encoder, cast(FieldEmbedding, earlier.get_submodule("place")), known)
    state, given = earlier.state_dict(), buffers_of(ranker)
    with torch.no_grad():
        for name, value in ranker.state_dict().items():
            if name in given:  # today's training set brought them
                continue
            if name in sources:
                value.copy_(_moved(state[name], sources[name], value))
            elif value.shape == state[name].shape:
                value.copy_(state[name])
            else:
                raise BadInputError(
                    f"{name} of the ranker to continue has the shape {list(state[name].shape)}, today's "
                    f"{list(value.shape)}: train a new one with train_ranker"
                )
    return sources


def row_sources(new: FieldEmbedding, encoder: Encoder, old: FieldEmbedding, known: Encoder) -> Tensor:
    """Return int64 ``[V]``: by row of `new`, its row in `old`, or `FRESH`.

    Args:
        new: the tables, laid out for `encoder`.
        encoder: today's.
        old: tables of the same fields, laid out for `known`.
        known: the earlier encoder.

    Raises:
        BadInputError: a table without a vocabulary has another size.
    """
    sources = np.full(new.weight.shape[0], FRESH, dtype=np.int64)
    sizes = {field.name: field.size for field in old.embedded}
    for field in new.embedded:
        here, there = new.offsets[field.name], old.offsets[field.name]
        if field.table in encoder.vocabularies:
            values, theirs = (made.vocabularies[str(field.table)] for made in (encoder, known))
            at = theirs.places(values.values)
            block = np.concatenate([np.arange(FIRST), np.where(at == ABSENT, FRESH, at + FIRST)])
        elif field.size == sizes[field.name]:
            block = np.arange(field.size)
        else:
            raise BadInputError(
                f"field {field.name!r} of the ranker to continue has {sizes[field.name]} rows, today's {field.size}: "
                "train a new one with train_ranker"
            )
        sources[here : here + field.size] = np.where(block == FRESH, FRESH, block + there)
    return torch.from_numpy(sources)


def carried_optimiser(
    ranker: RankerModule, sources: Mapping[str, Tensor], before: Path, knobs: Knobs
) -> dict[str, Tensor]:
    """Return the earlier ranker's optimiser values for `RankerOptimiser.load`; nothing is known of fresh rows.

    `sources` are of `carry_on`, and `why_anew` says nothing about `before`.
    """
    by_rows = knobs.tables.optimiser != "adam"
    trained = [name for name, parameter in ranker.named_parameters() if parameter.requires_grad]
    dense = [name for name in trained if not (by_rows and name == _WEIGHT)]
    tables = {f"dense.{dense.index(name)}": rows for name, rows in sources.items() if name in dense}
    tables |= {"rows": sources[_WEIGHT]} if by_rows else {}
    moved = {}
    for name, value in load_file(str(before / OPTIMISER)).items():
        rows = tables.get(name.rpartition(".")[0]) if value.ndim > 0 else None
        moved[name] = value if rows is None else _moved(value, rows, value.new_zeros((len(rows), *value.shape[1:])))
    return moved


def _moved(values: Tensor, sources: Tensor, fresh: Tensor) -> Tensor:
    """Return ``[V, ...]``: rows of `values` where there is a source, of `fresh` elsewhere."""
    taken = fresh.clone()
    there = sources != FRESH
    taken[there] = values[sources[there]]
    return taken


def _embedding(ranker: nn.Module) -> FieldEmbedding:
    found = ranker.get_submodule("embedding")
    if not isinstance(found, FieldEmbedding) or type(found) not in (FieldEmbedding, FrozenEmbedding):
        raise BadInputError("a ranker without one row per value cannot be continued: train a new one with train_ranker")
    return found
