"""How are many candidates of one request scored without repeating what they share?

A request has one user and N candidates. Its own fields come in one row: they are embedded once, a history that is
matched with no candidate is encoded once, of one that is, what no candidate decides is computed once (`of_request` of
its encoder), and of the first dense layers ``W [u; v] + b = (W_u u + b) + W_v v`` the first term is computed once.
Everything behind that layer differs by candidate and is computed for each.

How much is shared depends on the ranker: one that crosses fields before any dense layer, or sends rows by their domain,
shares what lies before that; GNOLR's user network runs once; of any other ranker the rows are repeated inside the
graph, so that at least nobody has to send them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.composed.histories import History
from components.rankers.composed.ranker import ComposedRanker
from components.rankers.domains.none import NoAdaptation
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding, side_by_side
from components.rankers.gnolr.ranker import Gnolr
from components.rankers.interactions.mlp import Mlp
from components.rankers.interactions.none import NoInteraction
from components.rankers.parts import FieldVectors, SequenceEncoder
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


def request_ranker(ranker: RankerModule, schema: RankerSchema, once: Collection[str]) -> nn.Module:
    """Return what reads one row of a request's fields and N rows of the others, sharing as much as the ranker allows.

    Its ``forward`` takes a batch in which the fields in `once` have one row and the others N, and answers what the
    ranker answers to N rows that repeat the request's fields.

    Raises:
        BadInputError: nothing is shared, or nothing differs.
    """
    if isinstance(ranker, ComposedRanker) and ranker.backbone is None:
        return RequestRanker(ranker, once)
    if isinstance(ranker, Gnolr):
        return RequestGnolr(ranker, once)
    return RepeatedRequest(ranker, schema, once)


def _check(read: Collection[str], once: Collection[str]) -> None:
    """Check that a request has fields of its own, and its candidates too."""
    if not {*read} & {*once}:
        raise BadInputError(
            f"none of the fields {sorted(read)} belongs to the request: name some in context, or export with shape: row"
        )
    if not {*read} - {*once}:
        raise BadInputError(
            f"all fields {sorted(read)} belong to the request, so its candidates do not differ: export with shape: row"
        )


class RequestRanker(nn.Module):
    """A composed ranker that embeds and encodes once what a request has, and divides its first dense layers.

    Where the interaction or the domain part reads request and candidate together, the layers stay whole.

    Raises:
        BadInputError: nothing is shared, or nothing differs.
    """

    def __init__(self, ranker: ComposedRanker, once: Collection[str]) -> None:
        super().__init__()
        self.once = frozenset(once)
        read = {field.name for field in ranker.embedding.embedded} | ranker.embedding.numeric.keys()
        _check(read, self.once)
        self.histories = ranker.histories
        # What its encoder does not look at may have more rows.
        self.read = {
            name: replace(ranker.read[name], targets=()) if isinstance(encoder, MeanSequence) else ranker.read[name]
            for name, encoder in self.histories.items()
        }
        self.shared = _part(ranker.embedding, self.once)
        self.own = _part(ranker.embedding, (read | {*ranker.embedding.elapsed}) - self.once)
        # Histories that must be encoded for each candidate: they, or the candidate they are matched with, differ.
        self.differing = frozenset(
            name
            for name, encoder in self.histories.items()
            if not _inputs(self.read[name], cast(SequenceEncoder, encoder)) <= self.once
        )
        # Of these only the candidate differs: they are read once for all that it does not decide.
        self.matched = frozenset(
            name
            for name in self.differing
            if _inputs(replace(self.read[name], targets=()), cast(SequenceEncoder, self.histories[name])) <= self.once
        )
        self.order = _order(ranker)
        self.domain = ranker.domain
        self.divided = isinstance(ranker.interaction, NoInteraction | Mlp) and isinstance(ranker.domain, NoAdaptation)
        self.meet: nn.Module = ranker.interaction
        self.head: nn.Module = ranker.head
        if self.divided:
            columns = _columns(ranker, self.order)
            shared = [at for name in self.order if self._known(name) for at in columns[name]]
            own = [at for name in self.order if not self._known(name) for at in columns[name]]
            meets = isinstance(ranker.interaction, Mlp)
            first = ranker.interaction.layers if isinstance(ranker.interaction, Mlp) else ranker.head
            divided = _divided(copy.deepcopy(first), shared, own)
            self.meet = divided if meets else nn.Identity()
            self.head = ranker.head if meets else divided
        if (place := getattr(ranker, "place", None)) is not None:
            add_position(self, place)

    def _known(self, name: str) -> bool:
        """Return whether a part of the input is the same for all candidates."""
        return name not in self.differing if name in self.read else name in self.once

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `request_ranker`."""
        shared = self.shared({name: values for name, values in batch.items() if name in self.once})
        own = self.own({name: values for name, values in batch.items() if name not in self.once})
        rows = _count(batch, self.once)
        values = {**shared.categorical, **shared.numeric, **own.categorical, **own.numeric}
        each = EmbeddedFields(
            own.stacked,
            shared.categorical | own.categorical,
            shared.sequences | own.sequences,
            shared.masks | own.masks,
            {},
            shared.elapsed | own.elapsed,
            ids=shared.ids | own.ids,
        )
        for name, encoder in self.histories.items():
            history, reads = self.read[name], cast(SequenceEncoder, encoder)
            if name in self.matched:
                values[name] = history.of_request(reads, each, rows)
            else:
                fields = _repeated(each, history, rows) if name in self.differing else each
                values[name] = history.encoded(reads, fields)
        if not self.divided:
            ids = {name: each.ids[name].expand(rows) for name in each.categorical}
            x = self.meet(self._fields({name: vector.expand(rows, -1) for name, vector in values.items()}, ids))
            outputs: dict[str, Tensor] = self.head(x, self.domain.route(x, repeated(batch, self.once, rows)))
            return outputs
        halves = Halves(
            shared=torch.cat([values[name] for name in self.order if self._known(name)], dim=1),
            own=torch.cat([values[name] for name in self.order if not self._known(name)], dim=1),
        )
        outputs = self.head(self.meet(halves), self.domain.route(halves.own, batch))
        return outputs

    def _fields(self, values: dict[str, Tensor], ids: dict[str, Tensor]) -> FieldVectors:
        """Return the fields of N rows as the interaction reads them; see `ComposedRanker.field_vectors`."""
        width = self.shared.width
        whole = [values[name] for name in self.order if self._embedded(name)]
        others = tuple(values[name] for name in self.order if not self._embedded(name))
        return FieldVectors(tuple(vector.unflatten(1, (-1, width)) for vector in whole), others, ids)

    def _embedded(self, name: str) -> bool:
        if name in self.histories:
            return _width(self.histories[name]) % self.shared.width == 0
        return name not in self.shared.numeric and name not in self.own.numeric


