"""What does a ranker do that treats all domains alike? It routes nothing and shares every tower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from components.rankers.domains.config import NoAdaptationConfig
from components.rankers.parts import DomainPart, RoutedTower
from components.rankers.tower import Tower
from features.declaration import RankerSchema


class SharedTower(RoutedTower):
    """A tower that does not look at the route."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor, route: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logit ``[B]`` and the last hidden layer."""
        logit, hidden = self.tower(x)
        return logit, hidden


class NoAdaptation(DomainPart):
    """One network for every row."""

    def __init__(self, in_features: int, schema: RankerSchema, config: NoAdaptationConfig) -> None:
        super().__init__()

    def route(self, x: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return zeros, int64 ``[B]``."""
        return torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)

    def tower(self, in_features: int, hidden: Sequence[int], dropout: float, bias: float) -> RoutedTower:
        """Return an ordinary tower."""
        return SharedTower(Tower(in_features, hidden, dropout, bias))
