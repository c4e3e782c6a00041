"""MLCC: how do three fields decide together, at little cost? A row makes the small matrices that its fields meet in.

Yu et al., "MLCC: Multi-Level Compression Cross Networks", 2026. Per channel c of every embedding (S channels of E = d/S
numbers), with X^c the F fields of a row:

    compress    A = flatten(X^c) W^c, as matrices [E, m_1], [m_1, m_2] …, H of each
    cross       h_1 = X^c A_1, h_2 = h_1 A_2 …      degree 2, 3 … in the fields: there is no other nonlinearity
    gather      per field: h_1 | h_2 … over H and S, beside the field itself
    compress    Y_f = gathered_f W_f, a matrix per field
    gate        σ(V_2 LN(ReLU(V_1 mean(Y))))         how much each field counts

The towers read the gated Y alone.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from components.rankers.interactions.config import MlccConfig
from components.rankers.parts import FieldVectors, Interaction

_LEAST_GATE = 4
"""Hidden units of the gate at least: normalised, one is constant and two are ±1, which no gradient passes."""


class Mlcc(Interaction):
    """Products of fields, compressed to `compressed` numbers per field; a number x is the field ``x · v``."""

    def __init__(self, fields: int, width: int, extra: int, config: MlccConfig) -> None:
        super().__init__()
        self.fields, self.channels, self.crosses = fields, config.channels, config.crosses
        each = width // config.channels
        self.steps = tuple(pairwise([each, *config.cross]))
        slopes = torch.randn(extra, width) * config.start
        self.slopes = nn.Parameter(slopes) if extra else None
        tokens = fields + extra
        made = config.crosses * sum(narrow * wide for narrow, wide in self.steps)
        gathered = config.channels * config.crosses * sum(config.cross) + width
        self.matrices = nn.Parameter(_normal(tokens * each, made, config.channels, tokens * each, made))
        self.squeeze = nn.Parameter(_normal(gathered, config.compressed, tokens, gathered, config.compressed))
        hidden = max(_LEAST_GATE, math.ceil(tokens / 2))
        self.gate = nn.Sequential(
            nn.Linear(tokens, hidden),
            nn.ReLU(),
            nn.LayerNorm(hidden, elementwise_affine=False),
            nn.Linear(hidden, tokens),
        )
        self.out_features = tokens * config.compressed

    def forward(self, fields: FieldVectors) -> Tensor:
        """Return float32 ``[B, (F + N)·compressed]``."""
        tokens = [fields.vectors] if self.fields else []
        if self.slopes is not None:
            tokens.append(fields.extra.unsqueeze(2) * self.slopes)
        x = torch.cat(tokens, dim=1)
        y = torch.einsum("bfc,fce->bfe", torch.cat([self._crossed(x), x], dim=2), self.squeeze)
        gate = torch.sigmoid(self.gate(y.mean(dim=2)))
        return (gate.unsqueeze(2) * y).flatten(start_dim=1)

    def _crossed(self, x: Tensor) -> Tensor:
        """Return float32 ``[B, F, S·H·Σm]`` of fields ``[B, F, d]``: what each step gives, by matrix, by channel."""
        parts = x.unflatten(2, (self.channels, -1)).permute(2, 0, 1, 3)  # [S, B, F, E]
        made = torch.bmm(parts.flatten(start_dim=2), self.matrices).unflatten(2, (self.crosses, -1))
        by_step = made.split([narrow * wide for narrow, wide in self.steps], dim=3)
        level = parts.unsqueeze(2)
        levels = []
        for (narrow, wide), numbers in zip(self.steps, by_step, strict=True):
            level = level @ numbers.unflatten(3, (narrow, wide))  # [S, B, H, F, wide]
            levels.append(level)
        return torch.cat(levels, dim=4).permute(1, 3, 0, 2, 4).flatten(start_dim=2)


def _normal(rows: int, columns: int, copies: int, fan_in: int, fan_out: int) -> Tensor:
    """Return `copies` matrices ``[rows, columns]``, each with Xavier's deviation for itself."""
    return torch.randn(copies, rows, columns) * math.sqrt(2 / (fan_in + fan_out))
