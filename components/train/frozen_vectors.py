"""How do the vectors of a training set reach a new ranker? Into its buffers; what training never held starts silent."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from components.data.table_vectors import read_table, tables_of
from components.rankers.embedding.content import ValueVectors
from components.rankers.embedding.hashed import HashedEmbedding
from components.rankers.embedding.table import FieldEmbedding


@torch.no_grad()
def give_vectors(ranker: nn.Module, dataset: Path) -> None:
    """Give a ranker the vectors that `attach_vectors` put beside a training set, in place.

    Rows of values that training never held start at zero, as that of unknown values does, in any embedding with a row
    per value: nothing would move them away from where they were drawn.

    Args:
        ranker: with fresh weights.
        dataset: local directory of a `TrainingSet`; nothing happens where it has no vectors.
    """
    for table in tables_of(dataset):
        held = read_table(dataset, table)
        cold = torch.from_numpy((held.learned == 0).nonzero()[0])
        for module in ranker.modules():
            if isinstance(module, ValueVectors) and module.table == table:
                module.take(torch.from_numpy(held.vectors), torch.from_numpy(held.learned))
            elif isinstance(module, FieldEmbedding) and not isinstance(module, HashedEmbedding):
                for field in module.embedded:
                    if field.table == table:
                        module.weight[module.offsets[field.name] + cold] = 0.0


def buffers_of(ranker: nn.Module) -> frozenset[str]:
    """Return the names of the buffers that `give_vectors` fills."""
    found = ((name, module) for name, module in ranker.named_modules() if isinstance(module, ValueVectors))
    return frozenset(f"{name}.{buffer}" for name, module in found for buffer in module.held)
