"""What must each exchangeable part offer, and what may it know? The seams of a composed ranker.

Data flows one way: fields → (sequence encoder per history) → vectors per field → interaction → x ``[B, D]``
→ router of the domain part → towers of the head → logits, probabilities, hidden.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from components.rankers.embedding.events import Events, JoinedEvents, at_places

if TYPE_CHECKING:
    from components.rankers.embedding.table import EmbeddedFields


class SequenceEncoder(nn.Module, ABC):
    """Turns one history into one vector.

    Built as ``Encoder(width, length, config, targeted)`` per history: width d of an event's vector, longest
    history, config, whether `forward` gets a target (an encoder that needs one learns a query
    in its place). Its output has width `out_features`; each e numbers of a multiple of e, the embedding width, are one
    field vector. Where the attributes of a stream are joined, d is a multiple of e, and an event's vector has those of
    its attributes side by side.
    """

    out_features: int
    reads_times: bool = False
    """Whether `forward`, `of_events` and `of_request` take ``elapsed`` too: float32 ``[B, L]``, or ``[N]``, seconds
    from an event to the request, below 0 where there is none."""
    knows_fields: ClassVar[bool] = False
    """Whether it is built with ``fields`` too: the names of the attributes that stand side by side in a vector."""
    reads_content: ClassVar[bool] = False
    """Whether it is built with ``content`` too: the field of an attribute whose values have vectors, or None. With one
    it holds a `ContentVectors` of that name, and `forward`, `of_events` and `of_request` take ``alike`` too: float32
    ``[B, L]``, or ``[N]``, the cosine of an event's vector with the candidate's, `APART` where one of them has none."""
    auxiliary_features: int = 0
    """Width of what `auxiliary` returns; 0 where the ranker's own loss teaches everything."""
    auxiliary_weight: float = 1.0
    """How much the loss of its auxiliary tower counts beside that of the ranker."""

    @abstractmethod
    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Encode.

        Args:
            vectors: float32 ``[B, L, d]``, most recent first, zero where there is no event; L may be 0.
            mask: float32 ``[B, L]``, 1 where there is an event.
            target: float32 ``[B, d]``, the candidate's vector from the same table; None when the history
                shares no table with a categorical field.

        Returns:
            float32 ``[B, out_features]``; zero, or another constant, where the history is empty.
        """

    def of_events(self, events: Events | JoinedEvents, target: Tensor | None, **times: Tensor) -> Tensor:
        """Encode histories that lie one after the other; the same answers as `forward`, without work for padding.

        An encoder that says nothing about it gets those of about one length together, padded to the longest of them.

        Args:
            events: the histories of B rows.
            target: as of `forward`.
            **times: `elapsed` ``[N]``, where it `reads_times`; `alike` ``[N]``, where it `reads_content`.
        """
        return by_length(self, events, target, **times)

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Encode one history for the N candidates of a request; the same answers as `forward` to N copies of it.

        What a history says whoever the candidate is should be computed for one row here, and only the rest for N. An
        encoder that says nothing about it reads the history N times.

        Args:
            vectors: float32 ``[1, L, d]``, as of `forward`.
            mask: float32 ``[1, L]``.
            target: float32 ``[N, d]``, the candidates.
            **times: `elapsed` ``[1, L]``, where it `reads_times`; `alike` ``[N, L]``, where it `reads_content`.

        Returns:
            float32 ``[N, out_features]``.
        """
        rows = target.shape[0]
        each = {name: values.expand(rows, -1) for name, values in times.items()}
        encoded: Tensor = self(vectors.expand(rows, -1, -1), mask.expand(rows, -1), target, **each)
        return encoded

    def auxiliary(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, auxiliary_features]``, what else of a history should tell the feedback.

        For what `forward` decides without a gradient: the ranker gives it a tower of its own, which predicts every
        feedback from this alone, and adds its loss. No graph has any of it.

        Args:
            vectors: as of `forward`.
            mask: as of `forward`.
            target: as of `forward`.
        """
        raise NotImplementedError(f"{type(self).__name__} has auxiliary_features and no auxiliary")


def by_length(
    encode: Callable[..., Tensor], events: Events | JoinedEvents, target: Tensor | None, **times: Tensor
) -> Tensor:
    """Return float32 ``[B, n]``, what a function of padded histories says of those that lie one after the other.

    Args:
        encode: takes what `SequenceEncoder.forward` takes.
        events: the histories of B rows; those of about one length are padded together.
        target: as of `SequenceEncoder.forward`.
        **times: as of `SequenceEncoder.of_events`.
    """
    encoded, order = [], []
    for rows, at in events.at.alike():
        order.append(rows)
        candidate = None if target is None else target.index_select(0, rows)
        dated = {name: at_places(values, at, fill=-1.0) for name, values in times.items()}
        encoded.append(encode(at_places(events.vectors, at), at_places(events.present, at), candidate, **dated))
    return torch.cat(encoded).index_select(0, torch.cat(order).argsort())


@dataclass(frozen=True)
class FieldVectors:
    """The fields of B rows after the sequence encoders."""

    embedded: tuple[Tensor, ...]
    """float32 ``[B, f, d]`` each, the embedded fields: some together, and histories as their encoder's vectors."""
    others: tuple[Tensor, ...] = ()
    """float32 ``[B, n]`` each: numbers, and encoder outputs whose width is no multiple of d."""
    ids: dict[str, Tensor] = default(default_factory=dict)
    """By categorical field, int64 ``[B]``: the indices themselves, for an interaction that `knows_fields`."""

    @cached_property
    def vectors(self) -> Tensor:
        """float32 ``[B, F, d]``, one row per embedded field."""
        return self.embedded[0] if len(self.embedded) == 1 else torch.cat(self.embedded, dim=1)

    @cached_property
    def extra(self) -> Tensor:
        """float32 ``[B, N]``, everything else."""
        return torch.cat(self.others, dim=1) if self.others else self.embedded[0].new_zeros((len(self.embedded[0]), 0))

    def side_by_side(self) -> Tensor:
        """Return float32 ``[B, F·d + N]``, all of it, copied once."""
        parts = [*(each.flatten(start_dim=1) for each in self.embedded), *self.others]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class Interaction(nn.Module, ABC):
    """Turns field vectors into the one vector that towers read.

    Built as ``Interaction(fields, width, extra, config)``: F, d, N, config.
    """

    out_features: int
    knows_fields: ClassVar[bool] = False
    """Whether it is built with ``specs`` too: the categorical fields, which come first among the F."""
    attends: ClassVar[bool] = False
    """Whether fields attend to each other, as `attention` then tells."""

    @abstractmethod
    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, out_features]``."""

    def attention(self, fields: FieldVectors) -> tuple[Tensor, ...]:
        """Return how much each field attends to each, where they do: per layer float32 ``[B, H, F + N, F + N]``.

        Embedded fields come first, then numbers, both in the order of `fields`; each row of the last axis adds to 1.
        """
        return ()


class Backbone(nn.Module, ABC):
    """Turns all fields and events into one vector per feedback, in place of sequence encoders and an interaction.

    Built as ``Backbone(embedding, schema, config)``: the tables with their fields, the schema, config. The heads
    `single` and `esmm` read one vector per feedback.
    """

    out_features: int

    @abstractmethod
    def forward(self, fields: EmbeddedFields) -> tuple[Tensor, ...]:
        """Return float32 ``[B, out_features]`` per feedback; in a funnel, per step of it."""


class RoutedTower(nn.Module, ABC):
    """One task's own network; its weights may depend on the row's route."""

    @abstractmethod
    def forward(self, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit ``[B]`` and the last hidden layer ``[B, hidden[-1]]``.

        Args:
            x: float32 ``[B, D]``.
            route: int64 ``[B]``, what the domain part's `route` returned.
        """


