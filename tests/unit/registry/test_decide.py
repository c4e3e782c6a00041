"""Does the gate refuse what is worse, let pass what is not, and say why?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.ground.errors import BadInputError
from registry.evaluation import ALL, LOWER_IS_BETTER, Metric, metric_name
from registry.gate.decide import PairedPredictions, decide, describe, judge, worst_of
from registry.gate.policy import Floor, GatePolicy
from registry.gate.verdict import Judgement, Verdict
from registry.metrics import Requests, auc, value_of

FAST = {"resamples": 60, "most_resamples": 60, "min_positives": 20}
DOMAINS = ("east", "north", "west")


def make_pair(
    rows: int = 1500,
    seed: int = 0,
    challenger_noise: float = 0.0,
    champion_noise: float = 0.0,
    hurt: str | None = None,
) -> PairedPredictions:
    """Return rows drawn from known probabilities; noise on the logits makes a model worse, `hurt` only in a domain."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, rows)
    depth = rng.normal(0, 1.0, rows)
    like = rng.random(rows) < 1 / (1 + np.exp(-logit))
    love = like & (rng.random(rows) < 1 / (1 + np.exp(-depth)))
    domain = np.array(DOMAINS)[rng.integers(0, 3, rows)]

    def model(noise: float, only: str | None = None) -> dict[str, np.ndarray]:
        scale = noise if only is None else noise * (domain == only)
        first = 1 / (1 + np.exp(-(logit + scale * rng.normal(0, 1, rows))))
        second = 1 / (1 + np.exp(-(depth + scale * rng.normal(0, 1, rows))))
        return {"like": first, "love": first * second, "love_given_like": second}

    return PairedPredictions(
        feedback=("like", "love"),
        labels={"like": like.astype(float), "love": love.astype(float)},
        challenger=model(challenger_noise, hurt),
        champion=model(champion_noise),
        user=rng.integers(0, 150, rows),
        domain=domain,
    )


def verdict_of(pair: PairedPredictions, policy: GatePolicy, champion: int | None = 1) -> Verdict:
    return decide(
        pair,
        policy,
        model="m",
        challenger=2,
        champion=champion,
        dataset_digest="d",
        decided_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def cells(judgements: tuple[Judgement, ...], metric: str) -> dict[tuple[str, str], Judgement]:
    return {(j.task, j.domain): j for j in judgements if j.metric == metric}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(50, 600), margin=st.sampled_from([0.0, 0.002]))
def test_a_model_is_never_refused_against_itself(seed: int, rows: int, margin: float) -> None:
    pair = make_pair(rows, seed, champion_noise=0.5)
    policy = GatePolicy(
        auc_margin=margin,
        domain_auc_margin=margin,
        log_loss_margin=margin,
        resamples=50,
        most_resamples=50,
        min_positives=2,
    )
    assert verdict_of(replace(pair, challenger=pair.champion), policy).answer == "promoted"  # type: ignore[arg-type]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_much_worse_model_is_refused_and_a_much_better_one_is_not(seed: int) -> None:
    worse, better = make_pair(seed=seed, challenger_noise=4.0), make_pair(seed=seed, champion_noise=4.0)
    assert verdict_of(worse, GatePolicy(**FAST)).answer == "refused"
    assert verdict_of(better, GatePolicy(**FAST)).answer == "promoted"


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    noise=st.floats(0, 3),
    small=st.floats(0, 0.2),
    more=st.floats(0, 0.2),
)
def test_a_wider_margin_never_refuses_more(seed: int, noise: float, small: float, more: float) -> None:
    pair = make_pair(600, seed, challenger_noise=noise)

    def refused(margin: float) -> set[tuple[str, str, str]]:
        policy = GatePolicy(
            auc_margin=margin, domain_auc_margin=margin, log_loss_margin=margin, resamples=50, most_resamples=50
        )
        return {(j.task, j.domain, j.metric) for j in judge(pair, policy) if j.outcome == "refused"}

    assert refused(small + more) <= refused(small)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), shuffle=st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(seed: int, shuffle: int) -> None:
    pair = make_pair(400, seed, challenger_noise=0.7)
    order = np.random.default_rng(shuffle).permutation(pair.rows)
    assert pair.champion is not None
    shuffled = PairedPredictions(
        feedback=pair.feedback,
        labels={name: values[order] for name, values in pair.labels.items()},
        challenger={name: values[order] for name, values in pair.challenger.items()},
        champion={name: values[order] for name, values in pair.champion.items()},
        user=pair.user[order],
        domain=pair.domain[order],
    )
    assert judge(shuffled, GatePolicy(**FAST)) == judge(pair, GatePolicy(**FAST))


