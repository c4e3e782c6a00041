"""Are draws of a slate those of the posterior, the same for the same request, and do they find more than a bonus?"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.memory.refresh_bandit.config import Config
from features.declaration import Window
from registry.memory.bandit import Bandit, BanditHeader
from registry.memory.draws import Draw, drawn, first_propensity, in_slate, normals
from registry.serving.wire.config import Explore

KNOWN = [
    [0.3582724945989208, -0.22804031092187238, -0.995366165544748, -0.2340440111688023],
    [0.7251384534743851, 0.7692196414913531, -0.7770528286347864, -0.34162558769317203],
]
WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


def test_rankings_are_read_place_by_place() -> None:
    """Draws 3 1 2, 3 2 1, 1 3 2: the firsts are 3, 3, 1, and the first second that is new is 2."""
    scores = np.array([[2.0, 1.0, 3.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    assert (in_slate(scores, np.arange(3)) + 1).tolist() == [3, 1, 2]
    assert (in_slate(scores[:1], np.arange(3)) + 1).tolist() == [3, 1, 2]
    assert in_slate(np.zeros((4, 3)), np.array([2, 0, 1])).tolist() == [1, 2, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 6))
def test_nothing_is_picked_twice_and_what_is_sure_keeps_its_score_to_the_bit(seed: int, rows: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    score, items, draw = rng.normal(size=rows), pa.array(rng.permutation(rows)), Draw("r", seed, count)
    assert drawn(score, np.zeros(rows), items, draw).tolist() == score.tolist()
    spread = rng.uniform(0, 2, rows)
    found = drawn(score, spread, items, draw)
    first = score + spread * normals(items, draw)[0]
    assert sorted(found) == sorted(first)  # the scores of the first draw, at the places of all
    assert found.argmax() == first.argmax()
    order = in_slate(score + spread * normals(items, draw), np.arange(rows))
    assert sorted(order) == list(range(rows)) and all(found[one] >= found[two] for one, two in pairwise(order))


def test_a_request_gets_its_draws_again_whatever_else_is_asked() -> None:
    items, draw = pa.array([7, 8, 9, -1]), Draw("a", 3, 2)
    whole = normals(items, draw)
    assert normals(items.take(pa.array([2, 0])), draw).tolist() == whole[:, [2, 0]].tolist()
    assert normals(pa.chunked_array([items.cast(pa.int32())]), draw).tolist() == whole.tolist()
    assert normals(items, Draw("a", 3, 1)).tolist() == whole[:1].tolist()
    others = [normals(items, Draw("b", 3, 2)), normals(items, Draw("a", 4, 2)), normals(pa.array(list("wxyz")), draw)]
    assert all((other != whole).all() for other in others)
    named = normals(pa.array(["x", "y"]), draw)
    assert normals(pa.array(["y"]), draw).tolist() == named[:, 1:].tolist()
    # Written down, so that no release draws otherwise for a request that is replayed.
    np.testing.assert_allclose(whole, KNOWN, rtol=1e-12)
    assert normals(pa.array([], pa.int64()), draw).shape == (2, 0)


def test_draws_are_normal_and_independent_of_each_other() -> None:
    found = normals(pa.array(np.arange(20_000)), Draw("a", 0, 3))
    within = 4 / np.sqrt(20_000)
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=within)
    np.testing.assert_allclose(found.std(axis=1), 1, atol=within)
    np.testing.assert_allclose(np.quantile(found, [0.05, 0.25, 0.75, 0.95]), [-1.645, -0.674, 0.674, 1.645], atol=0.03)
    np.testing.assert_allclose(np.corrcoef(found), np.eye(3), atol=within)
    np.testing.assert_allclose(np.corrcoef(found[:, :-1], found[:, 1:])[:3, 3:], 0, atol=within)
    of_requests = np.array([normals(pa.array([5]), Draw(f"r{one}", 0, 1))[0, 0] for one in range(4_000)])
    assert abs(of_requests.mean()) < 4 / np.sqrt(4_000) and abs(of_requests.std() - 1) < 4 / np.sqrt(4_000)


@pytest.mark.parametrize(
    ("score", "spread"),
    [
        ((0.3, 0.2, 0.1), (0.05, 0.05, 0.3)),
        ((0.3, 0.3, 0.29), (0.0005, 0.05, 0.0)),
        ((0.1, 0.1, 0.2, 0.19), (0.1, 0.0, 0.0, 0.02)),
    ],
)
def test_the_chance_of_the_first_place_is_that_of_the_draws(
    score: tuple[float, ...], spread: tuple[float, ...]
) -> None:
    mean, deviation, items = np.array(score), np.array(spread), pa.array(np.arange(len(score)))
    often, tries = np.zeros(len(score)), 2_000
    for one in range(tries):
        often[drawn(mean, deviation, items, Draw(f"r{one}", 0, 3)).argmax()] += 1 / tries
    found = first_propensity(mean, deviation, items)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(often, found, atol=4 * np.sqrt(0.25 / tries))


def test_chances_are_exact_where_they_are_known_in_closed_form() -> None:
    from scipy.special import ndtr

    two = first_propensity(np.array([0.1, 0.3]), np.array([0.2, 0.1]), pa.array([1, 2]))
    assert two[0] == pytest.approx(ndtr(-0.2 / np.hypot(0.2, 0.1)), rel=1e-4)
    rare = first_propensity(np.array([0.0, 0.4]), np.array([0.08, 0.01]), pa.array([1, 2]))
    assert rare[0] == pytest.approx(ndtr(-0.4 / np.hypot(0.08, 0.01)), rel=1e-2) and rare[0] < 1e-6
    alike = first_propensity(np.full(300, 0.1), np.full(300, 0.05), pa.array(np.arange(300)))
    np.testing.assert_allclose(alike, 1 / 300, rtol=1e-9)
    sure = first_propensity(np.array([0.2, 0.2, 0.1]), np.zeros(3), pa.array([9, 4, 1]))
    assert sure.tolist() == [0.0, 1.0, 0.0]  # of equal ones the smaller id
    above = first_propensity(np.array([0.2, 0.1]), np.array([0.0, 0.05]), pa.array([1, 2]))
    np.testing.assert_allclose(above, [ndtr(2), 1 - ndtr(2)], rtol=1e-5)


KINDS, KNOWN_ITEMS, NEW_ITEMS = 2, 20, 6


def regret(by: str, seed: int, alpha: float, nights: int = 25, visits: int = 200) -> float:
    """Return how far the true rate of what was shown lay below the best one's, on average over nights.

    Two kinds of users and 26 items, whose rates are those of clicks on offers: 20 were shown 300 times to each kind,
    their rates at most .06; 6 are new, and one of them is liked best by each kind, .12. What is counted and learned
    is known to the ranker and to the bandit on the next night, so that a night shows what the nights before know.
    """
    rng = np.random.default_rng(seed)
    rates = rng.beta(2, 40, (KINDS, KNOWN_ITEMS + NEW_ITEMS))
    rates[:, :KNOWN_ITEMS] = np.minimum(rates[:, :KNOWN_ITEMS], 0.06)
    rates[[0, 1], [KNOWN_ITEMS, KNOWN_ITEMS + 1]] = 0.12
    shown, clicks = np.zeros_like(rates), np.zeros_like(rates)
    shown[:, :KNOWN_ITEMS] = 300
    clicks[:, :KNOWN_ITEMS] = rng.binomial(300, rates[:, :KNOWN_ITEMS])
    centres, items = np.array([[0.0], [1.0]]), pa.array(np.arange(rates.shape[1]))
    lost = []
    for night in range(nights):
        header = BanditHeader(
            model="shop", version=1, ranker_digest="r", item="item_id", feedback="click", alpha=alpha, nearest=1,
            covers=WINDOW, rows=1,
        )  # fmt: skip
        state = Bandit(header, centres, items, 1 + shown, clicks)
        prior = clicks.sum(axis=1, keepdims=True) / shown.sum(axis=1, keepdims=True)
        score = (clicks + 20 * prior) / (shown + 20)
        bonus = np.array([state.bonus(np.repeat(centre[None], len(items), axis=0), items) for centre in centres])
        kind = rng.integers(0, KINDS, visits)
        if by == "draw":
            draws = (Draw(f"{night}:{visit}", seed) for visit in range(visits))
            served = [drawn(score[one], bonus[one], items, draw) for one, draw in zip(kind, draws, strict=True)]
            first = np.array([scores.argmax() for scores in served])
        else:
            first = (score + (bonus if by == "bonus" else 0)).argmax(axis=1)[kind]
        lost.append(float((rates.max(axis=1)[kind] - rates[kind, first]).mean()))
        click = (rng.random(visits) < rates[kind, first]).astype(float)
        np.add.at(shown, (kind, first), 1.0)
        np.add.at(clicks, (kind, first), click)
    return float(np.mean(lost))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exploring_loses_less_than_the_ranker_alone(seed: int) -> None:
    """By the shipped weight the bonus loses least; by the deviation of one reward, √(p(1 − p)) = .2, the draws do."""
    greedy = regret("greedy", seed, 0.0)
    bonus, draw = (regret(by, seed, Config(model="shop").alpha) for by in ("bonus", "draw"))
    assert bonus < 0.5 * greedy and bonus < draw < 0.95 * greedy, (greedy, bonus, draw)
    bonus, draw = (regret(by, seed, 0.2) for by in ("bonus", "draw"))
    assert draw < 0.75 * bonus < 0.5 * greedy, (greedy, bonus, draw)


def test_what_only_draws_read_is_refused_beside_a_bonus() -> None:
    assert Explore().draw is None and Explore(by="draw", draws=3).draw == Draw("", 0, 3)
    with pytest.raises(ValueError, match="draws is read by explore with by: draw: set it, or leave draws out"):
        Explore(draws=3)
