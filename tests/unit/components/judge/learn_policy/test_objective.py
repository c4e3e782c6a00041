"""Are the estimates that learning climbs the known ones, with the known gradients?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from components.judge.learn_policy.objective import Batch, Objective, lower_bound, policy_of, terms

SCORES = [[0.2, 0.1, -0.3], [0.0, 0.5, 0.1], [-0.2, 0.4, 0.6], [0.3, 0.3, -0.1]]
LOGGED = [[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.6, 0.2, 0.2], [0.25, 0.25, 0.5]]
CHOSEN, REWARD = [0, 1, 2, 2], [1.0, 0.2, 0.5, 0.0]
EXPECTED = [[0.7, 0.4, 0.3], [0.3, 0.25, 0.2], [0.5, 0.5, 0.4], [0.2, 0.2, 0.1]]
BY_HAND = {"ips": 0.5185809219, "snips": 0.4734423715, "dr": 0.4349880575}
GRADIENTS: dict[Objective, Any] = {
    "ips": [
        [0.119817, -0.071733, -0.048084], [-0.011700, 0.024630, -0.012930], [-0.054593, -0.099475, 0.154067], [0, 0, 0],
    ],
    "dr": [
        [0.056322, -0.030104, -0.026217], [0.006348, -0.006004, -0.000344], [-0.008735, -0.015916, 0.024651],
        [0.007050, 0.007050, -0.014101],
    ],
}  # fmt: skip


def batch(reward: list[float] = REWARD, moved: float = 0.0) -> Batch:
    chances = torch.tensor(LOGGED, dtype=torch.float64)
    chosen = torch.tensor(CHOSEN)
    return Batch(
        chosen=chosen,
        propensity=chances.gather(1, chosen[:, None])[:, 0],
        reward=torch.tensor(reward, dtype=torch.float64) + moved,
        expected=torch.tensor(EXPECTED, dtype=torch.float64) + moved,
    )


def scores() -> torch.Tensor:
    return torch.tensor(SCORES, dtype=torch.float64, requires_grad=True)


def gradient(objective: Objective, moved: float = 0.0, clip: float | None = None) -> tuple[float, np.ndarray[Any, Any]]:
    given = scores()
    allowed = torch.ones(4, 3, dtype=torch.bool)
    value = terms(policy_of(given, allowed, 1.0, 0.0), batch(moved=moved), objective, clip).mean()
    value.backward()
    assert given.grad is not None
    return float(value.detach()), given.grad.numpy()


@pytest.mark.parametrize("objective", ["ips", "snips", "dr"])
def test_values_are_those_worked_out_by_hand(objective: Objective) -> None:
    assert gradient(objective)[0] == pytest.approx(BY_HAND[objective], abs=1e-10)


@pytest.mark.parametrize("objective", ["ips", "dr"])
def test_gradients_are_those_worked_out_by_hand(objective: Objective) -> None:
    np.testing.assert_allclose(gradient(objective)[1], GRADIENTS[objective], atol=1e-6)


def test_the_terms_of_snips_have_the_gradient_of_the_ratio() -> None:
    given = scores()
    found = batch()
    chance = policy_of(given, torch.ones(4, 3, dtype=torch.bool), 1.0, 0.0)
    weight = chance.gather(1, found.chosen[:, None])[:, 0] / found.propensity
    ((weight * found.reward).sum() / weight.sum()).backward()  # type: ignore[no-untyped-call]
    assert given.grad is not None
    np.testing.assert_allclose(gradient("snips")[1], given.grad.numpy(), atol=1e-14)


@pytest.mark.parametrize("objective", ["snips", "dr"])
def test_a_constant_reward_on_top_moves_the_value_and_no_gradient(objective: Objective) -> None:
    (value, found), (moved, same) = gradient(objective), gradient(objective, moved=3.0)
    assert moved == pytest.approx(value + 3.0, abs=1e-12)
    np.testing.assert_allclose(same, found, atol=1e-12)
    assert np.abs(gradient("ips", moved=3.0)[1] - gradient("ips")[1]).max() > 0.1  # the control


def test_a_clipped_row_has_no_gradient_through_its_weight() -> None:
    found = gradient("ips", clip=2.0)[1]
    assert np.abs(found[2]).max() == 0 and np.abs(found[0]).max() > 0.1


def test_scores_that_are_equal_give_the_uniform_choice_of_what_may_be_done() -> None:
    allowed = torch.tensor([[True, True, True], [True, False, True]])
    found = policy_of(torch.full((2, 3), 0.7, dtype=torch.float64), allowed, 0.5, 0.0)
    assert found.tolist() == [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, 0.5]]


def test_the_floor_leaves_every_action_its_share() -> None:
    allowed = torch.tensor([[True, True, False]])
    found = policy_of(torch.tensor([[50.0, -50.0, 9.0]], dtype=torch.float64), allowed, 1.0, 0.1)
    np.testing.assert_allclose(found.numpy(), [[0.95, 0.05, 0.0]], atol=1e-12)


def test_the_bound_lies_the_standard_errors_below_the_mean() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    error = float(np.std(values.numpy(), ddof=1)) / np.sqrt(100)
    assert float(lower_bound(values, 2.0, 100)) == pytest.approx(3.0 - 2.0 * error, abs=1e-12)