def test_there_is_one_judgement_per_task_domain_and_metric() -> None:
    found = judge(make_pair(), GatePolicy(floors={"love": Floor(auc=0.5, pcoc_within=5)}, **FAST))
    keys = [(j.task, j.domain, j.metric) for j in found]
    assert len(keys) == len(set(keys))
    tasks = ("like", "love", "love_given_like")
    assert set(cells(found, "auc")) == {(task, domain) for task in tasks for domain in (ALL, *DOMAINS)}
    assert set(cells(found, "log_loss")) == {(task, ALL) for task in tasks}
    assert set(cells(found, "auc floor")) == set(cells(found, "pcoc floor")) == {("love", ALL)}


def test_one_hurt_domain_blocks_although_the_average_hides_it() -> None:
    policy = GatePolicy(auc_margin=0.2, log_loss_margin=1.0, domain_auc_margin=0.02, **FAST)
    verdict = verdict_of(make_pair(3000, challenger_noise=2.5, hurt="north"), policy)
    assert verdict.answer == "refused"
    assert {j.domain for j in verdict.judgements if j.outcome == "refused"} == {"north"}
    assert "north" in verdict.reason
    assert "auc" in verdict.reason


def test_a_loss_that_may_be_chance_is_not_refused() -> None:
    """A cell is refused when its whole interval lies beyond the limit, not when its value does."""
    policy = GatePolicy(auc_margin=0.01, domain_auc_margin=0.01, log_loss_margin=0.1, **FAST)
    seen = set()
    for seed in range(6):
        for j in judge(make_pair(900, seed, challenger_noise=0.9), policy):
            interval = j.difference
            assert interval is not None
            assert interval.value is not None
            assert interval.low is not None
            assert interval.high is not None
            if j.metric == "log_loss":
                beyond, wholly = interval.value > 0.1, interval.low > 0.1
            else:
                beyond, wholly = interval.value < -0.01, interval.high < -0.01
            assert (j.outcome == "refused") == wholly
            seen.add((j.metric, beyond, wholly))
    assert {("auc", True, False), ("auc", True, True), ("log_loss", True, False), ("log_loss", True, True)} <= seen


def test_conditional_tasks_are_judged_on_rows_with_the_shallower_feedback() -> None:
    pair = make_pair()
    found = cells(judge(pair, GatePolicy(**FAST)), "auc")["love_given_like", ALL]
    liked = pair.labels["like"] > 0
    assert found.challenger == pytest.approx(auc(pair.labels["love"][liked], pair.challenger["love_given_like"][liked]))


def test_a_domain_with_few_positives_is_shown_and_not_judged() -> None:
    pair = make_pair(3000, challenger_noise=4.0, hurt="north")
    few = (pair.domain == "north") & (np.cumsum(pair.domain == "north") > 25)
    thin = replace(pair, domain=np.where(few, "east", pair.domain))
    policy = GatePolicy(
        resamples=60, most_resamples=60, min_positives=50, domain_auc_margin=0.0, auc_margin=0.5, log_loss_margin=1
    )
    found = cells(judge(thin, policy), "auc")["like", "north"]
    assert found.outcome == "not judged"
    assert found.challenger is not None
    assert "50 are needed" in found.reason
    assert cells(judge(pair, policy), "auc")["like", "north"].outcome == "refused"


def test_a_domain_of_one_class_is_not_judged() -> None:
    pair = make_pair()
    labels = {name: np.where(pair.domain == "west", 0.0, values) for name, values in pair.labels.items()}
    found = cells(judge(replace(pair, labels=labels), GatePolicy(**FAST)), "auc")["like", "west"]
    assert (found.outcome, found.challenger) == ("not judged", None)


