"""How are many candidates of one request scored without repeating what they share?

A request has one user and N candidates. Its own fields come in one row: they are embedded once, a history that does
not look at the candidate is encoded once, and of the first dense layers ``W [u; v] + b = (W_u u + b) + W_v v`` the
first term is computed once. Everything behind that layer differs by candidate and is computed for each.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.domains.none import NoAdaptation
from components.rankers.embedding.table import FieldEmbedding
from components.rankers.interactions.mlp import Mlp
from components.rankers.interactions.none import NoInteraction
from components.rankers.parts import SequenceEncoder
from components.rankers.position import add_position
from components.rankers.sequences.mean import MeanSequence
from features.declaration import RankerSchema


def request_fields(schema: RankerSchema, context: Iterable[str]) -> tuple[str, ...]:
    """Return the fields that are the same for all candidates of a request, in the schema's order.

    They are the user's, the domain, the time, and what `context` names. All others are taken to differ.

    Raises:
        BadInputError: `context` names no field, or a field of the item.
    """
    known = {field.name for field in schema.fields}
    shared = set(context)
    for name in sorted(shared):
        if name not in known:
            raise BadInputError(f"context names {name!r}, which the ranker does not read: name some of {sorted(known)}")
        if schema.sides.get(name) == "item":
            raise BadInputError(f"context names {name!r}, which describes the item: leave it out")
        if name in schema.pairs:
            raise BadInputError(f"context names {name!r}, which another item changes: leave it out")
    shared |= {schema.declaration.time, schema.declaration.domain or ""}
    return tuple(f.name for f in schema.fields if f.name in shared or schema.sides.get(f.name) == "user")


@dataclass(frozen=True)
class Halves:
    """What N candidates of a request know, in two parts."""

    shared: Tensor
    """float32 ``[1, D_u]``, what the request knows."""
    own: Tensor
    """float32 ``[N, D_v]``, what each candidate knows by itself."""


class SplitLinear(nn.Module):
    """A linear layer that reads its input whole, or as `Halves` of its columns."""

    def __init__(self, whole: nn.Linear, shared: list[int], own: list[int]) -> None:
        super().__init__()
        self.whole = whole
        self.shared = nn.Parameter(whole.weight.detach()[:, shared].clone())
        self.own = nn.Parameter(whole.weight.detach()[:, own].clone())

    def forward(self, x: Tensor | Halves) -> Tensor:
        """Return float32 ``[N, out]``."""
        if isinstance(x, Halves):
            once = nn.functional.linear(x.shared, self.shared, self.whole.bias)
            return nn.functional.linear(x.own, self.own) + once
        answer: Tensor = self.whole(x)
        return answer


class RequestRanker(nn.Module):
    """A composed ranker that reads one row of the request's fields and N rows of the others.

    Raises:
        BadInputError: nothing is shared, nothing differs, or a part mixes fields before any dense layer.
    """

    def __init__(self, ranker: RankerModule, schema: RankerSchema, once: Collection[str]) -> None:
        super().__init__()
        composed = _divisible(ranker)
        self.once = frozenset(once)
        read = {field.name for field in composed.embedding.embedded} | composed.embedding.numeric.keys()
        if not read & self.once:
            raise BadInputError(
                f"none of the fields {sorted(read)} belongs to the request: name some in context, or export "
                "with shape: row"
            )
        if not read - self.once:
            raise BadInputError(
                f"all fields {sorted(read)} belong to the request, so its candidates do not differ: export "
                "with shape: row"
            )
        self.histories, self.targets = composed.histories, composed.targets
        self.shared = _part(composed.embedding, self.once)
        self.own = _part(composed.embedding, read - self.once)
        # Histories that must be encoded for each candidate: they, or the candidate they are matched with, differ.
        self.differing = frozenset(
            name
            for name, encoder in self.histories.items()
            if name not in self.once
            or (not isinstance(encoder, MeanSequence) and self.targets.get(name, name) not in self.once)
        )
        self.order = _order(composed)
        columns = _columns(composed, self.order)
        shared = [at for name in self.order if self._known(name) for at in columns[name]]
        own = [at for name in self.order if not self._known(name) for at in columns[name]]
        self.domain = composed.domain
        meets = isinstance(composed.interaction, Mlp)
        first = composed.interaction.layers if isinstance(composed.interaction, Mlp) else composed.head
        divided = _divided(copy.deepcopy(first), shared, own)
        self.meet = divided if meets else nn.Identity()
        self.head = composed.head if meets else divided
        if (place := getattr(ranker, "place", None)) is not None:
            add_position(self, place)

    def _known(self, name: str) -> bool:
        """Return whether a part of the input is the same for all candidates."""
        return name in self.once and name not in self.differing

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict.

        Args:
            batch: as for `RankerModule.forward`; fields in `once` have one row, the others N.

        Returns:
            What the ranker answers to N rows that repeat the request's fields.
        """
        shared = self.shared({name: values for name, values in batch.items() if name in self.once})
        own = self.own({name: values for name, values in batch.items() if name not in self.once})
        rows = own.stacked.shape[0]
        values = {**shared.categorical, **shared.numeric, **own.categorical, **own.numeric}
        categorical = shared.categorical | own.categorical
        for name, encoder in self.histories.items():
            side = shared if name in self.once else own
            vectors, mask = side.sequences[name], side.masks[name]
            target = categorical[self.targets[name]] if name in self.targets else None
            if name in self.differing:
                vectors, mask = vectors.expand(rows, -1, -1), mask.expand(rows, -1)
                target = target.expand(rows, -1) if target is not None else None
            elif isinstance(encoder, MeanSequence):
                target = None  # which it does not read, and which may have more rows
            values[name] = encoder(vectors, mask, target)
        x = Halves(
            shared=torch.cat([values[name] for name in self.order if self._known(name)], dim=1),
            own=torch.cat([values[name] for name in self.order if not self._known(name)], dim=1),
        )
        outputs: dict[str, Tensor] = self.head(self.meet(x), self.domain.route(x.own, batch))
        return outputs


