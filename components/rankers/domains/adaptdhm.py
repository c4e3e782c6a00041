"""AdaptDHM: what if no domain is declared, and rows of a kind find each other by themselves?

Li et al., "AdaptDHM: Adaptive Distribution Hierarchical Model for Multi-Domain CTR Prediction",
arXiv 2211.12105 (2022). A distribution adaptation module routes each row to one of K centres in the space of
x; a multi-distribution network (`PartitionedTower`) gives each centre weights of its own around shared ones.
Centres move by routing, never by gradient. The centred form is ours: raw vectors have so little contrast
that all centres walk to the mean of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from components.platform.errors import BadInputError
from components.rankers.distributed import summed
from components.rankers.domains.config import AdaptDhmConfig
from components.rankers.domains.partitioned import SHARED, PartitionedTower
from components.rankers.parts import DomainPart, RoutedTower
from features.declaration import RankerSchema

ITERATIONS = 3
"""T, routing iterations per batch."""
BETA = 0.9
"""β, how much of a centre stays in each batch."""
TEMPERATURE = 0.1
"""Of the softmax over cosines in centred routing."""
MEAN_BETA = 0.99
"""How much of the running mean's weight stays in each batch."""
LEAST_ROWS = 100
"""Training rows that each cluster must have on average."""
LEAST_USAGE = 0.01
"""Share of a batch below which a cluster starves."""
STARVED_BATCHES = 20
"""Batches in a row a cluster may starve before its centre starts anew."""
WARM_UP = 0.5
"""Share of an epoch in which only the shared weights are trained: before, there is nothing to route by."""


def settle(
    z: Tensor, centres: Tensor, temperature: float, summed: Callable[[Tensor], Tensor] = lambda part: part
) -> tuple[Tensor, Tensor]:
    """Return where the batch pulls the centres, and the coefficients of the last iteration.

    T times: ``r = softmax_k(z·c_k / temperature)``, ``c_k = Σ_i r_ik z_i`` scaled to length 1; each iteration
    starts from the centres of the one before.

    Args:
        z: float ``[B, D]``, rows to route.
        centres: float ``[K, D]``, of length 1.
        temperature: of the softmax.
        summed: adds up a tensor over all workers.

    Returns:
        float ``[K, D]`` of length 1, and r ``[B, K]``.
    """
    coefficients = z.new_zeros((z.shape[0], centres.shape[0]))
    for _ in range(ITERATIONS):
        coefficients = torch.softmax(z @ centres.T / temperature, dim=1)
        centres = functional.normalize(summed(coefficients.T @ z), dim=1)
    return centres, coefficients


def normalised_information(shares: Tensor) -> float:
    """Return ``I(a; b) / √(H(a) H(b))``: 0 for independent a and b, 1 when each tells the other.

    Args:
        shares: float ``[A, B]``, share of rows per pair of values; 0 when a or b has one value only.
    """
    a, b = shares.sum(dim=1), shares.sum(dim=0)
    entropies = [float(torch.special.entr(p).sum()) for p in (a, b, shares)]
    scale = (max(entropies[0], 0.0) * max(entropies[1], 0.0)) ** 0.5
    return (entropies[0] + entropies[1] - entropies[2]) / scale if scale > 0 else 0.0


