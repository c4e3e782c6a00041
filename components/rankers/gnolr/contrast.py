"""How does an item that few have chosen learn from what it is? Two halves of its fields should tell the same of it.

Yao et al., "Self-supervised Learning for Large-scale Item Recommendations", CIKM 2021, arXiv 2007.12865, with features
masked at random. The vector made of one half of an item's fields is compared with that made of the other half, and with
those of the other items of the batch. Items count once, however often they were shown.

Which items a step compares, and which fields are in which half, follows from the whole batch alone: every worker
gathers the items of all and computes the same. So the number of workers changes the time, not the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.distributed import gathered
from components.rankers.embedding.events import at_places, stretches_of
from features.declaration import PADDING, UNKNOWN, FieldSpec

MOST = 256
"""Items that a step compares; their cosines are its square."""
_SEEDS = 2**62


@dataclass(frozen=True)
class ItemInputs:
    """What the items of a batch are read from, as one matrix.

    Raises:
        BadInputError: an item has a single field, of which there are no halves.
    """

    fields: tuple[FieldSpec, ...]
    """Fields of the item's side."""
    others: tuple[FieldSpec, ...]
    """All other fields, which say nothing of an item."""
    item: str | None
    """Field that tells items apart; without one, all of an item's fields do."""

    def __post_init__(self) -> None:
        if len(self.fields) < 2:
            raise BadInputError(
                "contrast compares two halves of an item's fields, and the training set has "
                f"one of the item ({self.fields[0].name!r}): add fields of the item, or leave contrast out"
            )

    @property
    def widths(self) -> list[int]:
        """Columns of each field."""
        return [_width(field) for field in self.fields]

    def distinct(self, batch: dict[str, Tensor]) -> Tensor:
        """Return float64 ``[n, W]``, a row per item of the batch over all workers, at most `MOST`.

        The first ones in the batch's order: of each worker's share none but its own first ones can be among them. An
        item that is shown as unknown is none.

        Args:
            batch: this worker's share, see `RankerModule.forward`.
        """
        if self.item is None:
            every = self._rows(batch, None)
            mine = every[_first_of_each(every)[:MOST]]
        else:
            known = torch.nonzero(batch[self.item] > UNKNOWN).squeeze(1)
            mine = self._rows(batch, known[_first_of_each(batch[self.item][known])[:MOST]])
        every = gathered(mine)
        return every[_first_of_each(self._key(every))[:MOST]]

    def none(self, device: torch.device) -> Tensor:
        """Return float64 ``[0, W]``, the items of a worker without rows."""
        return torch.zeros((0, sum(self.widths)), dtype=torch.float64, device=device)

    def batch(self, items: Tensor) -> dict[str, Tensor]:
        """Return float64 ``[n, W]`` items as rows that hold nothing but the fields of an item."""
        parts = items.split(self.widths, dim=1)
        made = {field.name: _as_input(field, part) for field, part in zip(self.fields, parts, strict=True)}
        return made | {field.name: _as_input(field, items[:, :0]) for field in self.others}

    def _key(self, items: Tensor) -> Tensor:
        """Return what tells rows of items apart, ``[n]`` or ``[n, W]``."""
        if self.item is None:
            return items
        at = [field.name for field in self.fields].index(self.item)
        return items.split(self.widths, dim=1)[at].squeeze(1)

    def _rows(self, batch: dict[str, Tensor], rows: Tensor | None) -> Tensor:
        """Return float64 ``[b, W]``, the inputs of some rows, or of all; lists padded to the longest there may be."""
        lists = stretches_of(batch, [field.name for field in self.fields if field.kind == "sequence"])
        parts = []
        for field in self.fields:
            values = batch[field.name]
            if field.name in lists:
                at = lists[field.name]
                everyone = torch.arange(at.histories, device=values.device)
                values = at_places(values, at.of(everyone if rows is None else rows), fill=PADDING)
            else:
                values = values if rows is None else values.index_select(0, rows)
            values = values.unsqueeze(1) if values.dim() == 1 else values.flatten(start_dim=1)
            parts.append(functional.pad(values.double(), (0, _width(field) - values.shape[1])))
        return torch.cat(parts, dim=1)


def halves(items: Tensor, fields: int) -> Tensor:
    """Return bool ``[F]``, which fields the first views are made of: F // 2 of them, at random.

    What is drawn follows from the items themselves, so that every worker draws the same, and other steps draw others.

    Args:
        items: float64 ``[n, W]``.
        fields: F.
    """
    seed = int(items.sum().nan_to_num().abs().remainder(_SEEDS))
    draws = torch.randperm(fields, generator=torch.Generator().manual_seed(seed))
    return (draws < fields // 2).to(items.device)


def contrast_losses(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return ``[n]``, −log of the share that an item's own other half has among those of all items.

    ``exp(cos(z_i, z'_i) / τ) / Σ_j exp(cos(z_i, z'_j) / τ)``.

    Args:
        one: z, float ``[..., n, d]``, each of length 1.
        other: z', float ``[..., n, d]``, each of length 1.
        temperature: τ.
    """
    logits = one @ other.transpose(-1, -2) / temperature
    return torch.logsumexp(logits, dim=-1) - logits.diagonal(dim1=-2, dim2=-1)


def _first_of_each(keys: Tensor) -> Tensor:
    """Return int64, ascending: the first place of each different key, ``[n]`` or ``[n, W]``."""
    if not len(keys):
        return torch.zeros(0, dtype=torch.int64, device=keys.device)
    kinds, kind = torch.unique(keys, dim=0 if keys.dim() > 1 else None, return_inverse=True)
    places = torch.arange(len(keys), device=keys.device)
    first = torch.full((len(kinds),), len(keys), device=keys.device).scatter_reduce(0, kind, places, "amin")
    return first.sort().values


def _width(field: FieldSpec) -> int:
    return 1 if field.kind == "categorical" else max(field.length, 1)


def _as_input(field: FieldSpec, values: Tensor) -> Tensor:
    """Return float64 ``[n, W]`` as a batch has a field; without columns, what says nothing."""
    if field.kind in ("sequence", "elapsed"):
        return values.long() if field.kind == "sequence" else values.float()
    filled = functional.pad(values, (0, _width(field) - values.shape[1]))
    if field.kind == "categorical":
        return filled.squeeze(1).long()
    return filled.float()