def _divisible(ranker: RankerModule) -> ComposedRanker:
    """Return the ranker when its first dense layers can be divided.

    Raises:
        BadInputError: they cannot.
    """
    if not isinstance(ranker, ComposedRanker):
        raise BadInputError(
            f"ranker {type(ranker).__name__} is not composed of parts, so nothing says what its candidates share: "
            "export it with shape: row"
        )
    for part, allowed in ((ranker.interaction, (NoInteraction, Mlp)), (ranker.domain, (NoAdaptation,))):
        if not isinstance(part, allowed):
            raise BadInputError(
                f"part {type(part).__name__} of the ranker reads request and candidate together, so neither share can "
                "be computed by itself: export it with shape: row"
            )
    return ranker


def _part(embedding: FieldEmbedding, names: Collection[str]) -> FieldEmbedding:
    """Return the same tables for some of the fields."""
    part = copy.copy(embedding)
    part.embedded = tuple(field for field in embedding.embedded if field.name in names)
    part.numeric = {name: width for name, width in embedding.numeric.items() if name in names}
    part.elapsed = ()
    return part


def _order(ranker: ComposedRanker) -> tuple[str, ...]:
    """Return fields in the order in which their numbers stand in the ranker's input of the interaction."""
    embedding = ranker.embedding
    narrow = [field.name for field in embedding.embedded if field.kind != "sequence"]
    odd = [name for name, encoder in ranker.histories.items() if _width(encoder) % embedding.width]
    even = [name for name in ranker.histories if name not in odd]
    return (*narrow, *even, *embedding.numeric, *odd)


def _width(encoder: nn.Module) -> int:
    return cast(SequenceEncoder, encoder).out_features


def _columns(ranker: ComposedRanker, order: Iterable[str]) -> dict[str, range]:
    """Return where the numbers of each field stand."""
    columns: dict[str, range] = {}
    start = 0
    for name in order:
        if name in ranker.histories:
            width = _width(ranker.histories[name])
        else:
            width = ranker.embedding.numeric.get(name, ranker.embedding.width)
        columns[name] = range(start, start + width)
        start += width
    return columns


def _divided(module: nn.Module, shared: list[int], own: list[int]) -> nn.Module:
    """Change in place, and return, a module whose linear layers of the right width take `Halves` too."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and child.in_features == len(shared) + len(own):
            setattr(module, name, SplitLinear(child, shared, own))
        else:
            _divided(child, shared, own)
    return module
