"""ESMM: how is a rare deep feedback learnt from every impression?

Ma et al., "Entire Space Multi-Task Model", SIGIR 2018. Towers over shared embeddings
predict each stage of the funnel given the stage before it; only the products, which are defined on
every impression, are trained: ``pCTCVR = pCTR · pCVR`` (equation 1). A funnel of any length is the
chain of the same step.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.platform.errors import BadInputError
from components.rankers.funnel import funnel_loss, logit, stage_rates, weights_in
from components.rankers.heads.config import EsmmConfig
from components.rankers.heads.towers import chained, per_feedback, steps_of
from components.rankers.parts import DomainPart, Head
from components.rankers.refusals import no_funnel
from components.rankers.tasks import HIDDEN, LOGIT
from features.declaration import RankerSchema


class EsmmHead(Head):
    """Entire-space chain over a funnel of at least two feedback types.

    Raises:
        BadInputError: the feedback is not a funnel of two or more labels.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: EsmmConfig, domain: DomainPart) -> None:
        super().__init__()
        feedback = schema.declaration.feedback
        if reason := no_funnel(schema.declaration):
            raise BadInputError(reason)
        self.feedback = feedback
        self.stages = steps_of(feedback)
        self.towers = nn.ModuleList(
            domain.tower(in_features, config.hidden, config.dropout, bias=logit(rate)) for rate in stage_rates(schema)
        )

    def forward(self, x: Tensor | tuple[Tensor, ...], route: Tensor) -> dict[str, Tensor]:
        """Predict.

        Returns:
            float32 ``[B]`` probabilities: each feedback over all impressions, then each conditional;
            ``<stage>_logit`` for the loss; ``hidden`` ``[B, H]``, the towers' last layers side by side.
        """
        logits: list[Tensor] = []
        last: list[Tensor] = []
        for tower, given in zip(self.towers, per_feedback(x, len(self.towers)), strict=True):
            z, h = tower(given, route)
            logits.append(z)
            last.append(h)
        return chained(logits, self.feedback) | {HIDDEN: torch.cat(last, dim=1)}

    def loss(self, outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
        """Return the product loss over all impressions, mean over rows (equation 2)."""
        truth, weights = [labels[name] for name in self.feedback], weights_in(labels, self.feedback)
        return funnel_loss([outputs[s + LOGIT] for s in self.stages], truth, weights)