class RequestGnolr(nn.Module):
    """GNOLR with the network of the user run once, where the request has all that it reads.

    Raises:
        BadInputError: nothing is shared, or nothing differs.
    """

    def __init__(self, ranker: Gnolr, once: Collection[str]) -> None:
        super().__init__()
        self.ranker, self.once = ranker, frozenset(once)
        read = {*ranker.user_fields, *ranker.item_fields}
        _check(read, self.once)
        self.shared = _part(ranker.embedding, self.once)
        self.own = _part(ranker.embedding, read - self.once)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `request_ranker`."""
        ranker, rows = self.ranker, _count(batch, self.once)
        shared = self.shared({name: values for name, values in batch.items() if name in self.once})
        own = self.own({name: values for name, values in batch.items() if name not in self.once})

        def side(names: Sequence[str]) -> Tensor:
            parts = [side_by_side(shared if name in self.once else own, (name,)) for name in names]
            same = {*names} <= self.once
            return torch.cat(parts if same else [part.expand(rows, -1) for part in parts], dim=1)

        user = ranker.user(side(ranker.user_fields))
        item = ranker.seen(ranker.item(side(ranker.item_fields)), repeated(batch, self.once, rows))
        outputs = ranker.met(user, item.expand(rows, -1, -1))
        place = getattr(ranker, "place", None)
        return outputs if place is None else place.added(repeated(batch, self.once, rows), outputs)


class RepeatedRequest(nn.Module):
    """Any ranker, whose graph repeats the row of the request for each candidate.

    Raises:
        BadInputError: nothing is shared, or nothing differs.
    """

    def __init__(self, ranker: RankerModule, schema: RankerSchema, once: Collection[str]) -> None:
        super().__init__()
        _check({field.name for field in schema.fields}, once)
        self.ranker, self.once = ranker, frozenset(once)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `request_ranker`."""
        outputs: dict[str, Tensor] = self.ranker(repeated(batch, self.once, _count(batch, self.once)))
        return outputs


def _count(batch: dict[str, Tensor], once: Collection[str]) -> int:
    """Return N, the rows of the fields that candidates have each."""
    return next(values.shape[0] for name, values in batch.items() if name not in once)


def repeated(batch: dict[str, Tensor], once: Collection[str], rows: int) -> dict[str, Tensor]:
    """Return a batch whose fields in `once` have `rows` rows, all the same, without a copy."""
    return {name: values.expand(rows, *values.shape[1:]) if name in once else values for name, values in batch.items()}


def _inputs(history: History, encoder: SequenceEncoder) -> set[str]:
    """Return the fields that decide what an encoder answers."""
    return {*history.fields, *filter(None, (*history.targets, history.times if encoder.reads_times else None))}


def _repeated(fields: EmbeddedFields, history: History, rows: int) -> EmbeddedFields:
    """Return what one history reads with as many rows as there are candidates, without a copy."""

    def each(values: dict[str, Tensor], names: Iterable[str | None]) -> dict[str, Tensor]:
        return {n: values[n].expand(rows, *values[n].shape[1:]) for n in names if n is not None and n in values}

    return EmbeddedFields(
        fields.stacked,
        each(fields.categorical, history.targets),
        each(fields.sequences, history.fields),
        each(fields.masks, history.fields),
        {},
        each(fields.elapsed, [history.times]),
        ids=each(fields.ids, (*history.fields, *history.targets)),
    )


def _part(embedding: FieldEmbedding, names: Collection[str]) -> FieldEmbedding:
    """Return the same tables for some of the fields."""
    part = copy.copy(embedding)
    part.embedded = tuple(field for field in embedding.embedded if field.name in names)
    part.numeric = {name: width for name, width in embedding.numeric.items() if name in names}
    part.elapsed = tuple(name for name in embedding.elapsed if name in names)
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
