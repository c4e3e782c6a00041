"""Does ESMM know the conversion probability of impressions that nobody clicked, and because of what?"""

from __future__ import annotations

from functools import cache
from statistics import mean
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from tests.known_truth import FunnelWorld, excess_loss, funnel_world

Kind = Literal["esmm", "clicks only", "second loss on clicks only"]
ROWS, BATCH, EPOCHS = 20_000, 1000, 6
SEEDS = (0, 1, 2)


def product_loss_on_clicks(outputs: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
    """The mistake of the specification, §1.6 no. 2: the second entropy is over clicked rows only."""
    deep = functional.binary_cross_entropy(outputs["conversion"], labels["conversion"], reduction="none")
    return functional.binary_cross_entropy(outputs["click"], labels["click"]) + (deep * labels["click"]).mean()


def pcvr_excess(kind: Kind, world: FunnelWorld, fresh: FunnelWorld, seed: int) -> float:
    """Train towers of one size, and return the excess loss of pCVR over all fresh impressions in the best epoch.

    An oracle chooses the epoch for every kind alike, so that none loses for being trained too long.
    """
    clicked = world.labels["click"] > 0
    if kind == "clicks only":
        name, feedback, rows = "dnn", ("conversion",), clicked.nonzero().flatten()
        schema = world.schema(*feedback, among=clicked)
    else:
        name, feedback, rows = "esmm", ("click", "conversion"), torch.arange(len(clicked))
        schema = world.schema(*feedback)
    size = BATCH * len(rows) // len(clicked)  # as many steps for each
    torch.manual_seed(seed)
    ranker = build_ranker(RankerConfig.of(name=name, embedding_width=8, hidden=(16, 8)), schema)
    optimiser = torch.optim.Adam(ranker.parameters(), lr=0.01)
    order = torch.Generator().manual_seed(seed)
    excess = []
    for _ in range(EPOCHS):
        ranker.train()
        for part in rows[torch.randperm(len(rows), generator=order)].split(size):
            outputs = ranker({field: values[part] for field, values in world.batch.items()})
            labels = {label: values[part] for label, values in world.labels.items()}
            loss = ranker.loss if kind != "second loss on clicks only" else product_loss_on_clicks
            optimiser.zero_grad()
            loss(outputs, labels).backward()
            optimiser.step()
        with torch.no_grad():
            outputs = ranker.eval()(fresh.batch)
        predicted = outputs["conversion" if kind == "clicks only" else "conversion_given_click"]
        excess.append(excess_loss(fresh.conversion, predicted))
    return min(excess)


@cache
def mean_excess(kind: Kind, selection: float) -> float:
    """Return the mean over three worlds; the kinds compared train on the same rows."""
    torch.set_num_threads(1)
    worlds = [[funnel_world(ROWS, seed, draw, selection) for draw in (0, 1)] for seed in SEEDS]
    return mean(pcvr_excess(kind, *pair, seed) for seed, pair in zip(SEEDS, worlds, strict=True))


def test_the_world_is_selected() -> None:
    """Clicked impressions convert far more often than all would, and the true probabilities are those of the draws."""
    world = funnel_world(ROWS, seed=0, draw=0)
    clicked = world.labels["click"] > 0
    assert world.conversion[clicked].mean() > 1.5 * world.conversion.mean()
    assert world.labels["click"].mean().item() == pytest.approx(world.click.mean().item(), abs=0.01)
    converted = world.labels["conversion"][clicked].mean().item()
    assert converted == pytest.approx(world.conversion[clicked].mean().item(), abs=0.03)
    unselected = funnel_world(ROWS, seed=0, draw=0, selection=0.0)
    clicked = unselected.labels["click"] > 0
    assert unselected.conversion[clicked].mean() == pytest.approx(unselected.conversion.mean().item(), abs=0.03)


@pytest.mark.parametrize(
    ("kind", "selection", "gains"),
    [("esmm", 1.0, True), ("second loss on clicks only", 1.0, False), ("esmm", 0.0, False)],
    ids=["ESMM", "control: second loss on clicks only", "control: clicks that tell nothing"],
)
def test_esmm_beats_a_model_of_clicked_rows_by_what_all_impressions_tell(
    kind: Kind, selection: float, gains: bool
) -> None:
    found, clicks_only = mean_excess(kind, selection), mean_excess("clicks only", selection)
    assert (found < 0.7 * clicks_only) is gains, (found, clicks_only)
