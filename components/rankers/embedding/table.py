"""How do indices become vectors? One fused table, one gather for all fields, a zero row for padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import ClassVar

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.config import PartConfig
from components.rankers.embedding.events import Events, Stretches, newest_of, stretches_of
from components.rankers.embedding.shards import WHOLE, FetchedRows, Shard, asked_shard, fetched, initial_rows
from components.rankers.embedding.sparse_gradient import TouchedRows, gather, gather_sums
from components.rankers.sequences.mean import masked_mean
from features.declaration import FIRST, PADDING, UNKNOWN, FieldSpec, offsets_name


@dataclass(frozen=True)
class EmbeddedFields:
    """The inputs of a batch of B rows as vectors of width d; fields keep the order of the schema."""

    stacked: Tensor
    """All C categorical fields, float32 ``[B, C, d]``."""
    categorical: dict[str, Tensor]
    """By field, float32 ``[B, d]``, views of `stacked`."""
    sequences: dict[str, Tensor]
    """By field, float32 ``[B, L, d]``; positions that hold padding are zero."""
    masks: dict[str, Tensor]
    """By sequence field, float32 ``[B, L]``: 1 where there is an event, 0 where there is padding."""
    numeric: dict[str, Tensor]
    """By field, float32 ``[B, n]``: n is 1 for a number, or how many tell it, and the width of a vector."""
    elapsed: dict[str, Tensor]
    """By field, float32 ``[B, L]`` seconds from an event to the request, below 0 where none is visible; ``[N]`` of
    a field in `stretches`."""
    events: dict[str, Events] = default(default_factory=dict)
    """By sequence field that the batch holds without padding, its events; it is not in `sequences` then."""
    stretches: dict[str, Stretches] = default(default_factory=dict)
    """By field without padding, where its histories lie."""
    ids: dict[str, Tensor] = default(default_factory=dict)
    """By categorical or sequence field, the indices themselves, int64 as the batch has them; without padding they are
    in `events`."""

    def mean(self, name: str) -> Tensor:
        """Return float32 ``[B, d]``, the mean of a sequence field's events; zero where there are none."""
        if name in self.events:
            return self.events[name].mean()
        return masked_mean(self.sequences[name], self.masks[name])


