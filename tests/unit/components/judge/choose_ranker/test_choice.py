"""Is the best candidate the one that is best, and is a difference called more than chance only where it is?"""

from __future__ import annotations

import numpy as np
import pytest

from components.judge.choose_ranker.choice import Answers, Choice, Rows, choose, told
from components.judge.choose_ranker.config import Config
from components.judge.choose_ranker.page import choice_page
from components.platform.errors import BadInputError
from features.declaration import JudgeBy
from registry.metrics import auc, mean_paired_bootstrap, stable_paired_bootstrap

ROWS, USERS = 3000, 150
CONFIG = Config(resamples=100, most_resamples=200)


def world(seed: int = 0) -> tuple[Rows, dict[str, Answers]]:
    """Two labels; `sharp` and its twin know the truth, `dull` half of it, `blind` nothing."""
    rng = np.random.default_rng(seed)
    truth = {name: rng.normal(size=ROWS) for name in ("like", "love")}
    labels = {name: (rng.random(ROWS) < 1 / (1 + np.exp(-2 * value))).astype(float) for name, value in truth.items()}

    def answers(noise: float) -> Answers:
        scores = {name: 1 / (1 + np.exp(-value - noise * rng.normal(size=ROWS))) for name, value in truth.items()}
        return Answers("dnn", f"digest {noise}", scores)

    sharp = answers(0.0)
    made = {"dull": answers(1.5), "sharp": sharp, "twin": sharp, "blind": answers(100.0)}
    return Rows(labels, rng.integers(0, USERS, ROWS), None), made


def chosen(metric: JudgeBy = "auc", seed: int = 0, names: tuple[str, ...] = ("dull", "sharp", "blind")) -> Choice:
    rows, made = world(seed)
    return choose({name: made[name] for name in names}, rows, metric, CONFIG, "d")


@pytest.mark.parametrize("metric", ["auc", "gauc", "log_loss"])
def test_the_one_that_knows_the_truth_is_chosen_and_shown_to_be_better(metric: JudgeBy) -> None:
    found = chosen(metric)
    assert [one.stage for one in found.candidates] == ["sharp", "dull", "blind"]
    assert [one.beaten for one in found.candidates] == [False, True, True] and found.open == ()
    for one in found.candidates[1:]:
        assert found.chosen.value is not None and one.value is not None and one.behind is not None
        assert one.behind.value == pytest.approx(abs(found.chosen.value - one.value))
    assert told(found)[1].endswith("better than dull, more than chance")


def test_the_mean_over_the_feedback_decides() -> None:
    rows, made = world()
    swapped = {
        name: Answers("dnn", name, {"like": made[like].scores["like"], "love": made[love].scores["love"]})
        for name, like, love in (("a", "sharp", "blind"), ("b", "dull", "dull"))
    }
    found = choose(swapped, rows, "auc", CONFIG, "d")
    means = {name: np.mean([auc(rows.labels[x], one.scores[x]) for x in rows.labels]) for name, one in swapped.items()}
    assert found.chosen.stage == max(means, key=lambda name: float(means[name])) == "b"
    assert found.candidates[1].values["like"] > found.chosen.values["like"]  # type: ignore[operator]  # defined here


def test_equal_ones_are_not_called_different_and_the_order_changes_nothing() -> None:
    found = chosen(names=("twin", "sharp"))
    assert found.chosen.stage == "sharp" and not found.candidates[1].beaten and len(found.open) == 1
    assert found == chosen(names=("sharp", "twin"))
    assert told(found)[1] == "+0.0000 [+0.0000, +0.0000] better than twin, which may be chance"
    assert "may be chance" in choice_page(found) and "more than chance.</p>" not in choice_page(found)


def test_noise_is_seldom_called_more_than_chance() -> None:
    """Two candidates that know equally much: the better of them is picked first, so a little above one half of 5 %."""
    false = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = {"like": (rng.random(400) < 0.5).astype(float)}
        made = {name: Answers("dnn", name, {"like": rng.random(400)}) for name in ("a", "b")}
        rows = Rows(labels, np.arange(400) % 100, None)
        false += choose(made, rows, "auc", CONFIG, "d").candidates[1].beaten
    assert false <= 7  # of 40; at 5 % more would come once in a thousand times


def test_rows_of_one_label_choose_nothing_and_one_candidate_needs_no_rival() -> None:
    rows, made = world()
    empty = Rows({**rows.labels, "love": np.zeros(ROWS)}, rows.user, None)
    with pytest.raises(BadInputError, match="do not define the auc of love"):
        choose(made, empty, "auc", CONFIG, "d")
    alone = chosen(names=("dull",))
    assert alone.chosen.stage == "dull" and len(told(alone)) == 1 and "dull chosen of 1" in choice_page(alone)


def test_the_mean_of_one_label_is_the_bootstrap_of_it_and_of_two_their_mean() -> None:
    rows, made = world()
    one, other = made["sharp"].scores, made["dull"].scores
    alone = {
        name: stable_paired_bootstrap(rows.labels[name], one[name], other[name], rows.user, "auc", np.inf, 50)[0]
        for name in rows.labels
    }
    labels, a, b = ([of[name] for name in rows.labels] for of in (rows.labels, one, other))
    assert mean_paired_bootstrap(labels[:1], a[:1], b[:1], rows.user, "auc", np.inf, 50)[0] == alone["like"]
    both, drawn = mean_paired_bootstrap(labels, a, b, rows.user, "auc", np.inf, 50)
    assert drawn == 50 and both.value == pytest.approx(np.mean([each.value for each in alone.values()]))  # type: ignore[arg-type]  # defined here