class AdaptDhm(DomainPart):
    """Routes each row to its nearest centre; in training mode every batch then moves the centres.

    Centred routing subtracts a running mean, scales rows to length 1 and sharpens the softmax; it first trains the
    shared weights alone, and gives a centre that hardly any row chooses a new start at a row of the batch. Literal
    routing does none of this. With torch.distributed, centres are those of the whole batch. Of `schema`, the domain is
    compared with the clusters and never read to route.

    Raises:
        BadInputError: there are too few training rows for so many clusters.
    """

    centres: Tensor
    mean: Tensor
    mean_weight: Tensor
    seen: Tensor
    batches: Tensor
    starved: Tensor
    usage: Tensor
    certainty: Tensor
    restarts: Tensor
    together: Tensor

    def __init__(self, in_features: int, schema: RankerSchema, config: AdaptDhmConfig) -> None:
        super().__init__()
        self.clusters = config.clusters
        self.centred = config.routing != "literal"
        if schema.rows < LEAST_ROWS * self.clusters:
            raise BadInputError(
                f"domain part 'adaptdhm' needs at least {LEAST_ROWS} training rows per cluster, "
                f"{LEAST_ROWS * self.clusters} for {self.clusters} clusters, and the training set has {schema.rows}: "
                "lower clusters, train on a longer window, or choose domain 'none'"
            )
        self.temperature = TEMPERATURE if self.centred else 1.0
        self.warm_up = int(WARM_UP * schema.rows) if self.centred else 0
        start = functional.normalize(torch.randn(self.clusters, in_features), dim=1)
        self.register_buffer("centres", start)
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("mean_weight", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("starved", torch.zeros(self.clusters, dtype=torch.int64))
        self.register_buffer("usage", torch.zeros(self.clusters))
        self.register_buffer("certainty", torch.zeros(()))
        self.register_buffer("restarts", torch.zeros((), dtype=torch.int64))
        domain = schema.declaration.domain
        field = next((f for f in schema.fields if f.name == domain and f.kind == "categorical"), None)
        self.field = field.name if field is not None else None
        self.register_buffer("together", torch.zeros(self.clusters, field.size if field is not None else 0))

    def tower(self, in_features: int, hidden: Sequence[int], dropout: float, bias: float) -> RoutedTower:
        """Return a tower with weights per cluster."""
        return PartitionedTower(self.clusters, in_features, hidden, dropout, bias)

    def route(self, x: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Return each row's cluster, by the centres as they are before this batch; `SHARED` while warming up."""
        x = x.detach()
        if self.training:
            return self._learn(x, batch[self.field] if self.field is not None else None)
        # Neither the length of a row nor the temperature changes which centre is nearest.
        return torch.argmax((x - self.mean) @ self.centres.T, dim=1)

    def sit_out(self) -> None:
        """Join the sums of a batch of which this worker has no row; see `DomainPart.sit_out`."""
        if self.training:
            none = torch.zeros(0, dtype=torch.int64, device=self.centres.device)
            self._learn(self.centres.new_zeros((0, self.centres.shape[1])), none)

    def diagnostics(self) -> dict[str, float]:
        """Return the state of the routing, smoothed over the last ten or so batches; empty before the first.

        ``assignment_entropy`` in nats, ln K when clusters are equally used and 0 when one has all rows;
        ``usage_<k>`` is the share of rows of cluster k; ``centre_cosine_mean`` and ``_max`` are over pairs of
        centres, 1 when they collapsed; ``max_coefficient`` is the mean of a row's greatest r; ``restarts``
        counts centres that started anew; ``domain_information``, where a domain is declared, is the normalised
        mutual information of cluster and domain: 1 when the clusters only rediscover domains.
        """
        if not int(self.batches):
            return {}
        values = {f"usage_{k}": float(share) for k, share in enumerate(self.usage)}
        values["assignment_entropy"] = float(torch.special.entr(self.usage).sum())
        values["max_coefficient"] = float(self.certainty)
        values["restarts"] = float(self.restarts)
        cosines = self.centres @ self.centres.T
        if pairs := [float(cosines[a, b]) for a, b in combinations(range(self.clusters), 2)]:
            values["centre_cosine_mean"] = sum(pairs) / len(pairs)
            values["centre_cosine_max"] = max(pairs)
        if self.field is not None:
            values["domain_information"] = normalised_information(self.together)
        return values

    @torch.no_grad()
    def _learn(self, x: Tensor, domain: Tensor | None) -> Tensor:
        """Route a batch by the centres before it, then move them; all workers see the same sums."""
        warming = int(self.seen) < self.warm_up
        rows = self._count(x)
        self.seen += rows
        if warming:
            return torch.full((x.shape[0],), SHARED, dtype=torch.int64, device=x.device)
        z = functional.normalize(x - self.mean, dim=1) if self.centred else x
        certain, route = torch.softmax(z @ self.centres.T / self.temperature, dim=1).max(dim=1)
        pulled, _ = settle(z, self.centres, self.temperature, summed)
        self.centres.copy_(functional.normalize(BETA * self.centres + (1 - BETA) * pulled, dim=1))
        counts = torch.bincount(route, minlength=self.clusters).to(x.dtype)
        size = self.together.shape[1]
        pairs = route * size + domain if domain is not None else route[:0]
        together = torch.bincount(pairs, minlength=self.together.numel())[: self.together.numel()].to(x.dtype)
        shares = summed(torch.cat([counts, certain.sum().unsqueeze(0), together])) / rows
        self._watch(shares[: self.clusters], shares[self.clusters], shares[self.clusters + 1 :])
        if self.centred:
            self._restart(z, rows)
        return route

    def _count(self, x: Tensor) -> int:
        """Return the rows of the whole batch; in centred routing they enter the running mean by their number."""
        total = summed(torch.cat([x.sum(dim=0), x.new_full((1,), float(x.shape[0]))]))
        rows = total[-1]
        if self.centred:
            self.mean_weight.mul_(MEAN_BETA).add_(rows)
            self.mean += (total[:-1] - rows * self.mean) / self.mean_weight
        return int(rows)

    def _watch(self, shares: Tensor, certainty: Tensor, together: Tensor) -> None:
        keep = BETA if int(self.batches) else 0.0
        self.usage.copy_(keep * self.usage + (1 - keep) * shares)
        self.certainty.copy_(keep * self.certainty + (1 - keep) * certainty)
        self.together.copy_(keep * self.together + (1 - keep) * together.view_as(self.together))
        self.starved.copy_(torch.where(shares < LEAST_USAGE, self.starved + 1, 0))
        self.batches += 1

    def _restart(self, z: Tensor, rows: int) -> None:
        """Put each centre that starved for too long on a row of the whole batch, the same on every worker."""
        for k in (self.starved >= STARVED_BATCHES).nonzero().flatten().tolist():
            # Seeded by state that is saved with the weights, so that training can be repeated and resumed.
            generator = torch.Generator().manual_seed(int(self.batches) * self.clusters + k)
            place = int(torch.randint(rows, (1,), generator=generator)) - _rows_before(z)
            mine = z[place] if 0 <= place < z.shape[0] else z.new_zeros(z.shape[1])
            self.centres[k] = functional.normalize(summed(mine.clone()), dim=0)
            self.starved[k] = 0
            self.restarts += 1


def _rows_before(z: Tensor) -> int:
    """Return how many rows of the batch the workers before this one hold."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=z.device)
    counts[dist.get_rank()] = z.shape[0]
    return int(summed(counts)[: dist.get_rank()].sum())