class FieldEmbedding(nn.Module):
    """The embedding tables of all fields, kept as one.

    Each table is a block of rows of the fused table, starting at its offset. Row 0 of a block stands for padding and
    missing values: it is zero and never learns. Row 1 stands for unknown values: it starts at zero, so that where it
    never learns an unknown value says nothing, instead of something random. Initial weights have standard deviation
    `std`, 0 starts at zero; with `shared`, fields that name the same table share its rows.

    Raises:
        BadInputError: fields that share a table disagree about its size.
    """

    touched: TouchedRows | None = None
    """Where the gradient of the table goes; None for the dense gradient."""
    first_heard: int = UNKNOWN
    """Least index that has a vector; those below are zero whatever the table holds."""
    newest: int | None = None
    """Most events of a history that are read, the newest; None for all."""
    divisible: ClassVar[bool] = True
    """Whether workers may each hold a shard of the table."""
    shard: Shard = WHOLE
    """Which rows of the table this worker holds."""
    fetched: FetchedRows | None = None
    """What the batch reads, where no worker holds the whole table."""
    rows: int
    """V, rows of the whole table."""

    def __init__(self, fields: Sequence[FieldSpec], width: int, std: float = 0.01, shared: bool = True) -> None:
        super().__init__()
        rows = self.lay_out(fields, width, shared)
        self.hold(rows, std)
        silent = [first + i for first in set(self.offsets.values()) for i in (PADDING, *range(UNKNOWN, FIRST))]
        mine = torch.tensor(silent, dtype=torch.int64)
        with torch.no_grad():
            self.weight[self.shard.places(mine[self.shard.holds(mine)])] = 0.0

    @classmethod
    def of(cls, fields: Sequence[FieldSpec], config: PartConfig) -> FieldEmbedding:
        """Return a new embedding of a config: `embedding_width`, `embedding_std`."""
        return cls(fields, config.embedding_width, config.embedding_std)

    def lay_out(self, fields: Sequence[FieldSpec], width: int, shared: bool) -> int:
        """Give every table its place among the rows of all tables, and return how many rows that are."""
        self.width = width
        self.numeric = {f.name: max(f.length, 1) for f in fields if f.kind in ("numeric", "vector")}
        self.elapsed = tuple(f.name for f in fields if f.kind == "elapsed")
        self.embedded = tuple(f for f in fields if f.embedded)
        self.offsets, rows = _offsets(self.embedded, shared)
        return rows

    def hold(self, rows: int, std: float) -> None:
        """Draw a table of so many rows, of which this worker keeps its shard, or all."""
        self.rows = rows
        if self.divisible:
            self.shard = asked_shard()
        self.weight = nn.Parameter(initial_rows(rows, self.width, std, self.shard))

    def fetch(self, batch: Mapping[str, Tensor] | None) -> None:
        """Bring together what `forward` reads of a batch, where the table is sharded; None has no row.

        Every worker has to call it at the same time, before each batch.

        Raises:
            RetryableError: another worker is gone.
        """
        if self.shard.world == 1:
            return
        parts = [batch[f.name].reshape(-1) + self.offsets[f.name] for f in self.embedded] if batch else []
        wanted = torch.cat([self.read_at(part) for part in parts]) if parts else torch.zeros(0, dtype=torch.int64)
        self.fetched = fetched(self.weight, wanted.to(self.weight.device), self.shard)

    def read_at(self, rows: Tensor) -> Tensor:
        """Return int64 ``[n]``, where the table is read for the vectors of row numbers int64 ``[m]``."""
        return rows

    def learn_by_rows(self) -> TouchedRows | None:
        """Send gradients of the table to a collector from now on instead of into `weight.grad`.

        Returns:
            The collector, which the optimiser has to empty at every step; None where the table is frozen.
        """
        if not self.weight.requires_grad:
            return None
        self.touched = TouchedRows(self.silent_rows().to(self.weight.device))
        return self.touched

    def silent_rows(self) -> Tensor:
        """Return int64 ``[n]``, ascending: rows of padding, which stay zero."""
        return torch.tensor(sorted(set(self.offsets.values())), dtype=torch.int64)

    def look_up(self, rows: Tensor) -> Tensor:
        """Return float32 ``[..., d]``, the vectors of int64 ``[...]`` row numbers."""
        return self.gather(rows)

    def gather(self, rows: Tensor) -> Tensor:
        """Return float32 ``[..., d]``, the rows of the table at int64 ``[...]``, wherever they lie."""
        if self.fetched is None:
            return gather(self.weight, rows, self.touched)
        return gather(self.fetched.vectors, rows, self.touched, self.fetched.places(rows))

    def look_up_sums(self, rows: Tensor, at: Stretches, heard: Tensor | None) -> Tensor:
        """Return float32 ``[B, d]``, what the vectors of each history add up to.

        Args:
            rows: int64 ``[N]`` row numbers.
            at: where the histories lie.
            heard: float32 ``[N]``, 0 for a row without a vector, else 1; None where those rows are zero.
        """
        if type(self).look_up is not FieldEmbedding.look_up:  # vectors are no rows, or not rows alone
            vectors = self.look_up(rows)
            return at.sums(vectors if heard is None else vectors * heard.unsqueeze(1))
        if self.fetched is None:
            return gather_sums(self.weight, rows, at.offsets, at.owner, heard, self.touched)
        places = self.fetched.places(rows)
        return gather_sums(self.fetched.vectors, rows, at.offsets, at.owner, heard, self.touched, places)

    def forward(self, batch: dict[str, Tensor]) -> EmbeddedFields:
        """Return every field of `batch` as vectors.

        Args:
            batch: int64 ``[B]`` per categorical, int64 ``[B, L]`` per sequence (L may be 0 and may
                differ between fields), float32 ``[B]`` or ``[B, n]`` per number, ``[B, n]`` per vector, ``[B, L]`` per
                elapsed field; ``[N]`` of a sequence or elapsed field with `offsets_name`, int64 ``[B + 1]``.
        """
        if self.newest is not None:
            dated = [f.name for f in self.embedded if f.kind == "sequence" and not f.pooled]
            batch = newest_of(batch, (*self.elapsed, *dated), self.newest)
        numeric = {name: batch[name].reshape(-1, width) for name, width in self.numeric.items()}
        elapsed = {name: batch[name] for name in self.elapsed}
        histories = [f.name for f in self.embedded if f.kind == "sequence"]
        stretches = stretches_of(batch, (*self.elapsed, *histories))
        events = {
            name: Events(self, batch[name], self.offsets[name], stretches[name])
            for name in histories
            if name in stretches
        }
        # One column per value, the categorical fields first: [B, 1] of each, [B, L] of a sequence.
        narrow = [f.name for f in self.embedded if f.kind != "sequence"]
        long = [name for name in histories if name not in events]
        if not narrow and not long:
            none = self.weight.new_zeros((_rows(batch), 0, self.width))
            return EmbeddedFields(none, {}, {}, {}, numeric, elapsed, events, stretches)
        columns = [batch[name].unsqueeze(1) for name in narrow] + [batch[name] for name in long]
        ids = torch.cat(columns, dim=1)
        widths = [column.shape[1] for column in columns]
        starts = [torch.full((1,), self.offsets[name], device=ids.device) for name in narrow + long]
        vectors = self.look_up(ids + torch.cat([s.expand(n) for s, n in zip(starts, widths, strict=True)]))
        present = (ids != PADDING).to(vectors.dtype)
        if self.touched is None or not len(self.touched.silent):  # rows that never learn need no mask
            vectors = vectors * (ids >= self.first_heard).to(vectors.dtype).unsqueeze(2)
        # One split, not slices: the gradient of a slice is a table of zeros as large as all vectors.
        sizes = [len(narrow), *widths[len(narrow) :]]
        stacked, *encoded = torch.split(vectors, sizes, dim=1)
        parts = dict(zip(long, encoded, strict=True))
        masks = dict(zip(long, torch.split(present, sizes, dim=1)[1:], strict=True))
        categorical = {name: stacked[:, i] for i, name in enumerate(narrow)}
        given = {name: batch[name] for name in narrow + long}
        return EmbeddedFields(stacked, categorical, parts, masks, numeric, elapsed, events, stretches, given)