def test_floors_hold_without_a_champion() -> None:
    alone = replace(make_pair(challenger_noise=5.0), champion=None)
    low = verdict_of(alone, GatePolicy(floors={"like": Floor(auc=0.75)}, **FAST), champion=None)
    assert low.answer == "refused"
    assert "like in all rows: auc floor" in low.reason
    assert "0.75" in low.reason
    assert verdict_of(alone, GatePolicy(floors={"like": Floor(auc=0.51)}, **FAST), champion=None).answer == "promoted"


def test_the_calibration_floor_refuses_over_prediction() -> None:
    pair = make_pair()
    loud = replace(
        pair, challenger=pair.challenger | {"love": np.minimum(pair.challenger["love"] * 1.6, 1)}, champion=None
    )
    policy = GatePolicy(floors={"love": Floor(pcoc_within=0.3)}, **FAST)
    worst = worst_of(judge(loud, policy))
    assert worst is not None
    assert (worst.task, worst.metric) == ("love", "pcoc floor")
    assert worst_of(judge(replace(pair, champion=None), policy)) is None


@pytest.mark.parametrize("metric", [name for name in Floor.model_fields if name not in ("auc", "pcoc_within")])
def test_a_floor_may_name_any_metric_of_the_report(metric: Metric) -> None:
    pair = make_pair(300)
    # Rows of one user by four are a request, so that the first two places of each do not hold all of it.
    order = np.argsort(pair.user, kind="stable")
    request = np.empty(order.size, dtype=np.int64)
    request[order] = pair.user[order] * 1000 + np.arange(order.size) // 4
    pair = replace(pair, champion=None, request=request)
    truth = value_of(metric, pair.labels["like"], pair.challenger["like"], pair.user, Requests(request, 2))
    assert truth is not None and truth > 0
    down = metric in LOWER_IS_BETTER
    for step, outcome in ((-0.001, "passed"), (0.001, "refused")):
        limit = truth - step if down else truth + step
        policy = GatePolicy(floors={"like": Floor.model_validate({metric: limit})}, top=2, **FAST)
        (found,) = judge(pair, policy)
        assert (found.outcome, found.metric) == (outcome, f"{metric_name(metric, 2)} floor")
        assert found.challenger == pytest.approx(truth)
        assert (f"may be at most {limit:g}" if down else f"the floor is {limit:g}") in found.reason


def test_a_floor_on_an_unknown_task_names_the_tasks() -> None:
    with pytest.raises(BadInputError, match=r"'click'.*like, love, love_given_like"):
        judge(make_pair(), GatePolicy(floors={"click": Floor(auc=0.5)}))


def test_a_challenger_that_drops_a_feedback_is_refused_and_a_new_task_is_not_judged() -> None:
    pair = make_pair()
    assert pair.champion is not None
    dropped = replace(pair, challenger={"like": pair.challenger["like"]})
    worst = worst_of(judge(dropped, GatePolicy(**FAST)))
    assert worst is not None
    assert (worst.task, worst.reason) == ("love", "the champion predicts this task and the challenger does not")
    added = replace(pair, champion={"like": pair.champion["like"]})
    assert {j.outcome for j in judge(added, GatePolicy(**FAST)) if j.task != "like"} == {"not judged"}
    assert "love" in describe(worst)


def test_no_more_is_said_than_the_intervals_show() -> None:
    """Nothing lost was shown only where every interval lies within the margin."""
    wide = GatePolicy(auc_margin=0.3, domain_auc_margin=0.4, log_loss_margin=0.9, **FAST)
    pair = make_pair(1500, challenger_noise=0.3)
    assert verdict_of(pair, wide).reason.startswith("not worse than v1 within the margins")
    narrow = GatePolicy(auc_margin=0.05, domain_auc_margin=0.1, log_loss_margin=0.1, **FAST)
    few = make_pair(200, challenger_noise=0.9, champion_noise=0.9)
    open_ = verdict_of(few, narrow)
    assert open_.answer == "promoted"
    assert open_.reason.startswith("not shown to be worse than v1 (") and "the others are open" in open_.reason
    strict = verdict_of(few, narrow.model_copy(update={"rule": "non_inferior"}))
    assert strict.answer == "refused" and "reaches beyond the limit" in strict.reason
    assert strict.reason.endswith("not shown to be as good")
    assert verdict_of(pair, wide.model_copy(update={"rule": "non_inferior"})).answer == "promoted"


