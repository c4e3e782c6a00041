"""Is the bonus of Diag-LinUCB the known one, and does it find what a ranker alone never shows?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.memory.refresh_bandit.page import write_report
from features.declaration import Window
from features.ground.errors import BadInputError, MissingError
from registry.memory.bandit import STATE, Bandit, BanditHeader, clustered, mixture, open_bandit, sums

WINDOW = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))


def bandit(d: Any, b: Any, centres: Any = ((0.0,), (1.0,)), alpha: float = 1.0, nearest: int = 2) -> Bandit:
    header = BanditHeader(
        model="shop", version=1, ranker_digest="r", item="item_id", feedback="click", alpha=alpha, nearest=nearest,
        covers=WINDOW, rows=3,
    )  # fmt: skip
    d, b = np.asarray(d, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return Bandit(header, np.asarray(centres, dtype=np.float64), pa.array(np.arange(d.shape[1])), d, b)


def test_sums_mean_and_bonus_are_those_worked_out_by_hand() -> None:
    weight = np.array([[0.7, 0.3], [0.7, 0.3], [0.2, 0.8]])
    d, b = sums(weight, np.zeros(3, dtype=np.int64), np.array([1.0, 0.0, 1.0]), 1)
    np.testing.assert_allclose(1 + d[:, 0], [2.02, 1.82], atol=1e-12)
    np.testing.assert_allclose(b[:, 0], [0.9, 1.1], atol=1e-12)
    found = bandit(1 + d, b)
    middle, item = np.array([[0.5]]), pa.array([0])  # as near to the one as to the other
    assert found.mixture(middle).tolist() == [[0.5, 0.5]]
    assert found.mean(middle, item)[0] == pytest.approx(0.5249700794, abs=1e-10)
    assert found.bonus(middle, item)[0] == pytest.approx(0.5110039272, abs=1e-10)


def test_one_cluster_is_ucb_on_means() -> None:
    found = bandit([[1.0 + 8]], [[2.0]], centres=[[0.0]])
    user, item = np.array([[3.0]]), pa.array([0])
    assert found.bonus(user, item)[0] == 1 / np.sqrt(9) and found.mean(user, item)[0] == 2 / 9


def test_an_item_that_nobody_reached_has_the_largest_bonus() -> None:
    found = bandit([[5.0, 1.0], [1.0, 9.0]], np.zeros((2, 2)), alpha=0.3, nearest=1)
    user = np.array([[0.0], [0.0], [0.0]])
    assert found.bonus(user, pa.array([0, 1, 77])).tolist() == [0.3 / np.sqrt(5), 0.3, 0.3]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(0, 30))
def test_sums_of_parts_are_the_sum_of_the_whole(seed: int, rows: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    weight = mixture(rng.normal(size=(rows, 3)), rng.normal(size=(4, 3)), 2)
    np.testing.assert_allclose(weight.sum(axis=1), 1.0, atol=1e-12)
    assert ((weight > 0).sum(axis=1) <= 2).all()
    at, reward = rng.integers(0, 5, rows), rng.integers(0, 2, rows).astype(float)
    whole = sums(weight, at, reward, 5)
    first, second = sums(weight[:cut], at[:cut], reward[:cut], 5), sums(weight[cut:], at[cut:], reward[cut:], 5)
    for one, two, all_of in zip(first, second, whole, strict=True):
        np.testing.assert_allclose(one + two, all_of, atol=1e-12)


def test_what_was_kept_opens_for_its_ranker_alone(tmp_path: Path) -> None:
    made = bandit([[5.0, 1.0], [1.0, 9.0]], [[1.0, 0.0], [0.0, 2.0]], alpha=0.2)
    made.save(tmp_path)
    report = write_report(tmp_path, made)
    assert (report.untouched, report.most) == (0.5, 0.2) and "Bandit of shop v1" in (
        tmp_path / "bandit.html"
    ).read_text()
    again = open_bandit(tmp_path, "r")
    user, items = np.array([[0.2]] * 2), pa.array([0, 1])
    assert again.bonus(user, items).tolist() == made.bonus(user, items).tolist()
    with pytest.raises(BadInputError, match="belongs to shop v1, another ranker: refresh it"):
        open_bandit(tmp_path, "other")
    (tmp_path / STATE).write_bytes(b"no")
    with pytest.raises(BadInputError, match=r"cannot be read .*refresh it again"):
        open_bandit(tmp_path, "r")
    (tmp_path / STATE).unlink()
    with pytest.raises(MissingError):
        open_bandit(tmp_path, "r")


def nights(alpha: float, seed: int, count: int = 25, visits: int = 200) -> tuple[float, float]:
    """Return the mean true rate of what was shown, and the share of the new item on the last night.

    Two kinds of users, 20 known items with rates below .3, and item 20, new, which everybody of the first kind likes
    best. Every night the ranker learns its rates anew from what was shown, by kind; between nights the first item by
    score is shown: the rate that the ranker knows, and where there is a bandit its bonus.
    """
    rng = np.random.default_rng(seed)
    rates = np.vstack([rng.beta(1.2, 8, (2, 20)).T.clip(0, 0.3), [0.5, 0.05]]).T
    users = np.array([[0.0, 1.0], [1.0, 0.0]])
    shown, clicks = np.zeros((2, 21)), np.zeros((2, 21))
    shown[:, :20] = 200.0  # what the log knew before the item came
    clicks[:, :20] = rng.binomial(200, rates[:, :20])
    centres = clustered(users, 2, 0)
    state = bandit(1.0 + shown, clicks, centres, alpha, nearest=1)
    earned, share = [], 0.0
    for _ in range(count):
        prior = clicks.sum(axis=1, keepdims=True) / shown.sum(axis=1, keepdims=True)
        known = (clicks + 20 * prior) / (shown + 20)
        kind = rng.integers(0, 2, visits)
        best = np.empty(visits, dtype=np.int64)
        for one in (0, 1):
            score = known[one].copy()
            if alpha:
                score += state.bonus(np.repeat(users[one : one + 1], 21, axis=0), pa.array(np.arange(21)))
            noise = score + rng.normal(0, 1e-9, (visits, 21))
            best[kind == one] = noise.argmax(axis=1)[kind == one]
        click = (rng.random(visits) < rates[kind, best]).astype(float)
        earned.append(float(rates[kind, best].mean()))
        np.add.at(shown, (kind, best), 1.0)
        np.add.at(clicks, (kind, best), click)
        d, b = sums(mixture(users[kind], centres, 1), best, click, 21)
        state = bandit(state.d + d, state.b + b, centres, alpha, nearest=1)
        share = float((best == 20)[kind == 0].mean())
    return float(np.mean(earned)), share


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exploring_finds_a_new_item_that_the_ranker_alone_never_shows(seed: int) -> None:
    (alone, never), (found, share) = nights(0.0, seed), nights(1.0, seed)
    assert never == 0.0 and share > 0.9
    assert found > 1.1 * alone, (found, alone)
