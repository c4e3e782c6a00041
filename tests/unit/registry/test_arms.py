"""Are two arms of a canary judged by what their users did, with an interval that many rows of few users do not fool?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.evaluation import ALL, Interval
from registry.gate.arms import RATE, RateMargins, Served, judge_arms
from registry.gate.policy import GatePolicy
from registry.gate.verdict import Judgement
from registry.metrics.resampling import Arm, arms_bootstrap
from registry.metrics.weighted import group_codes, ratio_statistic, sums

FAST = GatePolicy(resamples=100, most_resamples=100, min_positives=20)
MARGINS = RateMargins(0.02, 0.1)
Array = np.ndarray[Any, Any]


def rate(labels: Array, users: Array) -> Arm:
    codes, size = group_codes(users, labels.size)
    return Arm(ratio_statistic(sums(codes, size, labels), sums(codes, size, np.ones(labels.size))), labels.size, size)


def interval(one: Arm, other: Arm, seed: int = 0, relative: bool = False) -> Interval:
    return arms_bootstrap(one, other, np.inf, 200, 200, seed, relative=relative)[0]


def users_with(rng: np.random.Generator, users: int, rows: int, spread: float, shift: float = 0.0) -> tuple[Any, Any]:
    """Return labels and users; each user has a rate of its own."""
    own = 1 / (1 + np.exp(-(rng.normal(-1 + shift, spread, users))))
    user = np.repeat(np.arange(users), rows)
    return (rng.random(user.size) < own[user]).astype(float), user


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Two arms of one population: 95 of 100 intervals hold 0, whatever users do alike."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        found = interval(rate(*users_with(rng, 60, 8, 1.0)), rate(*users_with(rng, 90, 8, 1.0)), seed)
        assert found.low is not None and found.high is not None
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199, "0.95 within three standard errors"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 5))
def test_rows_that_only_repeat_their_users_add_nothing(seed: int, times: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = users_with(rng, 20, 3, 1.0), users_with(rng, 25, 3, 1.0)
    once = interval(rate(*one), rate(*other))
    more = interval(*(rate(np.tile(labels, times), np.tile(users, times)) for labels, users in (one, other)))
    np.testing.assert_allclose([more.value, more.low, more.high], [once.value, once.low, once.high], atol=1e-12)


def test_the_arms_are_drawn_apart() -> None:
    """The same rows in both: were they drawn alike, every difference would be nought."""
    labels, users = users_with(np.random.default_rng(1), 50, 4, 1.0)
    found = interval(rate(labels, users), rate(labels, users))
    assert (
        found.value == 0 and found.low is not None and found.high is not None and found.low < -0.02 < 0.02 < found.high
    )


def served(seed: int, users: int = 300, rows: int = 6, shift: float = 0.0, noise: float = 0.0) -> Served:
    rng = np.random.default_rng(seed)
    taste = rng.normal(-0.5 + shift, 0.5, users)
    user = np.repeat(np.arange(users), rows)
    logit = taste[user] + rng.normal(0, 1, user.size)
    like = (rng.random(user.size) < 1 / (1 + np.exp(-logit))).astype(float)
    return Served(
        labels={"like": like},
        answers={"like": 1 / (1 + np.exp(-(logit + noise * rng.normal(0, 1, user.size))))},
        user=user,
        domain=np.array(["east", "west"])[user % 2],
        propensity=np.full(user.size, 0.5),
        request=user,
    )


def cells(challenger: Served, champion: Served, policy: GatePolicy = FAST) -> dict[tuple[str, str], Judgement]:
    return {(j.metric, j.domain): j for j in judge_arms(challenger, champion, policy, MARGINS)}


def test_the_same_population_passes_and_fewer_likes_are_refused() -> None:
    same = cells(served(0), served(1))
    assert {*same} == {(RATE, ALL), (RATE, "east"), (RATE, "west"), ("auc", ALL)}
    assert {j.outcome for j in same.values()} == {"passed"}
    fewer = cells(served(0, shift=-1.0), served(1))
    assert fewer[RATE, ALL].outcome == "refused" and fewer["auc", ALL].outcome == "passed"
    likes = [arm.labels["like"].mean() for arm in (served(0, shift=-1.0), served(1))]
    difference = fewer[RATE, ALL].difference
    assert difference is not None and difference.value == pytest.approx(likes[0] / likes[1] - 1)
    more = cells(served(0, shift=1.0), served(1))
    assert more[RATE, ALL].outcome == "passed"


def test_a_challenger_that_orders_worse_is_refused_by_its_auc() -> None:
    assert cells(served(0, noise=5.0), served(1))["auc", ALL].outcome == "refused"


def test_strict_needs_proof_and_few_rows_are_not_judged() -> None:
    strict = FAST.model_copy(update={"rule": "non_inferior"})
    assert cells(served(0, users=40), served(1, users=40), strict)[RATE, ALL].outcome == "refused"
    few = cells(served(0, users=8, rows=3), served(1))
    assert few[RATE, "east"].outcome == "not judged" and "20 are needed" in few[RATE, "east"].reason


def joined(one: Served, other: Served) -> Served:
    """Return the rows of two days as one arm; each day has users of its own."""
    return Served(
        labels={"like": np.concatenate([one.labels["like"], other.labels["like"]])},
        answers={"like": np.concatenate([one.answers["like"], other.answers["like"]])},
        user=np.concatenate([one.user, other.user + 10_000]),
        domain=np.concatenate([one.domain, other.domain]),
        propensity=np.concatenate([one.propensity, other.propensity]),
        request=np.concatenate([one.request, other.request + 10_000]),  # type: ignore[operator]
    )


def day(seed: int, users: int, chance: float, shift: float) -> Served:
    made = served(seed, users, shift=shift)
    return replace(made, propensity=np.full(made.rows, chance))


def test_a_share_that_was_raised_on_a_better_day_makes_no_difference() -> None:
    """On the second day everybody likes more and the canary's share goes from 10 to 50 %."""
    challenger = joined(day(0, 100, 0.1, -1.0), day(1, 500, 0.5, 1.0))
    champion = joined(day(2, 900, 0.9, -1.0), day(3, 500, 0.5, 1.0))
    fair = cells(champion, challenger)[RATE, ALL]
    assert fair.outcome == "passed" and fair.difference is not None and abs(fair.difference.value or 1) < 0.1
    plain = [replace(arm, propensity=np.ones(arm.rows)) for arm in (champion, challenger)]
    unfair = cells(*plain)[RATE, ALL]
    assert unfair.outcome == "refused", "without its chance each row tells of the day, not of the version"


def test_a_chance_that_is_none_is_a_sentence() -> None:
    with pytest.raises(BadInputError, match="chance of their arm"):
        cells(replace(served(0), propensity=np.zeros(1800)), served(1))
