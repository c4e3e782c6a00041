"""Does a calibration keep the funnel, find each row's curve, and refuse to be another model's?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.declaration import Declaration
from features.ground.errors import BadInputError
from registry.serving.incoming import domain_codes
from registry.serving.scores.calibration import (
    Calibration,
    Identity,
    Isotonic,
    Platt,
    Stage,
    logit,
    read_calibration,
    sigmoid,
    stages_of,
)

FUNNEL = Declaration(feedback=("click", "cart", "pay"), domain="product")
FLAT = FUNNEL.model_copy(update={"funnel": False})
STAGES = ("click", "cart_given_click", "pay_given_cart")


def calibration(*stages: Stage, **changed: object) -> Calibration:
    return Calibration.model_validate(
        {"ranker_digest": "r", "dataset_digest": "d", "method": "platt", "stages": stages, **changed}
    )


def tasks(click: float, cart: float, pay: float) -> dict[str, np.ndarray]:
    """Return the answers of a graph to three rows, from its three stages."""
    stage = {name: np.full(3, p) for name, p in zip(STAGES, (click, cart, pay), strict=True)}
    return {"click": stage["click"], "cart": stage["click"] * cart, "pay": stage["click"] * cart * pay} | stage


curves = st.one_of(
    st.just(Identity()),
    st.builds(Platt, slope=st.floats(0.01, 20), intercept=st.floats(-30, 30)),
    st.lists(st.tuples(st.floats(-16, 16), st.floats(0, 1)), min_size=1, max_size=5).map(
        lambda knots: Isotonic(
            logits=tuple(sorted(x for x, _ in knots)), probabilities=tuple(sorted(y for _, y in knots))
        )
    ),
)
shares = st.floats(0, 1)


@settings(max_examples=150, deadline=None)
@given(st.tuples(shares, shares, shares), st.tuples(curves, curves, curves), st.tuples(curves, curves, curves))
def test_deep_stays_below_shallow_whatever_the_curves(p: tuple[float, float, float], pooled: tuple, own: tuple) -> None:
    stages = [Stage(task=t, pooled=a, domains={"card": b}) for t, a, b in zip(STAGES, pooled, own, strict=True)]
    answers = calibration(*stages).apply(tasks(*p), FUNNEL, np.array([0, -1, 0]))
    assert (answers["pay"] <= answers["cart"]).all() and (answers["cart"] <= answers["click"]).all()
    np.testing.assert_array_equal(answers["cart"], answers["click"] * answers["cart_given_click"])
    np.testing.assert_array_equal(answers["pay"], answers["cart"] * answers["pay_given_cart"])


def test_calibrating_feedback_by_feedback_would_break_the_funnel() -> None:
    """The control of the law above: the same pull upwards on the deep feedback itself puts it above the shallow one."""
    up, same = Platt(slope=1, intercept=4), Identity()
    flat = calibration(*(Stage(task=t, pooled=c) for t, c in zip(FLAT.feedback, (same, up, same), strict=True)))
    staged = calibration(*(Stage(task=t, pooled=c) for t, c in zip(STAGES, (same, up, same), strict=True)))
    given_ = tasks(0.3, 0.5, 0.5)
    broken, held = flat.apply(given_, FLAT, np.full(3, -1)), staged.apply(given_, FUNNEL, np.full(3, -1))
    assert (broken["cart"] > broken["click"]).all()
    assert (held["cart"] <= held["click"]).all()


def test_each_row_goes_through_the_curve_of_its_domain_and_strangers_through_the_pooled_one() -> None:
    stage = Stage(
        task="click",
        pooled=Platt(slope=1, intercept=0.5),
        domains={"7": Platt(slope=2, intercept=0), "8": Platt(slope=1, intercept=-1)},
    )
    found = calibration(stage)
    column = pa.chunked_array([pa.array([8, 7, None], pa.int64()), pa.array([9, 7], pa.int64())])
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    one = Declaration(feedback=("click",), domain="product")
    answers = found.apply({"click": p}, one, domain_codes(column, found.domains))["click"]
    slope, intercept = np.array([1, 2, 1, 1, 2.0]), np.array([-1, 0, 0.5, 0.5, 0])
    np.testing.assert_allclose(answers, sigmoid(slope * logit(p) + intercept), rtol=1e-12)


def test_a_domain_with_curves_in_one_stage_only_is_pooled_in_the_other() -> None:
    found = calibration(
        Stage(task="click", pooled=Identity(), domains={"card": Platt(slope=1, intercept=1)}),
        Stage(task="cart_given_click", pooled=Platt(slope=1, intercept=2)),
        Stage(task="pay_given_cart", pooled=Identity(), domains={"loan": Platt(slope=1, intercept=3)}),
    )
    answers = found.apply(
        tasks(0.5, 0.5, 0.5), FUNNEL, domain_codes(pa.chunked_array([["card", "loan", "?"]]), found.domains)
    )
    np.testing.assert_allclose(answers["click"], sigmoid(np.array([1, 0, 0.0])))
    np.testing.assert_allclose(answers["cart_given_click"], sigmoid(np.array([2, 2, 2.0])))
    np.testing.assert_allclose(answers["pay_given_cart"], sigmoid(np.array([0, 3, 0.0])))


def test_without_stages_every_answer_keeps_its_bits() -> None:
    given_ = tasks(0.3, 0.7, 0.9)
    answers = calibration(method="none").apply(given_, FUNNEL, np.full(3, -1))
    assert all((answers[name] == given_[name]).all() for name in given_)


def test_the_stages_of_a_funnel_are_its_conditionals() -> None:
    assert stages_of(FUNNEL) == STAGES
    assert stages_of(FLAT) == ("click", "cart", "pay")


def stored() -> dict:
    return json.loads(
        calibration(*(Stage(task=t, pooled=Platt(slope=1, intercept=0)) for t in STAGES)).model_dump_json()
    )


def test_a_stored_calibration_is_read_as_it_was(tmp_path: Path) -> None:
    assert read_calibration(tmp_path, "r", FUNNEL) is None
    (tmp_path / "calibration.json").write_text(json.dumps(stored()))
    assert read_calibration(tmp_path, "r", FUNNEL) == Calibration.model_validate(stored())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ranker_digest": "someone else"}, "calibrates ranker someone else"),
        ({"stages": stored()["stages"][:2]}, "calibrates click, cart_given_click, but the model's stages are"),
        ({"stages": [{"task": "click", "pooled": {"kind": "platt", "slope": -1, "intercept": 0}}]}, "greater than 0"),
        (
            {
                "stages": [
                    {"task": "click", "pooled": {"kind": "isotonic", "logits": [0, 1], "probabilities": [0.5, 0.4]}}
                ]
            },
            "must not fall",
        ),
        ({"value": {"products": {"card": -1}}}, "greater than or equal to 0"),
    ],
)
def test_a_calibration_that_does_not_fit_is_one_sentence(tmp_path: Path, change: dict, says: str) -> None:
    (tmp_path / "calibration.json").write_text(json.dumps(stored() | change))
    with pytest.raises(BadInputError, match=says) as error:
        read_calibration(tmp_path, "r", FUNNEL)
    assert "\n" not in str(error.value) and "calibrate_ranker" in str(error.value)
