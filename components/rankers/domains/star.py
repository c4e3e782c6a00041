"""STAR: what if every declared domain has weights of its own around shared ones?

Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR
Prediction", CIKM 2021: its star topology fully-connected network. Partitioned normalization and the
auxiliary network of the paper are left out: towers here have no batch normalization to partition, and
the domain field is among the inputs of every tower.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.domains.config import StarConfig
from components.rankers.domains.partitioned import SHARED, PartitionedTower
from components.rankers.parts import DomainPart, RoutedTower
from components.rankers.refusals import no_domain, no_domain_input
from features.declaration import FIRST, RankerSchema


class Star(DomainPart):
    """One route per known value of the domain field; a missing or unseen domain has the shared weights.

    Raises:
        BadInputError: no domain is declared, it is no categorical input, or training never saw one.
    """

    def __init__(self, in_features: int, schema: RankerSchema, config: StarConfig) -> None:
        super().__init__()
        domain = schema.declaration.domain
        if domain is None:
            raise BadInputError(str(no_domain(schema.declaration)))
        field = next((f for f in schema.fields if f.name == domain and f.kind == "categorical"), None)
        if field is None:
            raise BadInputError(no_domain_input(domain))
        if field.size <= FIRST:
            raise BadInputError(
                f"domain part 'star' finds no known value of the domain {domain!r} in the training split: "
                "widen the window, or choose domain 'none'"
            )
        self.field = domain
        self.routes = field.size - FIRST

    def route(self, x: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return the place of each row's domain among the known ones, `SHARED` where it is not known."""
        return (batch[self.field] - FIRST).clamp(min=SHARED)

    def tower(self, in_features: int, hidden: Sequence[int], dropout: float, bias: float) -> RoutedTower:
        """Return a tower with weights per domain."""
        return PartitionedTower(self.routes, in_features, hidden, dropout, bias)
