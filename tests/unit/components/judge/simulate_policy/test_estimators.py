"""Do the estimators find the known value of a policy, and go wrong where they must?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.judge.simulate_policy import estimators, policies
from components.judge.simulate_policy.config import Config, Policy
from components.judge.simulate_policy.estimators import Floats, Integers, Logged
from components.judge.simulate_policy.groups import Reference
from components.judge.simulate_policy.judge import remarks, value_of
from components.judge.simulate_policy.rewards import cross_fitted_rates
from components.platform.errors import BadInputError

CONTEXTS, ITEMS = 4, 6
CONFIG = Config(policies=(Policy(kind="greedy"),), unit="row", bootstrap=300)


@dataclass(frozen=True)
class Bandit:
    """Chances of reward and of being shown, by context and item: everything is known."""

    reward: Floats
    behaviour: Floats
    target: Floats

    @property
    def truth(self) -> float:
        """Value of the target policy; contexts are equally likely."""
        return float((self.target * self.reward).sum(axis=1).mean())

    def draw(self, rows: int, seed: int, policy: Floats | None = None) -> tuple[Integers, Logged]:
        """Return the contexts of a log that `policy` made, the behaviour policy by default, and the log."""
        chances = self.behaviour if policy is None else policy
        rng = np.random.default_rng(seed)
        context = rng.integers(0, CONTEXTS, rows)
        shown = (rng.random(rows)[:, None] > chances.cumsum(axis=1)[context]).sum(axis=1)
        reward = (rng.random(rows) < self.reward[context, shown]).astype(np.float64)
        return context, Logged(reward=reward, propensity=chances[context, shown], shown=shown.astype(np.int64))


@pytest.fixture(scope="module")
def bandit() -> Bandit:
    """A log that prefers the items that earn least and a policy that prefers those that earn most."""
    reward = np.random.default_rng(7).uniform(0.02, 0.3, (CONTEXTS, ITEMS))
    return Bandit(reward, policies.softmax(1 - reward, 1.0), policies.softmax(reward, 1.0))


WRONG = np.full((CONTEXTS, ITEMS), 0.6)
"""A reward model that is far off."""


def estimates(bandit: Bandit, rows: int, seed: int, model: Floats, spoil: bool = False) -> dict[str, float]:
    """Return every estimate from one log; `spoil` shuffles its propensities."""
    context, logged = bandit.draw(rows, seed)
    if spoil:
        logged = replace(logged, propensity=np.random.default_rng(seed).permutation(logged.propensity))
    target, predicted = bandit.target[context], model[context]
    weight = estimators.weights(target, logged)
    return {
        "ips": estimators.ips(weight, logged).value,
        "snips": estimators.snips(weight, logged).value,
        "direct": estimators.direct(target, predicted).value,
        "dr": estimators.doubly_robust(target, weight, logged, predicted).value,
    }


def off(bandit: Bandit, name: str, model: Floats, *, spoil: bool = False, logs: int = 200) -> float:
    """Return the mean error over many logs in standard errors of that mean: below 4 is chance."""
    found = np.array([estimates(bandit, 800, seed, model, spoil)[name] for seed in range(logs)])
    return abs(float(found.mean()) - bandit.truth) / float(found.std(ddof=1) / np.sqrt(logs) + 1e-12)


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_right_propensities_find_the_truth_whatever_the_reward_model_says(bandit: Bandit, name: str) -> None:
    assert off(bandit, name, WRONG) < 4
    assert off(bandit, name, bandit.reward) < 4


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_shuffled_propensities_do_not(bandit: Bandit, name: str) -> None:
    assert off(bandit, name, WRONG, spoil=True) > 4


def test_the_direct_method_is_as_wrong_as_its_model_and_doubly_robust_is_not(bandit: Bandit) -> None:
    found = estimates(bandit, 4000, 0, WRONG)
    assert found["direct"] == pytest.approx(0.6)
    assert abs(found["dr"] - bandit.truth) < 0.1 < abs(found["direct"] - bandit.truth)
    assert off(bandit, "direct", bandit.reward) < 4, "the true model needs no correction"


def test_doubly_robust_forgives_wrong_propensities_when_the_model_is_right(bandit: Bandit) -> None:
    assert off(bandit, "dr", bandit.reward, spoil=True) < 4


def test_a_good_reward_model_makes_doubly_robust_steadier_than_ips(bandit: Bandit) -> None:
    # Rewards that are nearly certain: what is left for the correction is little.
    sure = replace(bandit, reward=np.where(bandit.reward > np.median(bandit.reward), 0.98, 0.02))
    found = [estimates(sure, 800, seed, sure.reward) for seed in range(200)]
    spread = {name: float(np.std([one[name] for one in found])) for name in ("ips", "snips", "dr")}
    assert spread["dr"] < 0.5 * spread["ips"]


def test_intervals_hold_the_truth_as_often_as_they_promise(bandit: Bandit) -> None:
    held = dict.fromkeys(("ips", "snips", "dr (model)"), 0)
    for seed in range(100):
        context, logged = bandit.draw(500, seed)
        rewards = {"model": bandit.reward[context]}
        quick = CONFIG.model_copy(update={"bootstrap": 200})
        value = value_of("t", "g", bandit.target[context], logged, rewards, np.arange(500), quick)
        for name in held:
            found = value.estimates[name]
            assert found.low is not None and found.high is not None
            held[name] += found.low <= bandit.truth <= found.high
    assert all(88 <= count <= 100 for count in held.values()), f"of 100 intervals of 95 %: {held}"


def test_the_on_policy_value_of_another_log_is_found(bandit: Bandit) -> None:
    """The path of a logged policy: its item frequencies per slot stand for it."""
    order = np.argsort(bandit.reward.mean(axis=0))
    chances = np.zeros(ITEMS)
    chances[order] = np.arange(1.0, ITEMS + 1) / 21
    flat = replace(bandit, target=np.tile(chances, (CONTEXTS, 1)))
    rows = 8000
    _, logged = flat.draw(rows, 11)
    _, own = flat.draw(rows, 12, policy=flat.target)
    frequency = policies.frequencies(own.shown, np.zeros(rows, dtype=np.int64), 1, ITEMS)
    np.testing.assert_allclose(frequency[0], chances, atol=0.02)
    reference = Reference(target=frequency[np.zeros(rows, int)], reward=own.reward, unit=np.arange(rows))
    value = value_of("t", "g", reference.target, logged, {}, np.arange(rows), CONFIG, reference)
    assert value.on_policy is not None and value.on_policy.value == pytest.approx(own.reward.mean())
    assert value.covers("ips") is True and value.covers("snips") is True
    assert value.on_policy.value > logged.reward.mean() + 0.02, "the policies differ"
    wrong = replace(logged, propensity=np.random.default_rng(0).permutation(logged.propensity))
    spoilt = value_of("t", "g", reference.target, wrong, {}, np.arange(rows), CONFIG, reference)
    assert spoilt.covers("ips") is False
    assert any("the mean weight is" in line for line in remarks(spoilt))
    assert not any("the mean weight is" in line for line in remarks(value))


def test_the_log_s_own_policy_has_its_own_mean_whatever_the_estimator() -> None:
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 3, 500)
    logged = Logged(reward=rng.integers(0, 2, 500).astype(float), propensity=np.full(500, 1 / 3), shown=shown)
    value = value_of("u", "g", policies.uniform(500, 3), logged, {}, np.arange(500), CONFIG)
    assert value.estimates["ips"] == value.estimates["snips"] == value.logged
    assert value.logged.value == pytest.approx(logged.reward.mean())
    assert value.effective_rows == pytest.approx(500)
    assert value.mean_weight.value == pytest.approx(1)


def test_a_worked_example_by_hand() -> None:
    logged = Logged(np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.25, 0.2]), np.array([0, 1, 1]))
    target = np.array([[0.25, 0.75], [0.5, 0.5], [0.8, 0.2]])
    model = np.array([[0.4, 0.2], [0.4, 0.2], [0.4, 0.2]])
    weight = estimators.weights(target, logged)
    np.testing.assert_allclose(weight, [0.5, 2.0, 1.0])
    assert estimators.ips(weight, logged).value == pytest.approx(1.5 / 3)
    assert estimators.snips(weight, logged).value == pytest.approx(1.5 / 3.5)
    assert estimators.direct(target, model).value == pytest.approx((0.25 + 0.3 + 0.36) / 3)
    corrected = 0.91 + 0.5 * 0.6 - 2 * 0.2 + 1 * 0.8
    assert estimators.doubly_robust(target, weight, logged, model).value == pytest.approx(corrected / 3)
    assert estimators.effective_rows(weight) == pytest.approx(3.5**2 / 5.25)


def test_clipping_cuts_the_largest_weights_and_says_so(bandit: Bandit) -> None:
    context, logged = bandit.draw(1000, 0)
    free = value_of("t", "g", bandit.target[context], logged, {}, np.arange(1000), CONFIG)
    cut = value_of(
        "t", "g", bandit.target[context], logged, {}, np.arange(1000), CONFIG.model_copy(update={"clip": 1.0})
    )
    assert free.clipped == 0 and 0 < cut.clipped < 1
    assert cut.largest_weight == free.largest_weight > 1
    assert cut.effective_rows > free.effective_rows
    assert cut.mean_weight.value is not None and cut.mean_weight.value < 0.95


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_propensity_that_is_no_chance_is_refused(wrong: float) -> None:
    with pytest.raises(BadInputError, match=r"1 of 3 propensities in column 'p' are not in \(0, 1\]") as raised:
        estimators.check_propensities(np.array([0.5, wrong, 1.0]), "p")
    assert "\n" not in str(raised.value)
    estimators.check_propensities(np.array([1e-9, 1.0]), "p")


scores = st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5)


@given(scores, st.floats(0.05, 20))
def test_policies_are_probabilities_and_prefer_what_is_predicted(predicted: list[list[float]], heat: float) -> None:
    q = np.array(predicted)
    for target in (policies.greedy(q), policies.softmax(q, heat)):
        assert (target >= 0).all()
        np.testing.assert_allclose(target.sum(axis=1), 1)
        rows = np.arange(len(q))
        assert (target[rows, q.argmax(axis=1)] >= target.max(axis=1) - 1e-9).all()


def test_temperature_leads_from_greedy_to_uniform() -> None:
    q = np.array([[0.2, 0.1, 0.05]])
    np.testing.assert_allclose(policies.softmax(q, 0.01), policies.greedy(q), atol=1e-12)
    np.testing.assert_allclose(policies.softmax(q, 100), policies.uniform(1, 3), atol=0.01)
    odds = q / (1 - q)
    np.testing.assert_allclose(policies.softmax(q, 1), odds / odds.sum())
    np.testing.assert_allclose(policies.greedy(np.array([[0.3, 0.3, 0.1]])), [[0.5, 0.5, 0]])


def test_rates_are_those_of_the_other_folds() -> None:
    """A row's own reward must not predict itself: rewards that are pure chance stay unpredictable."""
    rng = np.random.default_rng(0)
    logged = Logged(
        (rng.random(4000) < 0.3).astype(float), np.full(4000, 0.01), rng.integers(0, 400, 4000).astype(np.int64)
    )
    rates = cross_fitted_rates(logged, 400, 0)
    own = rates[np.arange(4000), logged.shown]
    assert np.corrcoef(own, logged.reward)[0, 1] < 0.03
    assert rates.mean() == pytest.approx(logged.reward.mean(), abs=0.01)
    better = Logged((logged.shown % 2).astype(float), logged.propensity, logged.shown)
    found = cross_fitted_rates(better, 400, 0)
    assert found[:, 1::2].min() > found[:, ::2].max(), "items that earn are told from items that do not"


def test_a_policy_without_a_single_reward_is_not_sold_as_certain(bandit: Bandit) -> None:
    context, logged = bandit.draw(300, 0)
    nothing = replace(logged, reward=np.zeros(300))
    value = value_of("t", "g", bandit.target[context], nothing, {}, np.arange(300), CONFIG)
    assert (value.estimates["ips"].low, value.estimates["ips"].high) == (0, 0)
    assert any("no interval tells how wrong" in line for line in remarks(value))
