"""Which events do the histories of a batch hold? All of them one after the other, so that padding costs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from features.declaration import PADDING, offsets_name

if TYPE_CHECKING:
    from components.rankers.embedding.table import FieldEmbedding

_LOWEST = -1e30
"""Score of an event that says nothing: finite, so that a history without any has no NaN."""


@dataclass(frozen=True)
class Stretches:
    """Where B histories lie among N events."""

    offsets: Tensor
    """int64 ``[B + 1]``: where each begins and the last ends."""
    events: int
    """N."""

    @property
    def histories(self) -> int:
        """B."""
        return self.offsets.shape[0] - 1

    @cached_property
    def lengths(self) -> Tensor:
        """int64 ``[B]``."""
        return self.offsets.diff()

    @cached_property
    def owner(self) -> Tensor:
        """int64 ``[N]``, the history of each event."""
        rows = torch.arange(self.histories, device=self.offsets.device)
        return rows.repeat_interleave(self.lengths, output_size=self.events)

    @cached_property
    def place(self) -> Tensor:
        """int64 ``[N]``, how many events of its history are newer."""
        return torch.arange(self.events, device=self.offsets.device) - self.offsets[:-1].index_select(0, self.owner)

    def spread(self, values: Tensor) -> Tensor:
        """Return ``[N, ...]``, by event what is given by history, ``[B, ...]``."""
        return values.index_select(0, self.owner)

    def sums(self, values: Tensor) -> Tensor:
        """Return float ``[B, d]``, what the events of each history add up to, float ``[N, d]``."""
        sums: Tensor = _Sums.apply(values, self)
        return sums

    def softmax(self, scores: Tensor, present: Tensor) -> Tensor:
        """Return float ``[N]``: within each history, the softmax over its events that are present; 0 for others.

        Args:
            scores: float ``[N]``.
            present: float ``[N]``, 1 or 0.
        """
        with torch.no_grad():
            shown = scores.masked_fill(present == 0, _LOWEST)
            most = shown.new_full((self.histories,), _LOWEST).scatter_reduce(0, self.owner, shown, "amax")
        weights = (scores - self.spread(most)).masked_fill(present == 0, _LOWEST).exp()
        total = self.sums(weights.unsqueeze(1)).clamp(min=torch.finfo(weights.dtype).tiny)
        return weights / self.spread(total).squeeze(1)

    def of(self, rows: Tensor) -> Tensor:
        """Return int64 ``[b, L]``: which events histories int64 ``[b]`` hold, −1 after the last of each."""
        lengths = self.lengths.index_select(0, rows).unsqueeze(1)
        place = torch.arange(int(lengths.max()) if rows.shape[0] else 0, device=rows.device)
        return torch.where(place < lengths, self.offsets.index_select(0, rows).unsqueeze(1) + place, -1)

    def padded(self, values: Tensor) -> Tensor:
        """Return ``[B, L, ...]`` of ``[N, ...]``, L the longest history of the batch."""
        return at_places(values, self.of(torch.arange(self.histories, device=self.offsets.device)))

    def alike(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield groups of histories of about one length, which cost little to pad to one length.

        Lengths of a group are at most twice its shortest.

        Yields:
            int64 ``[b]``, which histories, and which events they hold, see `of`.
        """
        longest = int(self.lengths.max()) if self.histories else -1
        least, most = -1, 4
        while least < longest:
            rows = torch.nonzero((self.lengths > least) & (self.lengths <= most)).squeeze(1)
            if rows.shape[0]:
                yield rows, self.of(rows)
            least, most = most, 2 * most


def at_places(values: Tensor, events: Tensor, fill: float = 0.0) -> Tensor:
    """Return ``[b, L, ...]``, the values ``[N, ...]`` of events ``[b, L]`` of `Stretches.of`; `fill` for −1."""
    taken = (
        values.index_select(0, events.clamp(min=0).view(-1))
        if len(values)
        else values.new_zeros((events.numel(), *values.shape[1:]))
    )
    there = (events >= 0).view(-1, *(1 for _ in values.shape[1:]))
    return torch.where(there, taken, fill).unflatten(0, tuple(events.shape))


def together(each: Sequence[Stretches]) -> tuple[Stretches, Tensor | None]:
    """Return histories of which each is made of one per given stretches, and int64 ``[N]``, which events they hold.

    Events are numbered as if those of the first came first, then those of the second, and so on; None where that is
    their order.
    """
    if len(each) == 1:
        return each[0], None
    order = torch.cat([at.owner for at in each]).argsort(stable=True)
    offsets = torch.stack([at.offsets for at in each]).sum(dim=0)
    return Stretches(offsets, sum(at.events for at in each)), order


