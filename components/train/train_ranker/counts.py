"""How many training rows hold each value? What mini-batch aware regularisation divides by."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from components.data.training_set import EncodedSplit
from components.platform.errors import BadInputError
from components.rankers.embedding.hashed import HashedEmbedding
from components.rankers.embedding.table import FieldEmbedding
from components.train.train_ranker.feed import features_at
from features.declaration import offsets_name

_AT_ONCE = 4096
"""Rows whose values are counted together."""


def rows_per_value(training: EncodedSplit, ranker: nn.Module) -> Tensor:
    """Return int64 ``[V]``, by row of the ranker's table how many rows of the split hold its value.

    A row counts once, however often the value is in its histories, and whichever of its fields hold it. Of a sharded
    table these are the rows that this worker holds.

    Raises:
        BadInputError: the ranker has no row per value.
    """
    embedding = getattr(ranker, "embedding", None)
    if not isinstance(embedding, FieldEmbedding) or isinstance(embedding, HashedEmbedding):
        raise BadInputError(
            "tables.mini_batch_aware divides by how many rows hold a value, and this ranker has no row per value: "
            "leave it out, or choose embedding 'vocabulary'"
        )
    size, shard, kept = embedding.rows, embedding.shard, embedding.weight.shape[0]
    counts = np.zeros(kept, dtype=np.int64)
    for first in range(0, training.rows, _AT_ONCE):
        at = slice(first, min(first + _AT_ONCE, training.rows))
        features = features_at(training, at, torch.device("cpu"), jagged=True)
        held = []
        for field in embedding.embedded:
            values = features[field.name].numpy()
            offsets = features.get(offsets_name(field.name))
            each = values[0].size if offsets is None else np.diff(offsets.numpy())
            owner = np.repeat(np.arange(at.stop - at.start), each)
            held.append(owner * size + values.reshape(-1) + embedding.offsets[field.name])
        read = np.unique(np.concatenate(held)) % size
        counts += np.bincount(read[read % shard.world == shard.rank] // shard.world, minlength=kept)
        training.let_go()
    return torch.from_numpy(counts)
