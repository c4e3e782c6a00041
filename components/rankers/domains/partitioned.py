"""How does one tower have weights per route at the cost of one? Shared weights, scaled per route, rows grouped.

Star topology fully-connected network of Sheng et al., "One Model to Serve All: Star Topology Adaptive
Recommender for Multi-Domain CTR Prediction", CIKM 2021: the weights of domain k are the element-wise
product of shared and own weights, its biases their sum. AdaptDHM's multi-distribution network has the
same form with clusters in place of domains.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.rankers.parts import RoutedTower
from components.rankers.tower import Tower, exact

SHARED = -1
"""Route of a row that the shared weights alone score: no domain, an unknown one, or none yet."""


class PartitionedTower(RoutedTower):
    """A tower whose every layer is ``W = W_shared ⊙ W_k``, ``b = b_shared + b_k`` for the rows of route k.

    What is learnt of W_k is its distance to ones and starts at zero, as does b_k: every route starts as the
    shared tower, and weight decay pulls a route towards the shared tower, not towards silence. `SHARED`
    has ones and zeros for ever.
    """

    def __init__(
        self, routes: int, in_features: int, hidden: Sequence[int], dropout: float = 0.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        self.routes = routes
        self.dropout = dropout
        self.shared = Tower(in_features, hidden, dropout, bias)
        shapes = [layer.weight.shape for layer in self._layers()]
        self.scales = nn.ParameterList(torch.zeros(routes, *shape) for shape in shapes)
        self.shifts = nn.ParameterList(torch.zeros(routes, shape[0]) for shape in shapes)

    def _layers(self) -> list[nn.Linear]:
        return [*(m for m in self.shared.layers if isinstance(m, nn.Linear)), self.shared.head]

    def forward(self, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit ``[B]`` and the last hidden layer; see `RoutedTower.forward`.

        Args:
            x: float32 ``[B, D]``.
            route: int64 ``[B]``, from 0 to K − 1, or `SHARED`.
        """
        return self.selected(x, route) if torch.compiler.is_exporting() else self.grouped(x, route)

    def grouped(self, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
        """Sort rows by route and multiply each group once: work grows with rows, not with routes."""
        order = torch.argsort(route, stable=True)
        counts = torch.bincount(route + 1, minlength=self.routes + 1).tolist()
        present = [k - 1 for k, count in enumerate(counts) if count]
        # Without a row there is no group; the shared weights then give the right shapes.
        sizes = [counts[k + 1] for k in present] or [0]
        own = torch.tensor([k for k in present if k != SHARED], dtype=torch.int64, device=x.device)
        layers = self._layers()
        rows = last = x.index_select(0, order)
        for i, layer in enumerate(layers):
            last = rows
            weights, biases = self._weights(i, layer, own)
            if len(own) < len(sizes):  # SHARED sorts first
                weights, biases = [layer.weight, *weights], [layer.bias, *biases]
            groups = zip(rows.split(sizes), weights, biases, strict=True)
            rows = torch.cat([functional.linear(*group) for group in groups])
            if i < len(layers) - 1:
                rows = functional.dropout(torch.relu(rows), self.dropout, self.training)
        back = torch.argsort(order)
        return exact(rows.squeeze(1)).index_select(0, back), last.index_select(0, back)

    def _weights(self, i: int, layer: nn.Linear, own: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return weights and biases of layer i per route in `own`, made at once: one gradient, not one per route."""
        scales, shifts = self.scales[i].index_select(0, own), self.shifts[i].index_select(0, own)
        return list(torch.addcmul(layer.weight, layer.weight, scales).unbind()), list((layer.bias + shifts).unbind())

    def selected(self, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
        """Score every row by every route and keep its own: the same numbers as a graph without branches."""
        layers = self._layers()
        rows = last = x
        for i, layer in enumerate(layers):
            last = rows
            # Row 0 stands for SHARED.
            weight = layer.weight * (1.0 + functional.pad(self.scales[i], (0, 0, 0, 0, 1, 0)))
            shift = layer.bias + functional.pad(self.shifts[i], (0, 0, 1, 0))
            every = torch.matmul(rows, weight.transpose(1, 2)) + shift.unsqueeze(1)
            own = (route + 1).view(1, -1, 1).expand(1, -1, every.shape[2])
            rows = every.gather(0, own).squeeze(0)
            if i < len(layers) - 1:
                rows = functional.dropout(torch.relu(rows), self.dropout, self.training)
        return rows.squeeze(1), last
