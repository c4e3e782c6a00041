"""How do events, context and candidate become tokens? What happened, through which channel, and how long ago.

An event's token is ``LN( Σ attribute vectors + channel vector + time encoding )``. TIMeSynC adds calendar vectors of
the event's own clock; here only the time from event to request is in the batch. It is encoded as what it can tell
exactly: how long ago (on a logarithmic scale), and how far from the request's own hour of the day and of the week.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from components.rankers.embedding.events import Stretches, together
from components.rankers.embedding.table import EmbeddedFields
from features.declaration import FieldSpec, RankerSchema

DAY = 86_400.0
"""Seconds."""
KNOTS = 32
"""Learned vectors on the logarithmic scale of elapsed time; between two of them their mixture holds."""
LONGEST = 2.0**25
"""Seconds, some 13 months: whatever is longer ago shares the last knot."""
CYCLES = (DAY, 7 * DAY)
"""Seconds after which the clock shows the same hour, or the same hour of the same weekday."""
TIME_FEATURES = KNOTS + 2 * len(CYCLES)


@dataclass(frozen=True)
class Layout:
    """Which field feeds which token; names keep the order of the schema."""

    streams: tuple[tuple[str, tuple[str, ...]], ...]
    """Per channel, the elapsed field and the sequences that it times."""
    vectors: tuple[tuple[str, int], ...]
    """Fields of dated vectors, each a token of its own, with their widths."""
    static: tuple[str, ...]
    """Fields of the user and of the request: one token."""
    candidate: tuple[str, ...]
    """Fields of the item and of the request: one token per candidate."""

    @classmethod
    def of(cls, schema: RankerSchema) -> Layout:
        """Return the layout of a schema; sequences without times are bags and join their side's token."""
        fields, sides = schema.fields, schema.sides
        channels = [field.name for field in fields if field.kind == "elapsed"]
        timed = {field.name for field in fields if field.kind == "sequence" and field.timed_by in channels}
        rest = [f for f in fields if f.kind != "elapsed" and f.name not in timed]
        item = [f for f in rest if sides.get(f.name) == "item"]
        # A vector of the item describes the candidate; all others are what a foundation model knew of the user.
        known = [f for f in rest if f.kind == "vector" and f not in item]
        request = [f for f in rest if f.name not in sides and f not in known]
        return cls(
            streams=tuple(
                (channel, tuple(f.name for f in fields if f.name in timed and f.timed_by == channel))
                for channel in channels
            ),
            vectors=tuple((f.name, f.length) for f in known),
            static=_names(f for f in rest if f not in item and f not in known),
            candidate=_names([*item, *request]),
        )


def _names(fields: Iterable[FieldSpec]) -> tuple[str, ...]:
    return tuple(field.name for field in fields)


def time_features(seconds: Tensor) -> Tensor:
    """Return what tells how long ago an event was, float32 ``[..., TIME_FEATURES]``.

    Knot k is at its height of 1 at one elapsed time and falls to 0 at those of its neighbours, so the features
    change without jumps: graph and module agree also where rounding differs. Then sine and cosine per cycle.

    Args:
        seconds: float32 ``[...]``, 0 or more.
    """
    place = torch.log1p(seconds.clamp(max=LONGEST)) * ((KNOTS - 1) / math.log1p(LONGEST))
    knots = torch.arange(KNOTS, dtype=seconds.dtype, device=seconds.device)
    heights = torch.relu(1.0 - (place.unsqueeze(-1) - knots).abs())
    phases = [seconds / cycle for cycle in CYCLES]
    turns = torch.stack([(phase - phase.floor()) * (2 * math.pi) for phase in phases], dim=-1)
    return torch.cat([heights, turns.sin(), turns.cos()], dim=-1)


class Fuse(nn.Module):
    """One token of many fields: ``LN( W [vectors; means of bags; numbers] + b )``; without any field, of b alone."""

    def __init__(self, names: Sequence[str], numeric: dict[str, int], width: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.out_features = sum(numeric.get(name, width) for name in names)
        self.mix = nn.ModuleList([nn.Linear(self.out_features, width, bias=False)] if names else [])
        self.base = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, together: Tensor) -> Tensor:
        """Return float32 ``[B, d]`` of the fields side by side, float32 ``[B, out_features]``."""
        mixed = self.base.expand(together.shape[0], -1)
        for mix in self.mix:
            mixed = mixed + mix(together)
        token: Tensor = self.norm(mixed)
        return token


class DatedVector(nn.Module):
    """One token of a foundation model's vector: ``LN( W x + known )``, or ``LN( missing )`` where x is all zero."""

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(in_features, width, bias=False)
        self.presence = nn.Parameter(torch.randn(2, width))
        """What stands for a missing vector, and what is added to one that is there."""
        self.norm = nn.LayerNorm(width)

    def forward(self, vector: Tensor) -> Tensor:
        """Return float32 ``[B, d]`` of float32 ``[B, in_features]``."""
        known = (vector != 0).any(dim=1, keepdim=True).to(vector.dtype)
        presence = self.presence[0] * (1.0 - known) + self.presence[1] * known
        token: Tensor = self.norm(self.project(vector) + presence)
        return token


class Events(nn.Module):
    """Tokens of the events of all channels.

    Initial channel vectors have the embedding's `std`; time encodings start at zero: what happened is to be told apart
    before when.
    """

    def __init__(self, streams: Sequence[tuple[str, tuple[str, ...]]], width: int, std: float, timed: bool) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.channels = nn.Parameter(torch.randn(len(streams), width) * std)
        self.time = nn.Parameter(torch.zeros(TIME_FEATURES, width)) if timed else None
        self.norm = nn.LayerNorm(width)

    def forward(self, fields: EmbeddedFields) -> tuple[Tensor, Tensor]:
        """Return the tokens and their times.

        Returns:
            float32 ``[B, E, d]``, the channels one after the other, and float32 ``[B, E]``: seconds to the request,
            below 0 where there is no event.
        """
        tokens = torch.cat(self._summed(fields, fields.sequences), dim=1)
        elapsed = torch.cat([fields.elapsed[channel] for channel, _ in self.streams], dim=1)
        return self._dated(tokens, elapsed), elapsed

    def without_padding(self, fields: EmbeddedFields) -> tuple[Tensor, Tensor, Stretches]:
        """Return float32 ``[N, d]``, ``[N]`` and where the rows' events lie: the same, one after the other."""
        vectors = {name: events.vectors for name, events in fields.events.items()}
        at, order = together([fields.stretches[channel] for channel, _ in self.streams])
        tokens = torch.cat(self._summed(fields, vectors))
        elapsed = torch.cat([fields.elapsed[channel] for channel, _ in self.streams])
        if order is not None:
            tokens, elapsed = tokens.index_select(0, order), elapsed.index_select(0, order)
        return self._dated(tokens, elapsed), elapsed, at

    def _summed(self, fields: EmbeddedFields, vectors: Mapping[str, Tensor]) -> list[Tensor]:
        """Return by channel what its events say, float32 ``[..., d]``."""
        return [
            sum((vectors[name] for name in names), self.channels[i].expand(*fields.elapsed[channel].shape, -1))
            for i, (channel, names) in enumerate(self.streams)
        ]

    def _dated(self, summed: Tensor, elapsed: Tensor) -> Tensor:
        if self.time is not None:
            summed = summed + time_features(elapsed.clamp(min=0.0)) @ self.time
        tokens: Tensor = self.norm(summed)
        return tokens
