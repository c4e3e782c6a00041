"""Which fields attend to which? The mean over a fixed sample of validation rows, for rankers that can show it.

Song et al., "AutoInt", CIKM 2019, §5.4, explain a ranker by such maps. They say where a layer looks, not that an answer
hangs on it. A missing value is a field too: it is looked at, and has nothing to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from features.declaration import Frozen
from features.ground.files import write_durably

if TYPE_CHECKING:
    from components.data.training_set import EncodedSplit
    from components.rankers.base import RankerModule
    from components.train.train_ranker.job import TrainingJob

ATTENTION = "attention.json"
SAMPLED = 1000
"""Validation rows, evenly spread over the split."""
_AT_ONCE = 100
_DIGITS = 4


class MeanAttention(Frozen):
    """Who attends to whom, on average over the sample."""

    rows: int
    """Validation rows that it is the mean of."""
    fields: tuple[str, ...]
    """What attends and is attended to; a field that is several vectors or numbers has one name for each."""
    layers: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
    """By layer, head, and the field that attends: how much it attends to each field, which adds to 1."""


def leave_attention(job: TrainingJob, trained: RankerModule) -> None:
    """Write the maps of the weights that a job kept into its directory, where its ranker has any.

    Args:
        job: whose training has ended.
        trained: its ranker with any weights, which says whether there are maps.
    """
    if not trained.attended():
        return
    from safetensors.torch import load_file

    from components.data.training_set import read_schema
    from components.rankers.build import build_ranker
    from components.train.ranker_files import WEIGHTS
    from components.train.train_ranker.feed import open_split
    from components.train.train_ranker.start import of_domain

    schema = read_schema(job.dataset)
    rows = open_split(job.dataset, "validation", schema)
    if job.adaptation is not None:
        rows = of_domain(rows, schema, job.adaptation.domain)
    kept = build_ranker(job.config.ranker, schema)
    kept.load_state_dict(load_file(str(job.directory / WEIGHTS)))
    if (found := mean_attention(kept, rows)) is not None:
        write_durably(job.directory / ATTENTION, found.model_dump_json(indent=1))


def mean_attention(ranker: RankerModule, rows: EncodedSplit) -> MeanAttention | None:
    """Return the mean maps of a ranker over rows spread over a split; None without rows, or without maps."""
    import numpy as np
    import torch

    from components.train.train_ranker.feed import features_at

    names = ranker.attended()
    if not names or not rows.rows:
        return None
    ranker.eval()
    at = np.unique(np.linspace(0, rows.rows - 1, min(rows.rows, SAMPLED)).astype(np.int64))
    sums: list[torch.Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(at), _AT_ONCE):
            chosen = features_at(rows, at[start : start + _AT_ONCE], torch.device("cpu"))
            maps = [each.double().sum(dim=0) for each in ranker.attention(chosen)]
            sums = [one + other for one, other in zip(sums, maps, strict=True)] if sums else maps
    layers = [(each / len(at)).numpy().round(_DIGITS).tolist() for each in sums]
    return MeanAttention.model_validate({"rows": len(at), "fields": names, "layers": layers})


def read_attention(directory: Path) -> MeanAttention | None:
    """Return the maps that a training left in its directory, or that a `Ranker` has; None without any."""
    file = directory / ATTENTION
    return MeanAttention.model_validate_json(file.read_text(encoding="utf-8")) if file.is_file() else None
