"""How large is a ranker? Learned numbers in its embedding tables, and all the others."""

from __future__ import annotations

from torch import nn

from features.declaration import Frozen

EMBEDDING = "embedding"
"""Word in the name of every module that holds embedding tables."""


class Size(Frozen):
    """Counts of learned numbers; buffers and frozen parameters are not learned and do not count.

    Attributes:
        embedding: rows × width over all embedding tables, which grow with the data.
        dense: everything else.
    """

    embedding: int
    dense: int


def size_of(ranker: nn.Module) -> Size:
    """Return the size of a ranker; a parameter that is used twice counts once."""
    counts = {name: parameter.numel() for name, parameter in ranker.named_parameters() if parameter.requires_grad}
    embedding = sum(count for name, count in counts.items() if EMBEDDING in name)
    return Size(embedding=embedding, dense=sum(counts.values()) - embedding)