def fetch(ranker: nn.Module, batch: Mapping[str, Tensor] | None) -> None:
    """Bring together what a ranker's forward pass reads of a batch; see `FieldEmbedding.fetch`."""
    embedding = getattr(ranker, "embedding", None)
    if isinstance(embedding, FieldEmbedding):
        embedding.fetch(batch)


def _rows(batch: dict[str, Tensor]) -> int:
    """Return B, of which a jagged field says one more, and its values nothing."""
    name, values = next(iter(batch.items()))
    offsets = batch.get(offsets_name(name))
    return values.shape[0] if offsets is None else offsets.shape[0] - 1


def side_by_side(fields: EmbeddedFields, names: Sequence[str]) -> Tensor:
    """Return some fields next to each other, float32 ``[B, D]``: vectors, means of histories and bags, numbers."""
    parts = [
        fields.categorical[name]
        if name in fields.categorical
        else fields.numeric[name]
        if name in fields.numeric
        else fields.mean(name)
        for name in names
    ]
    return torch.cat([fields.stacked.new_zeros((fields.stacked.shape[0], 0)), *parts], dim=1)


def _offsets(fields: Sequence[FieldSpec], shared: bool) -> tuple[dict[str, int], int]:
    """Return the first row of each field's table, and the rows of all tables together."""
    first: dict[str, int] = {}
    owner: dict[str, FieldSpec] = {}
    rows = 0
    for field in fields:
        table = field.table if shared and field.table else field.name
        if table not in owner:
            owner[table], first[table] = field, rows
            rows += field.size
        elif owner[table].size != field.size:
            raise BadInputError(
                f"fields {owner[table].name!r} and {field.name!r} share the table {table!r} but have "
                f"{owner[table].size} and {field.size} rows: build the training set again"
            )
    return {f.name: first[f.table if shared and f.table else f.name] for f in fields}, rows
