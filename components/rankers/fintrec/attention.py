"""Who reads whom, and how much does it fade with time? Attention between tokens that know when they happened.

TIMeSynC (arXiv 2410.12825): ``score_h = (q·k − s_h·|Δt|) / √d_h`` with a learned slope s_h > 0 per head, started on a
geometric ladder as in Press et al., "Train Short, Test Long" (ALiBi), ICLR 2022. Static tokens are always visible and
never fade. No token has a position: permuting events together with their times changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.fintrec.tokens import DAY
from components.rankers.sequences.attention import AttentionLayer

_NEVER = -1e30
"""Score of what must not be read: finite, so that no row has a NaN."""
FADES = (1 / 24, 30.0)
"""Days after which an event counts e times less, at the start: of the first head and of the last."""


@dataclass(frozen=True)
class Sight:
    """Which context token sees which, and from how far."""

    closed: Tensor
    """float32 ``[B, 1, T, T]``, 0 where the token of the row may read that of the column, else −1e30."""
    apart: Tensor
    """float32 ``[B, 1, T, T]`` days between the two; 0 with a static token."""
    closed_to_now: Tensor
    """float32 ``[B, 1, 1, T]``, the same for a candidate, whose time is the request's."""
    ago: Tensor
    """float32 ``[B, 1, 1, T]`` days from the token to the request; 0 for a static token."""

    @classmethod
    def of(cls, elapsed: Tensor, statics: int, causal: bool) -> Sight:
        """Return the sight of `statics` static tokens followed by events.

        An event reads the static tokens and, when causal, the events not after it: events of the same time see each
        other. Otherwise it reads every visible event. Static tokens come before all events: when causal they read
        each other only. What has no time or lies after the request is read by nobody.

        Args:
            elapsed: float32 ``[B, E]`` seconds from each event to the request, below 0 for none.
            statics: S, number of static tokens; T = S + E.
            causal: whether events read only the past.
        """
        visible = functional.pad((elapsed >= 0).to(elapsed.dtype), (statics, 0), value=1.0)
        days = functional.pad(elapsed.clamp(min=0.0) / DAY, (statics, 0), value=0.0)
        event = functional.pad(torch.ones_like(elapsed), (statics, 0), value=0.0)
        apart = (days.unsqueeze(1) - days.unsqueeze(2)) * event.unsqueeze(1) * event.unsqueeze(2)
        open_ = visible.unsqueeze(1).expand_as(apart)
        if causal:
            # A static token lies before every event, so it never reads one.
            past = (apart >= 0).to(apart.dtype) * torch.maximum(event.unsqueeze(2), 1.0 - event.unsqueeze(1))
            open_ = open_ * past
        return cls(
            closed=((1.0 - open_) * _NEVER).unsqueeze(1),
            apart=apart.abs().unsqueeze(1),
            closed_to_now=((1.0 - visible) * _NEVER)[:, None, None],
            ago=days[:, None, None],
        )


class Layer(AttentionLayer):
    """``x + attention(norm(x))``, then ``x + feed-forward(norm(x))``, for the context and for its candidates.

    The context never reads a candidate, and candidates never read each other: any number of them can share the
    context of one request. A head is ⌈d / heads⌉ wide; nobody asks for the context after the last layer.
    """

    def __init__(self, width: int, heads: int, dropout: float, fading: bool, last: bool) -> None:
        super().__init__(width, heads, dropout)
        self.last = last
        # The logarithm of s: it stays positive, and an hour's fade learns as easily as a month's.
        self.slopes = nn.Parameter((ladder(heads) * math.sqrt(self.narrow)).log()) if fading else None

    def forward(self, context: Tensor, candidates: Tensor, sight: Sight) -> tuple[Tensor, Tensor]:
        """Return the tokens after this layer; the context as it came, from the last layer.

        Args:
            context: float32 ``[B, T, d]``.
            candidates: float32 ``[B, C, d]``.
            sight: who sees whom.
        """
        normed, asking = self.before_attention(context), self.before_attention(candidates)
        key, value = self.split(self.key(normed)), self.split(self.value(normed))
        query, own_key, own_value = (self.split(part(asking)) for part in (self.query, self.key, self.value))
        there = self._scores(query, key, sight.closed_to_now, sight.ago)
        own = (query * own_key).sum(dim=3, keepdim=True) / math.sqrt(self.narrow)
        weights = torch.softmax(torch.cat([there, own], dim=3), dim=3)
        read = weights[..., :-1] @ value + weights[..., -1:] * own_value
        candidates = self.finish(candidates, read)
        if self.last:
            return context, candidates
        scores = self._scores(self.split(self.query(normed)), key, sight.closed, sight.apart)
        return self.finish(context, torch.softmax(scores, dim=3) @ value), candidates

    def _scores(self, query: Tensor, key: Tensor, closed: Tensor, days: Tensor) -> Tensor:
        """Return ``(q·k − s·|Δt|) / √d_h``, float32 ``[B, H, Q, T]``, −1e30 where there is nothing to read.

        Args:
            query: float32 ``[B, H, Q, d_h]``.
            key: float32 ``[B, H, T, d_h]``.
            closed: float32 ``[B, 1, Q or 1, T]``.
            days: |Δt|, the same shape.
        """
        # Scaled while it is small; the rest is two passes over the largest tensors of the model.
        scores = (query / math.sqrt(self.narrow)) @ key.transpose(2, 3)
        if self.slopes is not None:
            rates = self.slopes.exp() / math.sqrt(self.narrow)
            scores = torch.addcmul(scores, days, -rates[:, None, None])
        return scores + closed

    def fade_days(self) -> list[float]:
        """Return, per head, the days after which an event counts e times less; empty where nothing fades."""
        return [] if self.slopes is None else (math.sqrt(self.narrow) * (-self.slopes).exp()).tolist()


class Encoder(nn.Module):
    """Layers over the context, read by the candidates; one such encoder per kind of tower.

    Answers start at size `scale`: a vector of size 1 would drown the other fields at the start.
    """

    def __init__(
        self, width: int, layers: int, heads: int, dropout: float, *, fading: bool, causal: bool, scale: float
    ) -> None:
        super().__init__()
        self.causal = causal
        self.layers = nn.ModuleList(Layer(width, heads, dropout, fading, i == layers) for i in range(1, layers + 1))
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, scale)

    def forward(self, statics: Tensor, events: Tensor, elapsed: Tensor, candidates: Tensor) -> Tensor:
        """Return what each candidate read, float32 ``[B, C, d]``.

        Args:
            statics: float32 ``[B, S, d]``, S at least 1: there is always something to read.
            events: float32 ``[B, E, d]``.
            elapsed: float32 ``[B, E]`` seconds from each event to the request.
            candidates: float32 ``[B, C, d]``.
        """
        sight = Sight.of(elapsed, statics.shape[1], self.causal)
        context = torch.cat([statics, events], dim=1)
        for layer in self.layers:
            context, candidates = layer(context, candidates, sight)
        read: Tensor = self.norm(candidates)
        return read

    def fade_days(self) -> list[float]:
        """Return the days after which an event counts e times less, per head and layer; empty where nothing fades."""
        return [days for layer in self.layers if isinstance(layer, Layer) for days in layer.fade_days()]


def ladder(heads: int) -> Tensor:
    """Return the initial rate per head, float32 ``[H]`` per day: geometric, from an hour's fade to a month's."""
    first, last = (math.log(days) for days in FADES)
    steps = [i / max(1, heads - 1) for i in range(heads)]
    return torch.tensor([math.exp(-(first + (last - first) * step)) for step in steps])