def test_rows_that_could_not_refuse_are_warned_about() -> None:
    policy = GatePolicy(auc_margin=0.002, log_loss_margin=0.005, **FAST)
    [warning] = verdict_of(make_pair(200, challenger_noise=0.5, champion_noise=0.5), policy).warnings
    assert "too small to guard the champion: the smallest loss that it can refuse is" in warning
    lenient = GatePolicy(auc_margin=0.1, log_loss_margin=0.2, **FAST)
    assert verdict_of(make_pair(1500, challenger_noise=0.1), lenient).warnings == ()
    alone = replace(make_pair(200), champion=None)
    assert verdict_of(alone, policy, champion=None).warnings == ()


def test_a_first_champion_without_floors_is_called_unjudged() -> None:
    alone = replace(make_pair(300), champion=None)
    verdict = verdict_of(alone, GatePolicy(**FAST), champion=None)
    assert (verdict.answer, verdict.reason) == ("promoted", "no champion yet and no floors: unjudged")
    other = replace(make_pair(300), champion={"view": np.zeros(300)}, feedback=("like", "love"))
    assert verdict_of(other, GatePolicy(**FAST)).reason.startswith("not compared with v1")


def test_what_could_not_be_judged_is_counted() -> None:
    wide = GatePolicy(auc_margin=0.3, domain_auc_margin=0.4, log_loss_margin=0.9, resamples=60, most_resamples=60)
    pair = make_pair(1500, challenger_noise=0.3)
    assert verdict_of(pair, wide).reason.endswith("(15 cells judged)")
    few = (pair.domain == "north") & (np.cumsum(pair.domain == "north") > 25)
    thin = replace(pair, domain=np.where(few, "east", pair.domain))
    assert verdict_of(thin, wide).reason.endswith("(12 cells judged, 3 could not be)")


def test_nothing_compared_proves_nothing() -> None:
    other = replace(make_pair(300), champion={"view": np.zeros(300)})
    strict = verdict_of(other, GatePolicy(rule="non_inferior", **FAST))
    assert strict.answer == "refused"
    assert strict.reason == "not compared with v1: none of its cells could be judged, so not shown to be as good"


def test_rows_of_one_user_can_refuse_nothing() -> None:
    pair = make_pair(300, challenger_noise=3.0)
    one = replace(pair, user=np.zeros(300))
    verdict = verdict_of(one, GatePolicy(**FAST))
    assert verdict.answer == "promoted" and verdict.reason.startswith("not compared with v1")
    assert verdict.warnings == ("the test split is too small for any comparison: the gate could not refuse anything",)
    strict = verdict_of(one, GatePolicy(rule="non_inferior", **FAST))
    assert strict.answer == "refused" and strict.reason.endswith("no interval, too few users: not shown to be as good")


def test_resamples_are_raised_until_the_bounds_are_stable() -> None:
    pair = make_pair(400, challenger_noise=0.5)
    few = GatePolicy(auc_margin=0.02, resamples=50, most_resamples=4000, min_positives=20)
    found = cells(judge(pair, few), "auc")["like", ALL]
    assert 50 < found.resamples < 4000
    assert found.difference is not None and found.difference.low is not None and found.difference.high is not None
    for seed in range(1, 6):
        again = cells(judge(pair, few.model_copy(update={"seed": seed})), "auc")["like", ALL].difference
        assert again is not None and again.low is not None and again.high is not None
        assert abs(again.low - found.difference.low) < 0.008  # four standard errors of a tenth of the margin
        assert abs(again.high - found.difference.high) < 0.008
    bounded = GatePolicy(auc_margin=0.0, resamples=50, most_resamples=60, min_positives=20)
    assert cells(judge(pair, bounded), "auc")["like", ALL].resamples == 60