def stretches_of(batch: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Stretches]:
    """Return where the histories of fields lie, of those that the batch holds without padding.

    Fields of one stream share their offsets, and then what follows from them.
    """
    found: dict[str, Stretches] = {}
    made: dict[int, Stretches] = {}
    for name in names:
        offsets = batch.get(offsets_name(name))
        if offsets is not None:
            found[name] = made.setdefault(id(offsets), Stretches(offsets, batch[name].shape[0]))
    return found


def newest_of(batch: Mapping[str, Tensor], names: Iterable[str], most: int) -> dict[str, Tensor]:
    """Return a batch whose histories hold at most their newest events.

    Args:
        batch: by field as `FieldEmbedding.forward` reads it; histories are most recent first.
        names: sequence and elapsed fields of histories.
        most: how many events of each are kept.
    """
    cut = dict(batch)
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for name in names:
        key = offsets_name(name)
        offsets = batch.get(key)
        if offsets is None:
            cut[name] = batch[name][:, :most]
            continue
        if id(offsets) not in made:
            at = Stretches(offsets, batch[name].shape[0])
            kept = torch.nonzero(at.place < most).squeeze(1)
            made[id(offsets)] = kept, functional.pad(at.lengths.clamp(max=most).cumsum(0), (1, 0))
        kept, cut[key] = made[id(offsets)]
        cut[name] = batch[name].index_select(0, kept)
    return cut


class _Sums(torch.autograd.Function):
    """Sums of stretches; the gradient of a sum is that of each of its parts."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, at: Stretches) -> Tensor:
        """Return the sums."""
        ctx.at = at
        each = torch.arange(at.events, device=values.device)
        return functional.embedding_bag(each, values, at.offsets, mode="sum", include_last_offset=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of every part."""
        return ctx.at.spread(gradients[0]), None


@dataclass(frozen=True)
class Events:
    """The events of one field's histories, of which vectors are looked up when somebody reads them."""

    embedding: FieldEmbedding
    ids: Tensor
    """int64 ``[N]``, indices; padding where a value is missing, or lies after the request."""
    first: int
    """Row of the table where the field's own rows begin."""
    at: Stretches

    @cached_property
    def present(self) -> Tensor:
        """float32 ``[N]``: 1 where there is an event, 0 where it is missing."""
        return (self.ids != PADDING).to(torch.float32)

    @cached_property
    def vectors(self) -> Tensor:
        """float32 ``[N, d]``, most recent first within a history; zero where an event is missing."""
        vectors = self.embedding.look_up(self.ids + self.first)
        heard = self._heard()
        return vectors if heard is None else vectors * heard.unsqueeze(1)

    def mean(self) -> Tensor:
        """Return float32 ``[B, d]``, the mean of each history's events; zero where there are none."""
        sums = self.embedding.look_up_sums(self.ids + self.first, self.at, self._heard())
        # Whole numbers of events, counted exactly by running totals.
        running = functional.pad((self.ids != PADDING).cumsum(0), (1, 0))
        counts = running.index_select(0, self.at.offsets).diff().clamp(min=1)
        return sums / counts.unsqueeze(1)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return float32 ``[B, L, d]`` and ``[B, L]``: vectors and mask as `SequenceEncoder.forward` reads them."""
        return self.at.padded(self.vectors), self.at.padded(self.present)

    def _heard(self) -> Tensor | None:
        """Return float32 ``[N]``, 0 for a value without a vector; None where its row is zero and never learns."""
        touched = self.embedding.touched
        if touched is not None and len(touched.silent):
            return None
        return (self.ids >= self.embedding.first_heard).to(torch.float32)


@dataclass(frozen=True)
class JoinedEvents:
    """The events of a stream, the vectors of their A attributes side by side."""

    each: tuple[Events, ...]
    """By attribute; all lie alike."""

    @property
    def at(self) -> Stretches:
        """Where the histories lie."""
        return self.each[0].at

    @cached_property
    def present(self) -> Tensor:
        """float32 ``[N]``: 1 where an event has any attribute."""
        return torch.stack([events.present for events in self.each]).amax(dim=0)

    @cached_property
    def vectors(self) -> Tensor:
        """float32 ``[N, A·d]``."""
        return torch.cat([events.vectors for events in self.each], dim=1)

    def mean(self) -> Tensor:
        """Return float32 ``[B, A·d]``, the mean of each history's events; zero where there are none."""
        counts = self.at.sums(self.present.unsqueeze(1)).clamp(min=1.0)
        return self.at.sums(self.vectors) / counts

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return float32 ``[B, L, A·d]`` and ``[B, L]``; see `Events.padded`."""
        return self.at.padded(self.vectors), self.at.padded(self.present)
