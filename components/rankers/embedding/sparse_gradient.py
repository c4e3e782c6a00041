"""Which rows of a table did a step read, and how should they change? A gradient for touched rows only.

A dense gradient of a table is as large as the table, and an optimiser that walks over it pays for every row at every
step. Here the backward pass only notes row numbers and the gradients of what was read there; `combined` adds up the
gradients of equal rows, so that a step costs what the batch holds, however large the table is.

A step reads rows all over the table. With pages of 4 KiB nearly every such read first has to look up where its page
is; in pages of 2 MiB, which `roomy_zeros` asks for, they are few enough for the processor to remember them.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

LEAST_BYTES = 32 * 2**20
"""Smaller tables gain nothing."""
_POSITION_BITS = 24
"""Room for a position of a batch beside a row number in one int64: 16 M reads a step, 5·10¹¹ rows."""


def roomy_zeros(*shape: int) -> Tensor:
    """Return float32 zeros on the CPU, in large pages where there is enough to fill some and the system has them."""
    size = 4 * prod(shape)
    if size < LEAST_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without them: pages of the usual size then
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)


class TouchedRows:
    """Collects what the backward pass of one step sends to the rows of one table.

    Args:
        silent: int64 ``[n]``, ascending: rows that never learn (padding).
    """

    def __init__(self, silent: Tensor) -> None:
        self.silent = silent
        self._rows: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._of: list[Tensor | None] = []

    def clear(self) -> None:
        """Start a step."""
        self._rows.clear()
        self._gradients.clear()
        self._of.clear()

    def add(self, rows: Tensor, gradients: Tensor, of: Tensor | None = None) -> None:
        """Note the gradients of what was read.

        Args:
            rows: int64 ``[...]``, where.
            gradients: float ``[..., d]``, of each row; with `of`, float ``[m, d]``, of sums of rows.
            of: int64 ``[n]``, which sum each of n rows is part of.
        """
        self._rows.append(rows.reshape(-1))
        self._gradients.append(gradients)
        self._of.append(of)

    def combined(self, width: int) -> tuple[Tensor, Tensor]:
        """Return the rows that were touched and the sum of each row's gradients.

        Args:
            width: d, width of a row.

        Returns:
            int64 ``[U]``, ascending and each once, and float32 ``[U, d]``; silent rows have gradient 0.
        """
        if not self._rows:
            return self.silent.new_zeros(0), torch.zeros((0, width), device=self.silent.device)
        rows, gradients = summed_by_row(_joined(self._rows), _stacked(self._gradients, width), self._places())
        if len(self.silent):
            at = torch.searchsorted(rows, self.silent).clamp_(max=len(rows) - 1)
            gradients[at[rows[at] == self.silent]] = 0.0
        return rows, gradients

    def repeated(self, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `combined` returns, of as many rows as were read, so that nobody waits for how many differ.

        Args:
            width: d, width of a row.

        Returns:
            int64 ``[n]``, float32 ``[n, d]`` and int64 ``[]``, U: the first U rows are those of `combined`, the others
            repeat the last of them with its gradient.
        """
        if not self._rows:
            return *self.combined(width), torch.zeros((), dtype=torch.int64, device=self.silent.device)
        read = _joined(self._rows)
        rows, gradients, count = repeated_by_row(read, _stacked(self._gradients, width), self._places())
        if len(self.silent):
            at = torch.searchsorted(self.silent, rows).clamp_(max=len(self.silent) - 1)
            gradients.masked_fill_((self.silent.index_select(0, at) == rows).unsqueeze(1), 0.0)
        return rows, gradients, count

    def _places(self) -> Tensor | None:
        """Return int64 ``[n]``, by row its place among all gradients; None where that is the row's own."""
        if all(of is None for of in self._of):
            return None
        first, places = 0, []
        for rows, gradients, of in zip(self._rows, self._gradients, self._of, strict=True):
            own = torch.arange(len(rows), device=rows.device) if of is None else of
            places.append(own + first)
            first += gradients.shape[:-1].numel()
        return _joined(places)


def _joined(parts: list[Tensor]) -> Tensor:
    """Return tensors one after the other; a single one, which is the rule, without a copy."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _stacked(parts: list[Tensor], width: int) -> Tensor:
    """Return float32 ``[m, d]`` of gradients ``[..., d]``, which may be views of wider rows: each is copied once."""
    if len(parts) == 1 and parts[0].dtype == torch.float32:
        return parts[0].reshape(-1, width)
    made = torch.empty((sum(part.shape[:-1].numel() for part in parts), width), device=parts[0].device)
    first = 0
    for part in parts:
        size = part.shape[:-1].numel()
        made[first : first + size].view(part.shape).copy_(part)
        first += size
    return made


def summed_by_row(rows: Tensor, gradients: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Add up gradients of equal rows, always in the same order.

    One sort of ``row · 2²⁴ + position`` groups equal rows and keeps their order, so that the sums do not depend on
    threads.

    Args:
        rows: int64 ``[n]``.
        gradients: float32 ``[m, d]``.
        of: int64 ``[n]``, by row the gradient that it gets; each its own when left out.

    Returns:
        int64 ``[U]`` ascending, float32 ``[U, d]``.
    """
    order, grouped, first = _grouped(rows)
    starts = torch.nonzero(first).squeeze(1)
    if of is not None:
        order = of.index_select(0, order)
    return grouped[starts], functional.embedding_bag(order, gradients, starts, mode="sum")