class DomainPart(nn.Module, ABC):
    """Decides which domain or cluster a row belongs to, and makes towers that adapt to it.

    Built as ``Part(in_features, schema, config)``: D, schema, config. It raises BadInputError
    for a schema it cannot serve.
    """

    @abstractmethod
    def route(self, x: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return int64 ``[B]``. In training mode it may update its buffers, never by gradient."""

    @abstractmethod
    def tower(self, in_features: int, hidden: Sequence[int], dropout: float, bias: float) -> RoutedTower:
        """Return a new tower that adapts to routes; `bias` is the initial bias of its logit."""

    def sit_out(self) -> None:
        """Join whatever `route` sums over workers, for a batch of which this worker has no row."""
        return

    def diagnostics(self) -> dict[str, float]:
        """Return what a reader of the training curves should see, by name; empty by default."""
        return {}


class Head(nn.Module, ABC):
    """Predicts every task from x, with towers made by the domain part.

    Built as ``Head(in_features, schema, config, domain)``. It raises BadInputError for a declaration it
    does not fit.
    """

    @abstractmethod
    def forward(self, x: Tensor, route: Tensor) -> dict[str, Tensor]:
        """Return the outputs that `RankerModule.forward` promises."""

    @abstractmethod
    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the training loss, a mean over the rows."""
