"""Do the same trials come whatever ends first, and what is stopped, repeated and chosen at the end?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.train.train_ranker.config import EpochReport
from components.train.tune_ranker.config import Config, StopEarly
from components.train.tune_ranker.records import Judge, Planned, Record
from components.train.tune_ranker.rungs import cutoffs, rungs, stopped
from components.train.tune_ranker.search import Search

JUDGE = Judge(metric="log_loss", tasks=("click",))


def config(**changes: Any) -> Config:
    space = {"learning_rate": {"log": [1e-4, 1e-1]}, "ranker.embedding_width": [4, 8, 16, 32]}
    return Config.model_validate({"ranker": {"name": "esmm"}, "space": space, "epochs": 4, "trials": 10, **changes})


def loss(trial: Planned) -> float:
    """Return a loss that is least at rate 3e-3 and width 16, and a little luck of the seed."""
    import math

    rate, width = float(trial.values["learning_rate"]), int(trial.values["ranker.embedding_width"])  # type: ignore[arg-type]
    luck = (trial.seed * 7919 + trial.number) % 13 / 1000
    return 0.5 + 0.1 * abs(math.log10(rate / 3e-3)) + 0.05 * abs(math.log2(width / 16)) + luck


def made(trial: Planned) -> Record:
    """Return how a trial comes out: each epoch is better than the one before, and the last is its loss."""
    history = []
    for epoch in range(1, 5):
        value = loss(trial) + 0.1 * (4 - epoch)
        history.append(
            EpochReport(epoch=epoch, train_loss=1.0, metrics={"validation/click/log_loss": value}, best=True)
        )
        if stopped(JUDGE.best(history), trial.cutoffs):
            break
    state: Any = "stopped" if stopped(JUDGE.best(history), trial.cutoffs) else "done"
    return Record(
        **trial.model_dump(), state=state, epochs=tuple(history), value=JUDGE.value(history[-1]), kept=history[-1].epoch
    )


def searched(
    made_of: Config,
    at_once: int = 1,
    pick: Callable[[int], int] = lambda _: 0,
    records: tuple[Record, ...] = (),
    most: int = 10**6,
    outcome: Callable[[Planned], Record] = made,
) -> Search:
    """Make trials until the search ends, `at_once` beside each other; `pick` says which of those that run ends next."""
    search = Search(made_of, JUDGE, records)
    running: list[Planned] = []
    done = 0
    while done < most:
        answer = "wait" if len(running) == at_once else search.next()
        if isinstance(answer, Planned):
            running.append(answer)
        elif answer == "end":
            break
        else:
            search.over(outcome(running.pop(pick(len(running)) % len(running))))
            done += 1
    return search


SEARCHES = [{}, {"stop_early": {}}, {"search": "optuna", "stop_early": {"keep": 0.5}, "repeat_best": 2}]


@pytest.mark.parametrize("how", SEARCHES, ids=["random", "stopped", "optuna"])
def test_the_same_seed_makes_the_same_trials_whatever_ends_first(how: dict[str, Any]) -> None:
    if how.get("search") == "optuna":
        pytest.importorskip("optuna")
    quiet = searched(config(**how))
    for at_once, pick in ((2, lambda n: n - 1), (4, lambda n: n // 2), (7, lambda n: 3)):
        assert searched(config(**how), at_once, pick).results == quiet.results
    assert len(quiet.results) == 10 + 2 * how.get("repeat_best", 0)
    other = searched(config(**how, seed=1))
    assert [r.values for r in other.results[1:10]] != [r.values for r in quiet.results[1:10]]


@pytest.mark.parametrize("how", SEARCHES, ids=["random", "stopped", "optuna"])
@pytest.mark.parametrize("killed", [1, 3, 8, 11])
def test_a_search_that_was_killed_goes_on_as_a_quiet_one(how: dict[str, Any], killed: int) -> None:
    if how.get("search") == "optuna":
        pytest.importorskip("optuna")
    before = searched(config(**how), 2, lambda n: n - 1, most=killed).results
    made_again: list[int] = []

    def counted(trial: Planned) -> Record:
        made_again.append(trial.number)
        return made(trial)

    after = searched(config(**how), records=before, outcome=counted)
    assert after.results == searched(config(**how)).results
    assert not {record.number for record in before} & {*made_again}


def test_a_batch_is_given_out_at_once_and_the_next_waits_for_all_of_it() -> None:
    search = Search(config(stop_early={}), JUDGE)
    batch = [search.next() for _ in range(4)]
    assert [trial.number for trial in batch if isinstance(trial, Planned)] == [0, 1, 2, 3]
    for trial in reversed(batch):
        assert search.next() == "wait" and isinstance(trial, Planned)
        search.over(made(trial))
    assert isinstance(search.next(), Planned)


def test_the_first_trial_is_the_stage_as_it_stands_and_random_search_beats_it() -> None:
    """Known truth: the best lies at rate 3e-3 and width 16."""
    better = 0
    for seed in range(10):
        far = {"ranker": {"name": "esmm", "embedding_width": 4}, "learning_rate": 3e-4}
        search = searched(config(trials=9, seed=seed, **far))
        own, best = search.results[0], search.best()[0]
        assert (own.kind, own.values) == ("own", {"learning_rate": 3e-4, "ranker.embedding_width": 4})
        better += loss(best) < loss(own)
    assert better >= 9


def test_optuna_learns_from_earlier_batches() -> None:
    pytest.importorskip("optuna")
    means = {}
    for how in ("random", "optuna"):
        late = [
            loss(record)
            for seed in range(4)
            for record in searched(config(trials=40, search=how, seed=seed)).results[24:]
        ]
        means[how] = sum(late) / len(late)
    assert means["optuna"] < means["random"] - 0.02


def test_optuna_says_what_counts() -> None:
    """Known truth: the weight decay counts for nothing, rate and width do."""
    pytest.importorskip("optuna")
    space = {"learning_rate": {"log": [1e-4, 1e-1]}, "ranker.embedding_width": [4, 16], "weight_decay": [0.0, 0.1]}
    found = searched(config(trials=30, search="optuna", space=space)).importance()
    assert sum(found.values()) == pytest.approx(1.0)
    assert min(found["learning_rate"], found["ranker.embedding_width"]) > 3 * found["weight_decay"]
    assert searched(config()).importance() == {}


def test_what_falls_behind_is_stopped_and_the_winner_stays() -> None:
    whole, short = searched(config(trials=20)), searched(config(trials=20, stop_early={"keep": 0.34}))
    stopped_ones = [record for record in short.results if record.state == "stopped"]
    assert any(len(record.epochs) == 1 for record in stopped_ones)
    assert short.best()[0].number == whole.best()[0].number
    assert all(record.number >= 4 for record in stopped_ones)  # the first batch has nothing to be compared with


def test_the_best_are_repeated_with_other_seeds_and_their_mean_wins() -> None:
    def lucky(trial: Planned) -> Record:
        record = made(trial)
        first = min(range(10), key=lambda n: loss(quiet.results[n]))
        if trial.of == first:  # what looked best was luck
            record = record.model_copy(update={"value": (record.value or 0.0) + 1})
        return record

    quiet = searched(config())
    search = searched(config(repeat_best=3), outcome=lucky)
    best, repeats = search.best(), search.repeated()
    assert [one.trial for one in repeats] == [best[1].number, best[0].number]
    assert {record.seed for record in search.results if record.of == best[0].number} == {1, 2, 3}
    assert all(record.values == best[0].values for record in search.results if record.of == best[0].number)
    assert [len(one.others) for one in repeats] == [3, 3]


def test_when_the_budget_is_used_up_no_trial_starts_and_more_time_goes_on() -> None:
    how = config(repeat_best=1)
    search = Search(how, JUDGE)
    for _ in range(3):
        trial = search.next()
        assert isinstance(trial, Planned)
        search.over(made(trial))
    late = []
    while isinstance(trial := search.next(late=True), Planned):
        late.append(trial.kind)
        search.over(made(trial))
    assert (trial, late, len(search.results)) == ("end", ["repeat", "repeat"], 5)
    assert searched(how, records=search.results).results == searched(how).results


def test_a_failed_trial_is_no_end_and_counts_for_nothing() -> None:
    def diverging(trial: Planned) -> Record:
        if trial.number % 2:
            return Record(**trial.model_dump(), state="failed", epochs=(), reason="the loss is no number")
        return made(trial)

    search = searched(config(stop_early={}, repeat_best=1), outcome=diverging)
    assert sum(record.state == "failed" for record in search.results) == 5
    assert all(record.number % 2 == 0 for record in search.best())
    (*_, nothing) = [
        searched(config(), outcome=lambda t: Record(**t.model_dump(), state="failed", epochs=(), reason="no"))
    ]
    assert nothing.best() == []


@given(
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=30),
    keep=st.floats(0.05, 0.95),
    epochs=st.integers(2, 30),
    after=st.integers(1, 4),
)
@settings(deadline=None)
def test_a_cut_off_keeps_the_share_that_it_should(values: list[float], keep: float, epochs: int, after: int) -> None:
    rule = StopEarly(after_epochs=after, keep=keep)
    limits = cutoffs([[value] for value in values], rule, epochs)
    assert [*limits] == [*rungs(rule, epochs)] and all(after <= rung < epochs for rung in limits)
    for limit in limits.values():
        kept = sum(value >= limit for value in values)
        assert kept >= max(1, keep * len(values) - 1e-9)
        assert sum(value > limit for value in values) < max(1, keep * len(values) + 1)
    assert cutoffs([], rule, epochs) == {} == cutoffs([[value] for value in values], None, epochs)


def test_a_value_is_that_of_the_epoch_that_training_keeps() -> None:
    def report(epoch: int, click: float, best: bool) -> EpochReport:
        return EpochReport(epoch=epoch, train_loss=1, metrics={"validation/click/log_loss": click}, best=best)

    history = [report(1, 0.6, True), report(2, 0.5, False), report(3, 0.55, True)]
    assert JUDGE.best(history) == (-0.6, -0.6, -0.55)
    assert JUDGE.best([report(1, 0.6, True).model_copy(update={"metrics": {}})]) == ()
    assert JUDGE.best([]) == ()