def repeated_by_row(rows: Tensor, gradients: Tensor, of: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Add up gradients of equal rows as `summed_by_row` does, without anybody waiting for how many rows differ.

    How many they are decides no shape: groups that are not there are empty, and repeat the last that is.

    Args:
        rows: int64 ``[n]``.
        gradients: float32 ``[m, d]``.
        of: as in `summed_by_row`.

    Returns:
        int64 ``[n]``, float32 ``[n, d]`` and int64 ``[]``, U: the first U are what `summed_by_row` returns, the others
        equal the last of them.
    """
    order, grouped, first = _grouped(rows)
    if of is not None:
        order = of.index_select(0, order)
    place = torch.arange(len(rows), device=rows.device)
    group = first.cumsum(0) - 1
    # Where each group begins; whatever begins none goes to a place of its own behind them.
    starts = place.new_full((len(rows) + 1,), len(rows))
    starts = starts.scatter_(0, torch.where(first, group, len(rows)), place)[:-1]
    sums = functional.embedding_bag(order, gradients, starts, mode="sum")
    count = first.sum()
    at = torch.minimum(place, count - 1)
    return grouped.index_select(0, starts.index_select(0, at)), sums.index_select(0, at), count


def _grouped(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return int64 ``[n]`` places and rows, sorted by row, then by place, and bool ``[n]``: where a row is new."""
    place = torch.arange(len(rows), device=rows.device)
    packed = sorted_on_its_device((rows << _POSITION_BITS) | place)
    order, sorted_rows = packed & ((1 << _POSITION_BITS) - 1), packed >> _POSITION_BITS
    first = torch.ones_like(sorted_rows, dtype=torch.bool)
    torch.ne(sorted_rows[1:], sorted_rows[:-1], out=first[1:])
    return order, sorted_rows, first


def sorted_on_its_device(values: Tensor) -> Tensor:
    """Return int64 ``[n]`` in ascending order; numpy's vectorised sort is several times faster on a CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy()))
    return values.sort().values


class _Gather(torch.autograd.Function):
    """Read rows; the gradient goes to the collector instead of a dense tensor."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, touched: TouchedRows, places: Tensor | None) -> Tensor:
        """Return the rows, ``weight[rows]`` or ``weight[places]``."""
        ctx.rows, ctx.touched = rows, touched
        return functional.embedding(rows if places is None else places, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None]:
        """Note the gradient of what was read."""
        ctx.touched.add(ctx.rows, gradients[0])
        return None, None, None, None


class _Sums(torch.autograd.Function):
    """Read rows and add up those of each history, without a vector per event in either direction."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        rows: Tensor,
        offsets: Tensor,
        of: Tensor,
        heard: Tensor | None,
        touched: TouchedRows,
        places: Tensor | None,
    ) -> Tensor:
        """Return the sums of ``weight[rows]``, or ``weight[places]``, between offsets."""
        ctx.rows, ctx.of, ctx.heard, ctx.touched, ctx.shape = rows, of, heard, touched, weight.shape
        return functional.embedding_bag(
            rows if places is None else places,
            weight,
            offsets,
            mode="sum",
            include_last_offset=True,
            per_sample_weights=heard,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None, None, None, None, None]:
        """Note the gradient of each sum, or spread it over its rows where the table's gradient is dense."""
        if ctx.touched is not None:
            ctx.touched.add(ctx.rows, gradients[0], ctx.of)
            return None, None, None, None, None, None, None
        each = gradients[0].index_select(0, ctx.of)
        if ctx.heard is not None:
            each *= ctx.heard.unsqueeze(1)
        dense = each.new_zeros(ctx.shape).index_add_(0, ctx.rows, each)
        return dense, None, None, None, None, None, None


def gather_sums(
    weight: Tensor,
    rows: Tensor,
    offsets: Tensor,
    of: Tensor,
    heard: Tensor | None,
    touched: TouchedRows | None,
    places: Tensor | None = None,
) -> Tensor:
    """Return float32 ``[B, d]``, what the rows of each history add up to.

    Args:
        weight: float32 ``[V, d]``.
        rows: int64 ``[N]``, the histories one after the other.
        offsets: int64 ``[B + 1]``, where each begins and the last ends.
        of: int64 ``[N]``, the history of each row.
        heard: float32 ``[N]``, 0 for a row that says nothing, else 1; None where rows that say nothing are zero and
            never learn.
        touched: as in `gather`.
        places: as in `gather`.
    """
    sums: Tensor = _Sums.apply(weight, rows, offsets, of, heard, touched, places)
    return sums


def gather(weight: Tensor, rows: Tensor, touched: TouchedRows | None, places: Tensor | None = None) -> Tensor:
    """Return float32 ``[..., d]``, the rows of `weight` at int64 ``[...]``.

    Args:
        weight: float32 ``[V, d]``.
        rows: row numbers.
        touched: where the gradient goes; None for the dense gradient of `weight`.
        places: int64 ``[...]``, where `weight` has the rows, if it is not the table that they are numbered in.
    """
    if touched is None or not torch.is_grad_enabled():
        return functional.embedding(rows if places is None else places, weight)
    vectors: Tensor = _Gather.apply(weight, rows, touched, places)
    return vectors
