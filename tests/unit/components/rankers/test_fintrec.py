"""Does FinTRec read time as declared: what is visible, what fades, what order means, and several candidates at once?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from components.platform.errors import BadInputError
from components.rankers.build import build_ranker
from components.rankers.config import RankerConfig
from components.rankers.fintrec.attention import Layer, Sight, ladder
from components.rankers.fintrec.ranker import Fintrec
from components.rankers.fintrec.tokens import CYCLES, DAY, KNOTS, LONGEST, Layout, time_features
from features.declaration import FieldSpec, RankerSchema
from tests.known_truth import excess_loss
from tests.known_truth_events import SCHEMA, recency_world
from tests.unit.components.rankers.conftest import FIELDS, STREAM, make_batch, make_schema

ROWS = 12
TWO_CHANNELS = (
    *FIELDS,
    FieldSpec(name="view_times", kind="elapsed", length=4),
    FieldSpec(name="viewed", kind="sequence", size=12, table="item_id", length=4, timed_by="view_times"),
    FieldSpec(name="region", kind="categorical", size=5, table="region"),
)


def make_ranker(schema: RankerSchema, seed: int = 0, **config: Any) -> Fintrec:
    """A ranker with weights away from where they start, so that a wrong one is seen."""
    torch.manual_seed(seed)
    block = {"name": "fintrec", "embedding_width": 8, "hidden": (8,), "heads": 2} | config
    ranker = build_ranker(RankerConfig.model_validate(block), schema)
    assert isinstance(ranker, Fintrec)
    with torch.no_grad():
        for parameter in ranker.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.3)
    return ranker.eval()


def two_channels(rows: int = ROWS) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    return make_batch(rows) | {
        "viewed": torch.randint(1, 12, (rows, 4), generator=g),
        "view_times": torch.rand((rows, 4), generator=g) * 5 * DAY - DAY,
        "region": torch.randint(0, 5, (rows,), generator=g),
    }


def same(ranker: Fintrec, one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    first, second = ranker(one), ranker(other)
    return all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def shuffled(batch: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    order = torch.randperm(batch[names[0]].shape[1], generator=torch.Generator().manual_seed(1))
    return batch | {name: batch[name][:, order] for name in names}


@pytest.mark.parametrize("time", ["decay", "none"])
def test_events_are_a_set_that_only_times_order(time: str) -> None:
    ranker, batch = make_ranker(make_schema("like", "love"), time=time), make_batch(ROWS)
    assert same(ranker, batch, shuffled(batch, *STREAM))
    assert not same(ranker, batch, shuffled(batch, *STREAM[:2])), "values that change their times"
    tied = batch | {STREAM[2]: torch.where(batch[STREAM[2]] >= 0, 3600.0, -1.0)}
    assert same(ranker, tied, shuffled(tied, *STREAM))


def test_events_after_the_request_change_nothing() -> None:
    ranker, batch = make_ranker(make_schema("like", "love", fields=TWO_CHANNELS)), two_channels()
    late = batch["view_times"] < 0
    assert 0 < late.sum() < late.numel()
    other = batch | {"viewed": torch.where(late, 1 + batch["viewed"] % 11, batch["viewed"])}
    assert same(ranker, batch, other)
    now = batch | {"view_times": batch["view_times"].clamp(min=0.0)}
    assert not same(ranker, batch, now)


def test_an_event_of_unknown_attributes_is_still_an_event() -> None:
    ranker, batch = make_ranker(make_schema("like", "love")), make_batch(ROWS)
    nothing = batch | {name: torch.zeros_like(batch[name]) for name in STREAM[:2]}
    assert not same(ranker, nothing, nothing | {STREAM[2]: -torch.ones_like(batch[STREAM[2]])})


def test_the_channel_of_an_event_counts() -> None:
    ranker, batch = make_ranker(make_schema("like", "love", fields=TWO_CHANNELS)), two_channels()
    swapped = dict(batch)
    cut = {name: batch[name][:, :4] for name in STREAM}
    none = {STREAM[1]: torch.zeros_like(cut[STREAM[1]])}
    here = swapped | cut | none | {"viewed": cut[STREAM[0]] * 0, "view_times": -torch.ones(ROWS, 4)}
    there = here | {
        "viewed": cut[STREAM[0]],
        "view_times": cut[STREAM[2]],
        STREAM[0]: here["viewed"],
        STREAM[2]: here["view_times"],
    }
    assert not same(ranker, here, there)


def test_without_time_only_the_order_counts() -> None:
    schema, batch = make_schema("like", "love"), make_batch(ROWS)
    slower = batch | {STREAM[2]: torch.where(batch[STREAM[2]] >= 0, batch[STREAM[2]] * 7.3, -1.0)}
    assert same(make_ranker(schema, time="none"), batch, slower)
    assert not same(make_ranker(schema, time="decay"), batch, slower)


@pytest.mark.parametrize("time", ["decay", "none"])
def test_what_is_long_ago_fades_beside_what_never_does(time: str) -> None:
    """Without the encoding of its time, an event of ten years ago is as good as none, unless nothing fades.

    In the causal tower: in the other one static tokens read events, and nothing fades between those.
    """
    ranker, batch = make_ranker(make_schema("like"), time=time), make_batch(ROWS)
    if ranker.events.time is not None:
        torch.nn.init.zeros_(ranker.events.time)
    long_ago = batch | {STREAM[2]: torch.where(batch[STREAM[2]] >= 0, 3650 * DAY, -1.0)}
    never = batch | {STREAM[2]: -torch.ones_like(batch[STREAM[2]])}
    assert same(ranker, long_ago, never) == (time == "decay")


@pytest.mark.parametrize("causal", [True, False])
def test_only_a_causal_layer_keeps_later_events_from_earlier_ones(causal: bool) -> None:
    torch.manual_seed(0)
    layer = Layer(width=8, heads=2, dropout=0.0, fading=True, last=False)
    context, candidates = torch.randn(1, 6, 8), torch.randn(1, 1, 8)
    elapsed = torch.tensor([[30.0, 20.0, 20.0, 10.0, -1.0]]) * DAY
    sight = Sight.of(elapsed, 1, causal)
    before, _ = layer(context, candidates, sight)
    for changed, readers in ((0, {0, 1, 2, 3, 4}), (1, {1, 2, 3, 4}), (2, {2, 3, 4}), (4, {4}), (5, set())):
        other = context.clone()
        other[0, changed] = torch.randn(8)
        after, _ = layer(other, torch.randn(1, 1, 8), sight)
        moved = {i for i in range(5) if not torch.allclose(before[0, i], after[0, i], atol=1e-6)}
        assert moved == (readers if causal else readers and {0, 1, 2, 3, 4}), changed


def test_fades_start_between_an_hour_and_a_month() -> None:
    days = 1 / ladder(4)
    assert days[0].item() * 24 == pytest.approx(1.0, rel=1e-5)
    assert days[-1].item() == pytest.approx(30.0, rel=1e-5)
    ratios = days[1:] / days[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(3))
    assert Layer(8, 4, 0.0, fading=True, last=True).fade_days() == pytest.approx(days.tolist(), rel=1e-5)


@given(seconds=st.floats(0, 1e9, width=32))
def test_a_time_is_between_two_knots_and_at_one_hour_of_the_clock(seconds: float) -> None:
    values = time_features(torch.tensor([seconds]))[0]
    knots, cycles = values[:KNOTS], values[KNOTS:].reshape(2, len(CYCLES))
    assert knots.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert int((knots > 0).sum()) <= 2
    torch.testing.assert_close(cycles.square().sum(dim=0), torch.ones(len(CYCLES)))


def test_times_are_told_apart_from_a_minute_to_a_year_and_a_day_comes_again() -> None:
    times = torch.tensor([0.0, 60.0, 3600.0, DAY, 7 * DAY, 30 * DAY, 365 * DAY])
    places = (time_features(times)[:, :KNOTS] * torch.arange(KNOTS)).sum(dim=1)
    assert (places.diff() > 0.8).all()
    beyond = time_features(torch.tensor([LONGEST, 3 * LONGEST]))[:, :KNOTS]
    assert torch.equal(beyond[0], beyond[1])
    yesterday = time_features(torch.tensor([5000.0, 5000.0 + DAY, 5000.0 + 7 * DAY]))[:, KNOTS:]
    torch.testing.assert_close(yesterday[0], yesterday[2], atol=1e-3, rtol=0)
    torch.testing.assert_close(yesterday[0, ::2], yesterday[1, ::2], atol=1e-3, rtol=0)
    assert not torch.allclose(yesterday[0, 1::2], yesterday[1, 1::2], atol=1e-1), "another weekday"


def test_fields_go_where_their_side_says() -> None:
    layout = Layout.of(make_schema("like", "love", fields=TWO_CHANNELS))
    assert layout.streams == ((STREAM[2], STREAM[:2]), ("view_times", ("viewed",)))
    assert layout.vectors == (("taste", 3),)
    assert layout.static == ("user_id", "region"), "the request joins the user's token"
    assert layout.candidate == ("genres", "item_id", "popularity", "region"), "and the candidate's"


def test_a_missing_vector_has_a_token_of_its_own() -> None:
    ranker, batch = make_ranker(make_schema("like", "love")), make_batch(ROWS)
    batch["taste"][: ROWS // 2] = 0.0
    presence: Any = ranker.vectors["taste"].presence
    for rows, learns in ((slice(0, ROWS // 2), 0), (slice(ROWS // 2, ROWS), 1)):
        presence.grad = None
        ranker({name: values[rows] for name, values in batch.items()})["like"].sum().backward()
        assert (presence.grad.abs().sum(dim=1) > 0).tolist() == [learns == 0, learns == 1]


def test_the_first_feedback_has_the_causal_tower_and_the_deeper_share_the_other() -> None:
    assert len(make_ranker(make_schema("like")).encoders) == 1
    ranker, batch = make_ranker(make_schema("click", "cart", "pay")), make_batch(ROWS)
    assert [encoder.causal for encoder in ranker.encoders] == [True, False]
    before = ranker(batch)
    with torch.no_grad():
        for parameter in ranker.encoders[1].parameters():
            parameter.add_(0.5)
    after = ranker(batch)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"cart_given_click", "pay_given_cart"} <= moved
    assert "click" not in moved


@pytest.mark.parametrize("space", ["entire", "click"])
def test_cvr_space_says_which_rows_teach_the_deeper_tower(space: str) -> None:
    ranker, batch = make_ranker(make_schema("like", "love"), cvr_space=space), make_batch(ROWS)
    for liked in (0.0, 1.0):
        ranker.zero_grad()
        labels = {"like": torch.full((ROWS,), liked), "love": torch.zeros(ROWS)}
        loss: Any = ranker.loss(ranker(batch), labels)
        loss.backward()
        learns = any(p.grad is not None and bool(p.grad.any()) for p in ranker.heads[1].parameters())
        assert learns == (space == "entire" or liked == 1.0)


def test_click_space_is_the_likelihood_of_the_steps_that_were_taken() -> None:
    ranker, batch = make_ranker(make_schema("like", "love"), cvr_space="click"), make_batch(4)
    labels = {"like": torch.tensor([0.0, 1.0, 1.0, 0.0]), "love": torch.tensor([0.0, 1.0, 0.0, 0.0])}
    p = ranker(batch)
    like, step = p["like"], p["love_given_like"]
    expected = -torch.stack([(1 - like[0]), like[1] * step[1], like[2] * (1 - step[2]), 1 - like[3]]).log().mean()
    torch.testing.assert_close(ranker.loss(p, labels), expected)


def test_without_a_funnel_each_tower_answers_for_itself() -> None:
    ranker = make_ranker(make_schema("like", "share", funnel=False))
    outputs = ranker(make_batch(ROWS))
    assert {name for name in outputs if not name.endswith("_logit")} == {"like", "share", "hidden"}
    torch.testing.assert_close(outputs["share"], torch.sigmoid(outputs["share_logit"]))


def test_without_any_other_field_the_static_token_is_a_learned_vector() -> None:
    fields = (FieldSpec(name="seen", kind="elapsed", length=3),)
    ranker = make_ranker(make_schema("like", fields=fields))
    outputs = ranker({"seen": torch.tensor([[5.0, 9.0, -1.0], [-1.0, -1.0, -1.0]])})
    assert torch.isfinite(outputs["like"]).all()
    assert outputs["like"][0] != outputs["like"][1]


@pytest.mark.parametrize(
    ("feedback", "funnel", "fields", "config", "message"),
    [
        (("like",), True, FIELDS[:3], {}, r"no field of elapsed times: include the times of a history"),
        (("like",), True, FIELDS, {"cvr_space": "click"}, r"no deeper step \(like\): declare a funnel, or leave"),
        (("like", "share"), False, FIELDS, {"cvr_space": "click"}, r"no deeper step \(like, share\)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(
    feedback: tuple[str, ...], funnel: bool, fields: tuple[FieldSpec, ...], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        make_ranker(make_schema(*feedback, funnel=funnel, fields=fields), **config)


@pytest.fixture(scope="module")
def excess() -> Callable[[bool, str], float]:
    """Train on a world and return the log-loss above that of its truth, on requests of another draw."""

    def fit(recent: bool, time: str) -> float:
        torch.set_num_threads(1)
        train, test = recency_world(12_000, 0, recent), recency_world(4000, 1, recent)
        torch.manual_seed(0)
        block = {"embedding_width": 16, "hidden": (16,), "heads": 2, "dropout": 0.0, "time": time}
        ranker = build_ranker(RankerConfig.model_validate({"name": "fintrec"} | block), SCHEMA)
        optimiser = torch.optim.Adam(ranker.parameters(), lr=5e-3)
        for _ in range(6):  # until both have learned what there is
            for at in torch.split(torch.randperm(12_000), 256):
                loss: Any = ranker.loss(
                    ranker({name: values[at] for name, values in train.batch.items()}),
                    {"click": train.labels["click"][at]},
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        with torch.inference_mode():
            return excess_loss(test.click, ranker.eval()(test.batch)["click"])

    return fit


@pytest.mark.parametrize("recent", [True, False])
def test_where_recency_decides_time_is_worth_a_lot_and_elsewhere_nothing(
    recent: bool, excess: Callable[[bool, str], float]
) -> None:
    """The negative control: in a world where only what was bought counts, time cannot help."""
    with_time, without = excess(recent, "decay"), excess(recent, "none")
    assert with_time < 0.05
    if recent:
        assert without > with_time + 0.15
    else:
        assert abs(without - with_time) < 0.05
