"""TIN: what does an event mean for this candidate, this many events ago?

Zhou et al., "Temporal Interest Network for User Response Prediction", WWW 2024. With the target-aware
temporal encoding ``e_j = h_j + p_j`` and ``v = t + p_0``:

    α = softmax_j( e_j · v / √d ),    output = Σ_j α_j (e_j ⊙ v)

Meaning and time of both sides meet in the weight and in the value: four-way interaction. Here e_j and v are divided by
their root mean square first. Embeddings start near zero, where products of two of them would leave the softmax flat,
and the four-way interaction silent, for longer than most trainings last.

The encoding p counts events or, as the paper's variant with discretised intervals, time: bucket
``min(1 + floor(log2(1 + seconds)), 31)``, 0 for the candidate. Both together add.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from components.rankers.embedding.events import Events, JoinedEvents
from components.rankers.parts import SequenceEncoder
from components.rankers.sequences.attention import masked_softmax, of_size_one, summed_for_each
from components.rankers.sequences.config import TinConfig

BUCKETS = 32
"""Time encodings: the candidate's, and one each time the elapsed time doubles, up to 34 years."""


class TinSequence(SequenceEncoder):
    """Attention to events at their distance from the candidate; two vectors, ``u = Σ α e`` and ``u ⊙ v``.

    ``u ⊙ v`` is the paper's output, as v does not depend on j. The authors' network reads u next to it, and
    the candidate, which is a field of its own here. Positions count back from the candidate (0), the most
    recent event is 1; events beyond the longest history share the last position. A history that shares no
    table with a candidate is read with ``v = p_0``: a learned query vector.

    Both are scaled by a learned gain, which starts as large as an embedding: vectors of size 1 would drown the other
    fields at the start.
    """

    def __init__(self, width: int, length: int, config: TinConfig, targeted: bool = True) -> None:
        super().__init__()
        self.out_features = 2 * width
        self.length = length
        std = config.start
        self.counted, self.reads_times = config.positions != "elapsed", config.positions != "order"
        if self.counted:
            self.positions = nn.Parameter(torch.randn(length + 1, width) * std)
        if self.reads_times:
            self.intervals = nn.Parameter(torch.randn(BUCKETS, width) * std)
        self.gain = nn.Parameter(torch.full((self.out_features,), std))

    def forward(self, vectors: Tensor, mask: Tensor, target: Tensor | None, elapsed: Tensor | None = None) -> Tensor:
        """Return float32 ``[B, 2d]``, zero where the history is empty; see `SequenceEncoder.forward`."""
        v = self._candidate(target, vectors.shape[0])
        events = self._dated(vectors, torch.arange(vectors.shape[1], device=vectors.device), elapsed)
        scores = (events * v.unsqueeze(1)).sum(dim=2) / math.sqrt(vectors.shape[2])
        u = (masked_softmax(scores, mask).unsqueeze(2) * events).sum(dim=1)
        return torch.cat([u, u * v], dim=1) * self.gain

    def of_events(self, events: Events | JoinedEvents, target: Tensor | None, **times: Tensor) -> Tensor:
        """Return float32 ``[B, 2d]``; see `SequenceEncoder.of_events`."""
        v, at = self._candidate(target, events.at.histories), events.at
        dated = self._dated(events.vectors, at.place, times.get("elapsed"))
        scores = torch.linalg.vecdot(dated, at.spread(v)) / math.sqrt(dated.shape[1])
        u = at.sums(at.softmax(scores, events.present).unsqueeze(1) * dated)
        return torch.cat([u, u * v], dim=1) * self.gain

    def of_request(self, vectors: Tensor, mask: Tensor, target: Tensor, **times: Tensor) -> Tensor:
        """Return float32 ``[N, 2d]``; events are dated and brought to one size once."""
        v = self._candidate(target, target.shape[0])
        newer = torch.arange(vectors.shape[1], device=vectors.device)
        events = self._dated(vectors, newer, times.get("elapsed"))[0]
        scores = v @ events.t() / math.sqrt(events.shape[1])
        u = summed_for_each(masked_softmax(scores, mask), events)
        return torch.cat([u, u * v], dim=1) * self.gain

    def _candidate(self, target: Tensor | None, rows: int) -> Tensor:
        """Return v, float32 ``[B, d]``."""
        now, *more = (each[0] for each in self._encodings())
        for each in more:
            now = now + each
        return of_size_one(now.expand(rows, -1) if target is None else target + now)

    def _encodings(self) -> list[Tensor]:
        """Return what tells how far back something lies: by count, by time, or both."""
        return [*([self.positions] if self.counted else []), *([self.intervals] if self.reads_times else [])]

    def _dated(self, vectors: Tensor, newer: Tensor, elapsed: Tensor | None) -> Tensor:
        """Return e_j, float32 ``[..., d]``, given how many events of its history are newer, int64, and its time."""
        if self.counted:
            vectors = vectors + self.positions[(newer + 1).clamp(max=self.length)]
        if elapsed is not None:
            vectors = vectors + self.intervals[interval(elapsed)]
        return of_size_one(vectors)


def interval(seconds: Tensor) -> Tensor:
    """Return int64 ``[...]``, the bucket of each elapsed time: 1 below a second, then from 1, 3, 7 seconds on.

    Edge by edge, compared with whole numbers, which is exact anywhere: a table of edges would be shortened in a graph
    of float16, and not every runtime sums over an empty history.

    Args:
        seconds: float32 ``[...]``; below 0 where there is no event, which is read as now.
    """
    bucket = torch.ones_like(seconds, dtype=torch.int64)
    for power in range(1, BUCKETS - 1):
        bucket = bucket + (seconds >= 2.0**power - 1)
    return bucket
