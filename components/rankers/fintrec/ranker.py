"""FinTRec: what will this user do with this candidate, given what happened, when, and through which channel?

Facts of the abstract (Katariya et al., arXiv 2511.14865): dynamic, static and foundation-model context as tokens; pCTR
by a causal transformer with attention masked by timestamps, pCVR by a bidirectional one. Ours: one candidate token
that reads the context, heads that also see the fields directly, and ESMM's product over the entire space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.base import RankerModule
from components.rankers.embedding.events import at_places
from components.rankers.embedding.table import EmbeddedFields, FieldEmbedding, side_by_side
from components.rankers.fintrec.attention import Encoder
from components.rankers.fintrec.config import FintrecConfig
from components.rankers.fintrec.tokens import DatedVector, Events, Fuse, Layout
from components.rankers.funnel import funnel_loss, logit, stage_rates, weighed, weights_in
from components.rankers.heads.towers import answers, chained, entropy_loss, steps_of
from components.rankers.refusals import no_clicks, no_times
from components.rankers.tasks import HIDDEN, LOGIT, tasks_of
from components.rankers.tower import Tower
from features.declaration import RankerSchema

_SCALE = 0.05
"""Initial size of what an encoder hands to the heads."""


class Fintrec(RankerModule):
    """A causal tower for the first feedback, a bidirectional one for all deeper ones, over shared tokens.

    In a funnel the deeper towers predict each step given the one before, and `cvr_space` says over which rows they
    learn: `entire` trains their products on every impression, as ESMM does, `click` the steps on the rows that
    reached them. Where the feedback is no funnel, each tower predicts its own feedback.

    Raises:
        BadInputError: no event has a time, or `cvr_space: click` without a funnel.
    """

    jagged = True

    def __init__(self, config: FintrecConfig, schema: RankerSchema) -> None:
        super().__init__()
        declaration = schema.declaration
        self.feedback = declaration.feedback
        self.tasks = tasks_of(declaration)
        self.funnel = declaration.funnel
        self.clicked_only = config.cvr_space == "click"
        if self.clicked_only and (reason := no_clicks(declaration)):
            raise BadInputError(reason)
        self.layout = Layout.of(schema)
        if not self.layout.streams:
            raise BadInputError(no_times("fintrec"))
        width, timed = config.embedding_width, config.time == "decay"
        std, dropout = config.embedding_std, config.dropout
        self.embedding = FieldEmbedding(schema.fields, width, std)
        numeric = self.embedding.numeric
        self.events = Events(self.layout.streams, width, std, timed)
        self.static = Fuse(self.layout.static, numeric, width)
        self.candidate = Fuse(self.layout.candidate, numeric, width)
        self.vectors = nn.ModuleDict({name: DatedVector(size, width) for name, size in self.layout.vectors})
        self.encoders = nn.ModuleList(
            Encoder(
                width,
                config.layers,
                config.heads,
                dropout,
                fading=timed,
                causal=causal,
                scale=_SCALE,
            )
            for causal in (True, False)[: len(self.feedback)]
        )
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
        statics = torch.stack([self.static(static), *dated], dim=1)
        asking = self.candidate(candidate).unsqueeze(1)
        context = torch.cat([static, *(fields.numeric[name] for name in self.vectors)], dim=1)
        read = self._read(fields, statics, asking)
        logits, hidden = [], []
        for i, head in enumerate(self.heads):
            z, last = head(torch.cat([read[min(i, 1)], context, candidate], dim=1))
            logits.append(z)
            hidden.append(last)
        return self._answers(logits) | {HIDDEN: torch.cat(hidden, dim=1)}

    def _read(self, fields: EmbeddedFields, statics: Tensor, asking: Tensor) -> list[Tensor]:
        """Return what each encoder's candidate read, float32 ``[B, d]``."""
        if not all(channel in fields.stretches for channel, _ in self.layout.streams):
            events, elapsed = self.events(fields)
            return [encoder(statics, events, elapsed, asking).flatten(0, 1) for encoder in self.encoders]
        events, elapsed, at = self.events.without_padding(fields)
        order: list[Tensor] = []
        read: list[list[Tensor]] = [[] for _ in self.encoders]
        for rows, there in at.alike():
            order.append(rows)
            here = statics.index_select(0, rows), at_places(events, there), at_places(elapsed, there, fill=-1.0)
            for encoder, parts in zip(self.encoders, read, strict=True):
                parts.append(encoder(*here, asking.index_select(0, rows)).flatten(0, 1))
        back = torch.cat(order).argsort()
        return [torch.cat(parts).index_select(0, back) for parts in read]

    def _answers(self, logits: list[Tensor]) -> dict[str, Tensor]:
        """Return every task's probability, and the logits that the loss reads."""
        if not self.funnel:
            return answers(dict(zip(self.feedback, logits, strict=True)), self.tasks)
        return chained(logits, self.feedback)

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the loss of all heads, a mean over all rows; see `Fintrec` for `cvr_space`."""
        if not self.funnel:
            return entropy_loss(outputs, labels, self.feedback)
        logits = [outputs[step + LOGIT] for step in steps_of(self.feedback)]
        weights = weights_in(labels, self.feedback)
        if not self.clicked_only:
            return funnel_loss(logits, [labels[name] for name in self.feedback], weights)
        total, reached = logits[0].new_zeros(()), torch.ones_like(logits[0])
        for name, z, weight in zip(self.feedback, logits, weights, strict=True):
            # Over all rows, not over those that reached the step: so that shares of workers add up.
            losses = functional.binary_cross_entropy_with_logits(z, labels[name], reduction="none")
            total = total + weighed(losses * reached, weight).mean()
            reached = reached * labels[name]
        return total

    def diagnostics(self) -> dict[str, float]:
        """Return the days after which an event counts e times less, per layer and attention head."""
        names = ("causal", "bidirectional")
        return {
            f"{name}_fade_days_{at}": days
            for name, encoder in zip(names, self.encoders, strict=False)
            if isinstance(encoder, Encoder)
            for at, days in enumerate(encoder.fade_days())
        }
