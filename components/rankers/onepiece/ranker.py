"""OnePiece: what follows from what a user did, when the answer takes more than one look?

Dai et al., "OnePiece", 2025: history, situation and candidate as tokens of one bidirectional transformer, then latent
steps (`reasoning.py`), each supervised by the next feedback of the funnel. This is the ranking mode with one candidate
(M = 1): rows are scored alone. Task k is read from the *output* of step k; read from its input, as the paper's formula
is printed, the last step would answer nobody. Tokens are those of FinTRec: events of timed histories, whose attributes
are summed, one token of the user and the request, one of the candidate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.embedding.events import at_places
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding, side_by_side
from components.rankers.fintrec.tokens import DatedVector, Events, Fuse, Layout
from components.rankers.funnel import funnel_loss, logit, stage_rates, weights_in
from components.rankers.heads.towers import answers, chained, entropy_loss, steps_of
from components.rankers.onepiece.config import OnePieceConfig
from components.rankers.onepiece.reasoning import Reasoner
from components.rankers.refusals import no_times
from components.rankers.tasks import HIDDEN, LOGIT, tasks_of
from components.rankers.tower import Tower
from features.declaration import RankerSchema

_SCALE = 0.05
"""Initial size of what the reasoner hands to the heads."""


class OnePiece(RankerModule):
    """One reasoner, and a head per feedback that reads its step beside the fields.

    In a funnel the heads predict each step given the one before, and their products are trained on every impression;
    otherwise each predicts its own feedback.

    Raises:
        BadInputError: no event has a time.
    """

    jagged = True

    def __init__(self, config: OnePieceConfig, schema: RankerSchema) -> None:
        super().__init__()
        self.feedback, self.funnel = schema.declaration.feedback, schema.declaration.funnel
        self.tasks = tasks_of(schema.declaration)
        self.layout = Layout.of(schema)
        if not self.layout.streams:
            raise BadInputError(no_times("onepiece"))
        width, std, dropout = config.embedding_width, config.embedding_std, config.dropout
        self.embedding = FieldEmbedding(schema.fields, width, std)
        numeric = self.embedding.numeric
        self.events = Events(self.layout.streams, width, std, timed=True)
        self.static = Fuse(self.layout.static, numeric, width)
        self.candidate = Fuse(self.layout.candidate, numeric, width)
        self.vectors = nn.ModuleDict({name: DatedVector(size, width) for name, size in self.layout.vectors})
        steps = len(self.feedback) if config.steps is None else config.steps
        self.reasoner = Reasoner(width, config.layers, config.heads, steps, dropout=dropout, std=std, scale=_SCALE)
        self.read_at = [max(0, steps - len(self.feedback) + 1 + place) for place in range(len(self.feedback))]
        features = (
            width + self.static.out_features + self.candidate.out_features + sum(n for _, n in self.layout.vectors)
        )
        rates = stage_rates(schema) if self.funnel else [schema.base_rates.get(name, 0.5) for name in self.feedback]
        self.heads = nn.ModuleList(Tower(features, config.hidden, dropout, bias=logit(rate)) for rate in rates)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predict; see `RankerModule.forward`. ``hidden`` is the heads' last layers side by side."""
        fields = self.embedding(batch)
        static = side_by_side(fields, self.static.names)
        candidate = side_by_side(fields, self.candidate.names)
        dated = [token(fields.numeric[name]) for name, token in self.vectors.items()]
        situation = torch.stack([*dated, self.static(static), self.candidate(candidate)], dim=1)
        context = torch.cat([static, *(fields.numeric[name] for name in self.vectors)], dim=1)
        read = self._read(fields, situation)
        logits, hidden = [], []
        for head, at in zip(self.heads, self.read_at, strict=True):
            z, last = head(torch.cat([read[at], context, candidate], dim=1))
            logits.append(z)
            hidden.append(last)
        if self.funnel:
            outputs = chained(logits, self.feedback)
        else:
            outputs = answers(dict(zip(self.feedback, logits, strict=True)), self.tasks)
        return outputs | {HIDDEN: torch.cat(hidden, dim=1)}

    def _read(self, fields: EmbeddedFields, situation: Tensor) -> list[Tensor]:
        """Return what the candidate, the last token of its situation, knows after each step, float32 ``[B, d]``."""
        if not all(channel in fields.stretches for channel, _ in self.layout.streams):
            events, elapsed = self.events(fields)
            return self._steps(events, elapsed, situation)
        events, elapsed, at = self.events.without_padding(fields)
        order: list[Tensor] = []
        read: list[list[Tensor]] = []
        for rows, there in at.alike():
            order.append(rows)
            here = at_places(events, there), at_places(elapsed, there, fill=-1.0), situation.index_select(0, rows)
            read.append(self._steps(*here))
        back = torch.cat(order).argsort()
        return [torch.cat(parts).index_select(0, back) for parts in zip(*read, strict=True)]

    def _steps(self, events: Tensor, elapsed: Tensor, situation: Tensor) -> list[Tensor]:
        there = torch.cat([(elapsed >= 0).to(situation.dtype), torch.ones_like(situation[:, :, 0])], dim=1)
        steps: list[Tensor] = self.reasoner(torch.cat([events, situation], dim=1), there)
        return steps

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the loss of all heads, a mean over all rows."""
        if not self.funnel:
            return entropy_loss(outputs, labels, self.feedback)
        truth, weights = [labels[name] for name in self.feedback], weights_in(labels, self.feedback)
        return funnel_loss([outputs[step + LOGIT] for step in steps_of(self.feedback)], truth, weights)
