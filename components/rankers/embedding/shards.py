"""Which worker holds which rows of a table that is larger than one of them, and how do rows and gradients travel?

Row r lies with worker r mod W, as its r div W-th. The rows of a field follow each other, and values that many read
often do too: in blocks one worker would hold what all others ask for. Dealt out in turn, all hold, send and learn about
as much, and who holds a row follows from its number alone.

Rows travel once a step each way, whatever the ranker does with them. Before the forward pass a worker asks for all rows
that its part of the batch reads, each once; after the backward pass it sends the gradient of each to the worker that
holds it, which adds up those of all workers in the workers' order. So a look-up waits for nobody, and a ranker may read
its table as often as it likes, or on one worker and not on another. The exchange is that of Mudigere et al.,
"Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation Models", ISCA 2022,
for tables that are sharded row-wise, with each row asked for once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from components.platform.errors import RankmillError
from components.rankers.distributed import exchanged
from components.rankers.embedding.sparse_gradient import roomy_zeros, sorted_on_its_device, summed_by_row

_NORMAL_LOT = 16
"""Numbers that torch's generator draws together: draws of a multiple of it continue each other."""
_DRAWN_AT_ONCE = 2**20
"""Numbers of a table that are drawn before those of other workers among them are let go."""


@dataclass(frozen=True)
class Shard:
    """The rows of a table that one worker holds."""

    rank: int = 0
    """Which worker."""
    world: int = 1
    """W, of how many; a single one holds all rows."""

    def held(self, rows: int) -> int:
        """Return how many of the first `rows` rows of a table lie here."""
        return len(range(self.rank, rows, self.world))

    def numbers(self, first: int, end: int) -> Tensor:
        """Return int64 ``[end - first]``, which rows of the table those from `first` to `end` of this shard are."""
        return torch.arange(first, end) * self.world + self.rank

    def holds(self, rows: Tensor) -> Tensor:
        """Return bool ``[n]``, which of the rows int64 ``[n]`` lie here."""
        return rows % self.world == self.rank

    def places(self, rows: Tensor) -> Tensor:
        """Return int64 ``[n]``, where in the shard of their worker rows int64 ``[n]`` lie."""
        return rows // self.world


WHOLE = Shard()
"""All rows, which a single worker holds."""
_SHARD: ContextVar[Shard] = ContextVar("shard", default=WHOLE)


@contextmanager
def sharded(shard: Shard) -> Iterator[None]:
    """Let embeddings that are built in the block hold one worker's rows of their tables."""
    before = _SHARD.set(shard)
    try:
        yield
    finally:
        _SHARD.reset(before)


def asked_shard() -> Shard:
    """Return which rows an embedding that is built now is to hold."""
    return _SHARD.get()


def initial_rows(rows: int, width: int, std: float, shard: Shard) -> Tensor:
    """Draw a table of standard deviation `std` from torch's generator, and return what a shard holds of it.

    Every worker draws all numbers, and keeps its own, so that any number of workers starts with the same table and
    leaves the generator in the same state.

    Args:
        rows: V, of the whole table.
        width: d.
        std: σ.
        shard: which rows are kept.

    Returns:
        float32 ``[held, d]``.
    """
    if shard.world == 1:
        return roomy_zeros(rows, width).normal_().mul_(std)  # in place: a table may be most of the memory
    kept = roomy_zeros(shard.held(rows), width)
    step = _NORMAL_LOT * max(1, _DRAWN_AT_ONCE // (_NORMAL_LOT * width))
    start = 0
    while start < rows:
        # A last block below a lot would be drawn in another way, so it goes with the one before.
        end = start + step if rows - start >= 2 * step else rows
        block = torch.empty(end - start, width).normal_()
        kept[shard.held(start) : shard.held(end)] = block[(shard.rank - start) % shard.world :: shard.world]
        start = end
    return kept.mul_(std)


@dataclass(frozen=True)
class FetchedRows:
    """The rows of a table that one batch reads, brought together from all workers."""

    rows: Tensor
    """int64 ``[U]``, ascending, each once."""
    vectors: Tensor
    """float32 ``[U, d]``."""

    def places(self, rows: Tensor) -> Tensor:
        """Return int64 ``[...]``, where among the fetched rows those numbered int64 ``[...]`` are.

        Raises:
            RankmillError: a row was not fetched.
        """
        at = torch.searchsorted(self.rows, rows).clamp_(max=max(len(self.rows) - 1, 0))
        if rows.numel() and (not len(self.rows) or not torch.equal(self.rows[at], rows)):
            raise RankmillError(
                "the ranker reads rows of its table that are none of its batch's: fetch those of this batch first, "
                "or leave tables.sharded out"
            )
        return at


def fetched(shard_rows: Tensor, wanted: Tensor, shard: Shard) -> FetchedRows:
    """Return rows of a sharded table; every worker has to call it at the same time, also one that wants none.

    Args:
        shard_rows: float32 ``[held, d]``, what this worker holds.
        wanted: int64 ``[n]``, row numbers of the whole table in any order, also repeated.
        shard: which worker this is.

    Raises:
        RetryableError: another worker is gone.
    """
    rows = _distinct(wanted)
    order, counts = _by_worker(rows, shard)
    asked, theirs = exchanged(rows.index_select(0, order), counts)
    answers, _ = exchanged(shard_rows.detach().index_select(0, shard.places(asked)), theirs, counts)
    vectors = torch.empty_like(answers).index_copy_(0, order, answers)
    return FetchedRows(rows, vectors.requires_grad_(torch.is_grad_enabled()))


def sent_home(rows: Tensor, gradients: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Send gradients to the workers that hold their rows, and return the sums of those that arrived here.

    Args:
        rows: int64 ``[U]``, ascending and each once, row numbers of the whole table.
        gradients: float32 ``[U, d]``.
        shard: which worker this is.

    Returns:
        int64 ``[u]``, ascending and each once, places in the shard, and float32 ``[u, d]``; what equal rows got is
        added in the order of the workers, so the sums are those of workers that hold the whole table each.

    Raises:
        RetryableError: another worker is gone.
    """
    order, counts = _by_worker(rows, shard)
    arrived, theirs = exchanged(rows.index_select(0, order), counts)
    parts, _ = exchanged(gradients.index_select(0, order), counts, theirs)
    if not len(arrived):
        return arrived, parts
    mine, sums = summed_by_row(arrived, parts)
    return shard.places(mine), sums


def _distinct(rows: Tensor) -> Tensor:
    """Return int64 ``[U]``, ascending and each once."""
    return torch.unique_consecutive(sorted_on_its_device(rows.reshape(-1)))


def _by_worker(rows: Tensor, shard: Shard) -> tuple[Tensor, Tensor]:
    """Return int64 ``[U]``, an order of rows by who holds them, and int64 ``[W]``, how many each worker holds."""
    owner = rows % shard.world
    return owner.argsort(stable=True), torch.bincount(owner, minlength=shard.world)
