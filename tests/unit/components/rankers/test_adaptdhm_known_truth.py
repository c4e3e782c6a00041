"""Does a trained AdaptDHM recover planted clusters from ids alone, and say how far they are the domains?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.domains.adaptdhm import normalised_information
from features.declaration import FIRST, Declaration, FieldSpec, RankerSchema

CLUSTERS, VALUES, FIELDS = 3, 12, 6
ROWS = 6000


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def world(rows: int, draw: int, domain_is_cluster: bool) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return ids whose values say the cluster, a domain, labels that follow the cluster, and the cluster.

    Each cluster has values of its own in every field, which one field in ten breaks; no single field says which.
    """
    g = torch.Generator().manual_seed(draw)
    cluster = torch.randint(CLUSTERS, (rows,), generator=g)
    own = VALUES // CLUSTERS
    batch = {}
    for field in range(FIELDS):
        broken = torch.rand(rows, generator=g) < 0.1
        shown = torch.where(broken, torch.randint(CLUSTERS, (rows,), generator=g), cluster)
        batch[f"f{field}"] = FIRST + shown * own + torch.randint(own, (rows,), generator=g)
    domain = cluster if domain_is_cluster else torch.randint(CLUSTERS, (rows,), generator=g)
    rate = torch.tensor([0.15, 0.5, 0.85])[cluster]
    return batch | {"domain": FIRST + domain}, (torch.rand(rows, generator=g) < rate).float(), cluster


def trained(routing: str, domain_is_cluster: bool, declared: bool) -> tuple[float, dict[str, float]]:
    """Train on ids, with the domain as one of the inputs when declared; return the purity and the diagnostics."""
    torch.manual_seed(0)
    names = [*(f"f{field}" for field in range(FIELDS)), *(["domain"] if declared else [])]
    schema = RankerSchema(
        declaration=Declaration(feedback=("like",), domain="domain" if declared else None),
        fields=tuple(FieldSpec(name=n, kind="categorical", size=FIRST + VALUES, table=n) for n in names),
        base_rates={"like": 0.5},
        rows=ROWS,
    )
    config = RankerConfig.of(name="adaptdhm", hidden=(8,), embedding_width=8, clusters=CLUSTERS, routing=routing)
    ranker = build_ranker(config, schema).train()
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.01)
    batch, label, _ = world(ROWS, 0, domain_is_cluster)
    for epoch in range(4):
        for part in torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch)).split(200):
            optimiser.zero_grad()
            outputs = ranker({name: values[part] for name, values in batch.items()})
            ranker.loss(outputs, {"like": label[part]}).backward()
            optimiser.step()
    fresh, _, cluster = world(2000, 1, domain_is_cluster)
    with torch.no_grad():
        x = ranker.interaction(ranker.eval().field_vectors(fresh))
        route = ranker.domain.route(x, fresh)
    table = torch.bincount(route * CLUSTERS + cluster, minlength=CLUSTERS**2).view(CLUSTERS, CLUSTERS)
    return float(table.amax(dim=1).sum() / len(route)), ranker.diagnostics()


@pytest.mark.parametrize(("routing", "recovers"), [("centred", True), ("literal", False)])
def test_planted_clusters_are_recovered_without_a_domain(routing: str, recovers: bool) -> None:
    """The control routes raw vectors, as published code does: its centres are one."""
    purity, shown = trained(routing, domain_is_cluster=False, declared=False)
    assert (purity >= 0.95) is recovers, (purity, shown)
    assert (shown["centre_cosine_max"] < 0.5) is recovers
    assert (min(shown[f"usage_{k}"] for k in range(CLUSTERS)) > 0.2) is recovers
    assert "domain_information" not in shown, "no domain is declared"


@pytest.mark.parametrize("same", [True, False])
def test_it_is_told_when_clusters_only_rediscover_the_domains(same: bool) -> None:
    _, shown = trained("centred", domain_is_cluster=same, declared=True)
    assert (shown["domain_information"] > 0.8) is same
    assert (shown["domain_information"] < 0.1) is not same


def test_information_of_known_tables() -> None:
    assert normalised_information(torch.eye(3) / 3) == pytest.approx(1.0, abs=1e-6)
    assert normalised_information(torch.full((3, 4), 1 / 12)) == pytest.approx(0.0, abs=1e-6)
    assert normalised_information(torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == 0.0
    # By hand: H(a) = H(b) = ln 2, I = ln 2 − H(0.9).
    shares = torch.tensor([[0.45, 0.05], [0.05, 0.45]])
    assert normalised_information(shares) == pytest.approx(0.531004, abs=1e-5)
