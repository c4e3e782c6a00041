"""How do rows become tensors? Gathered by index from memory-mapped arrays, no loop over rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.data.training_set import EncodedSplit, SplitName, read_encoded
from components.platform.errors import BadInputError
from components.train.train_ranker.order import Indices
from features.declaration import RankerSchema


def open_split(dataset: Path, split: SplitName, schema: RankerSchema) -> EncodedSplit:
    """Return one split, memory-mapped.

    Raises:
        BadInputError: an index lies outside its embedding table, or a label is not 0 or 1.
    """
    rows = read_encoded(dataset, split, schema)
    for field in schema.fields:
        if not field.embedded or not rows.features[field.name].size:
            continue
        least, most = int(rows.features[field.name].min()), int(rows.features[field.name].max())
        rows.let_go()
        if least < 0 or most >= field.size:
            raise BadInputError(
                f"field {field.name!r} of the {split} split holds index {least if least < 0 else most}, its table has "
                f"{field.size} rows: build the training set again"
            )
    for name, values in rows.labels.items():
        if wrong := int(np.count_nonzero((values != 0) & (values != 1))):
            raise BadInputError(
                f"label {name!r} of {wrong} rows of the {split} split is not 0 or 1: build the training set again"
            )
    return rows


def features_at(rows: EncodedSplit, at: Indices | slice, device: torch.device) -> dict[str, Tensor]:
    """Return the inputs of the rows `at`: a copy, on `device`."""
    return {name: _tensor(values, at, device) for name, values in rows.features.items()}


def labels_at(rows: EncodedSplit, at: Indices | slice, device: torch.device) -> dict[str, Tensor]:
    """Return the labels of the rows `at`: a copy, on `device`."""
    return {name: _tensor(values, at, device) for name, values in rows.labels.items()}


def _tensor(values: NDArray[np.generic], at: Indices | slice, device: torch.device) -> Tensor:
    # A slice is a read-only view of a file, and torch needs memory of its own; an index makes a copy by itself.
    taken = torch.from_numpy(np.array(values[at]) if isinstance(at, slice) else np.take(values, at, axis=0))
    # Pinned memory is copied to the GPU while it computes.
    return taken.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else taken
