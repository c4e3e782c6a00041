"""DIN: how much does each past event matter for this candidate?

Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, §4.3, equation 3:
``v(t) = Σ_j a(h_j, t) · h_j``. The weights a are intensities: they are not normalised, so the vector
grows with the number of events that fit the candidate.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.embedding.events import Events, JoinedEvents
from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.attention import summed_for_each
from components.rankers.sequences.config import DinConfig

_UNIT = 64
"""Hidden units of the activation unit."""
_LEAST_VARIANCE = 1e-8


class Dice(nn.Module):
    """PReLU whose bend lies where the numbers are: ``f(s) = p·s + (1 − p)·α·s``, ``p = σ((s − E[s]) / √Var[s])``.

    Equation 9 of the paper, with mean and variance over the units of one event instead of over the batch: padding would
    count there, and a row's answer would depend on its neighbours in training.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.full((units,), 0.25))

    def forward(self, s: Tensor) -> Tensor:
        """Return float32 ``[..., units]`` of the same."""
        p = torch.sigmoid(functional.layer_norm(s, s.shape[-1:], eps=_LEAST_VARIANCE))
        return p * s + (1 - p) * self.slopes * s


class DinSequence(SequenceEncoder):
    """Sum of the events, each weighted by an activation unit that sees it next to the candidate.

    The unit is ``[t, h, t − h, t ⊙ h] → linear → PReLU or Dice → linear → weight``. Its first layer is multiplied out,
    so that the candidate's share is taken once and not per event. A history that shares no table with a candidate is
    weighted against a learned query vector.
    """

    def __init__(self, width: int, length: int, config: DinConfig, targeted: bool = True) -> None:
        super().__init__()
        self.out_features = width
        first, last = nn.Linear(4 * width, _UNIT), nn.Linear(_UNIT, 1)
        for linear in (first, last):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(first.bias)
        # Embeddings start near zero, so every weight starts at this bias: between the mean of a full
        # history and its sum.
        nn.init.constant_(last.bias, 1 / math.sqrt(max(length, 1)))
        self.unit = nn.Sequential(first, nn.PReLU() if config.activation == "prelu" else Dice(_UNIT), last)
        query = torch.randn(width) * config.start
        self.query = None if targeted else nn.Parameter(query)

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None) -> Tensor:
        """Return float32 ``[B, d]``, zero where the history is empty; see `SequenceEncoder.forward`."""
        candidate, own = self._candidate(target, vectors.shape[0])
        weights = self._weights(vectors, candidate.unsqueeze(1), own.unsqueeze(1))
        return ((weights * mask).unsqueeze(2) * vectors).sum(dim=1)

    def of_events(self, events: Events | JoinedEvents, target: Tensor | None, **times: Tensor) -> Tensor:
        """Return float32 ``[B, d]``; see `SequenceEncoder.of_events`."""
        candidate, own = self._candidate(target, events.at.histories)
        weights = self._weights(events.vectors, events.at.spread(candidate), events.at.spread(own))
        return events.at.sums((weights * events.present).unsqueeze(1) * events.vectors)

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, d]``; of the unit's first layer a candidate makes one matrix, which events only meet."""
        candidate, own = self._candidate(target, target.shape[0])
        first, activation, last = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(self.unit))
        _, of_event, of_difference, of_product = first.weight.split(self.out_features, dim=1)
        met = of_event - of_difference + of_product * candidate.unsqueeze(1)  # [N, units, d]
        weights = last(activation(vectors @ met.transpose(1, 2) + own.unsqueeze(1))).squeeze(-1)
        return summed_for_each(weights * mask, vectors[0])

    def _candidate(self, target: Tensor | None, rows: int) -> tuple[Tensor, Tensor]:
        """Return what histories are read with, float32 ``[B, d]``, and its own share of the hidden units."""
        if target is None:
            if self.query is None:
                raise ValueError("a history without a candidate needs an encoder built with targeted=False")
            target = self.query.expand(rows, -1)
        first = cast(nn.Linear, self.unit[0])
        of_target, _, of_difference, _ = first.weight.split(self.out_features, dim=1)
        return target, functional.linear(target, of_target + of_difference, first.bias)

    def _weights(self, vectors: Tensor, candidate: Tensor, own: Tensor) -> Tensor:
        """Return float32 ``[...]`` of events ``[..., d]``, given what belongs to the candidate of each."""
        first, activation, last = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(self.unit))
        _, of_event, of_difference, of_product = first.weight.split(self.out_features, dim=1)
        per_event = torch.cat([vectors, candidate * vectors], dim=-1)
        hidden = own + functional.linear(per_event, torch.cat([of_event - of_difference, of_product], dim=1))
        weights: Tensor = last(activation(hidden)).squeeze(-1)
        return weights