def test_the_gate_guards_what_the_training_set_is_judged_by() -> None:
    """The challenger tells busy users from idle ones, which AUC rewards, and shuffles what each was shown."""
    rng = np.random.default_rng(0)
    request = np.repeat(np.arange(600), 8)
    busy = rng.random(600)[request] < 0.4
    worth = rng.normal(0, 1, request.size)
    click = rng.random(request.size) < 1 / (1 + np.exp(-(worth + 4 * busy - 3)))
    noise = rng.normal(0, 1, request.size)

    def model(logit: np.ndarray) -> dict[str, np.ndarray]:
        return {"like": 1 / (1 + np.exp(-logit))}

    pair = PairedPredictions(
        feedback=("like",),
        labels={"like": click.astype(float)},
        challenger=model(noise + 4 * busy - 3),
        champion=model(worth - 1),
        user=request // 2,
        domain=np.full(request.size, "all"),
        request=request,
    )
    policy = GatePolicy(log_loss_margin=1, **FAST)
    assert verdict_of(pair, policy).answer == "promoted"
    for metric in ("mrr", "ndcg", "request_auc"):
        verdict = verdict_of(replace(pair, judge_by=metric), policy)
        judgement = cells(verdict.judgements, metric)["like", ALL]
        assert verdict.answer == "refused" and judgement.outcome == "refused" and not cells(verdict.judgements, "auc")
        requests = Requests(request)
        assert judgement.champion == pytest.approx(
            value_of(metric, click.astype(float), pair.champion["like"], request, requests)  # type: ignore[index]
        )
    assert verdict_of(replace(pair, judge_by="log_loss"), policy).answer == "promoted"


def test_probabilities_are_judged_for_the_places_that_rows_were_shown_in() -> None:
    """Both answer for the first place, the challenger with more odds: log-loss of that says nothing."""
    pair = make_pair()

    def first_place(answers: dict[str, np.ndarray], odds: float) -> dict[str, np.ndarray]:
        return {name: odds * p / (1 - p + odds * p) for name, p in answers.items()}

    new, old = dict(pair.challenger), dict(pair.champion or {})
    served = replace(pair, challenger=first_place(new, 20), champion=first_place(old, 2))
    policy = GatePolicy(floors={"like": Floor(pcoc_within=0.2)}, **FAST)
    assert verdict_of(served, policy).answer == "refused"
    shown = replace(served, challenger_shown=new, champion_shown=old)
    verdict = verdict_of(shown, policy)
    assert verdict.answer == "promoted"
    assert cells(verdict.judgements, "log_loss") == cells(verdict_of(pair, policy).judgements, "log_loss")
    assert verdict_of(replace(shown, challenger_shown=first_place(new, 20)), policy).answer == "refused"


def test_rows_count_by_their_weights_where_the_policy_says_so() -> None:
    pair = make_pair(challenger_noise=0.3)
    weights = np.random.default_rng(5).choice([0.5, 1.0, 3.0], pair.rows)
    weighted = GatePolicy(**FAST, weighted=True, floors={"love": Floor(auc=0.6)})
    given, space = replace(pair, weights={"love": weights}), pair.labels["like"] == 1
    verdict = verdict_of(given, weighted)
    assert verdict.weighted == ("love",)
    found = cells(verdict.judgements, "auc")
    for task, inside in (("love", slice(None)), ("love_given_like", space)):
        of = (pair.labels["love"][inside], pair.challenger[task][inside], weights[inside])
        assert found[task, ALL].challenger == pytest.approx(auc(*of))
    assert cells(verdict.judgements, "auc floor")["love", ALL].challenger == found["love", ALL].challenger
    plain = verdict_of(pair, weighted.model_copy(update={"weighted": False}))
    assert found["like", ALL] == cells(plain.judgements, "auc")["like", ALL]  # it has no weights
    ones = verdict_of(replace(pair, weights={"love": np.ones(pair.rows)}), weighted)
    assert ones.judgements == plain.judgements
    with pytest.raises(BadInputError, match="rows should count by their weights and have none"):
        verdict_of(pair, weighted)
