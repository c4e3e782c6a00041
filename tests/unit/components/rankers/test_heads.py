"""Is the funnel's loss the paper's, exact and finite for any logits?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rankers.funnel import chain, funnel_loss, logit

A = [0.2, -1.0, 1.5, -0.3]
B = [-0.4, 0.8, -2.0, 0.1]
Y = [1.0, 0.0, 1.0, 0.0]
Z = [0.0, 0.0, 1.0, 0.0]


def tensors(*rows: list[float], grad: bool = False) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64, requires_grad=grad) for row in rows]


def test_golden_vector_of_the_specification() -> None:
    """Independent numbers: computed with numpy from the paper's equations, see the specification of ESMM."""
    a, b = tensors(A, B, grad=True)
    y, z = tensors(Y, Z)
    ctr, ctcvr = chain([a, b])
    assert ctr.detach().numpy() == pytest.approx([0.549834, 0.268941, 0.817574, 0.425557], abs=1e-6)
    assert ctcvr.detach().numpy() == pytest.approx([0.220655, 0.185563, 0.097457, 0.223409], abs=1e-6)
    first = funnel_loss([a], [y])
    total = funnel_loss([a, b], [y, z])
    assert first.item() == pytest.approx(0.4167922698, abs=1e-10)
    assert (total - first).item() == pytest.approx(0.7589355092, abs=1e-10)
    assert total.item() == pytest.approx(1.1757277790, abs=1e-10)
    total.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert a.grad.numpy() == pytest.approx([-0.080678, 0.108877, -0.091213, 0.147703], abs=1e-6)
    assert b.grad.numpy() == pytest.approx([0.042376, 0.017659, -0.220199, 0.034163], abs=1e-6)


@given(
    logits=st.lists(st.tuples(*[st.floats(-12, 12)] * 3), min_size=1, max_size=5),
    depth=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_it_is_the_cross_entropy_of_the_products(logits: list[tuple[float, float, float]], depth: int) -> None:
    z = np.array(logits).T
    reached = np.cumprod(1 / (1 + np.exp(-z)), axis=0)
    labels = np.repeat((np.arange(3) < depth).astype(float)[:, None], z.shape[1], axis=1)
    # 1 − Π σ through expm1 of the sum of log σ: another route to the same number.
    missed = -np.expm1(-np.cumsum(np.logaddexp(0, -z), axis=0))
    expected = -(labels * np.log(reached) + (1 - labels) * np.log(missed)).mean(axis=1).sum()
    found = funnel_loss([torch.tensor(row) for row in z], [torch.tensor(row) for row in labels])
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("size", [30.0, 200.0, 1e4])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_extreme_logits_have_finite_gradients(size: float, label: float) -> None:
    signs = torch.tensor([[s, t] for s in (-1.0, 1.0) for t in (-1.0, 1.0)])
    a = (signs[:, 0] * size).requires_grad_()
    b = (signs[:, 1] * size).requires_grad_()
    y = torch.full((4,), label)
    loss = funnel_loss([a, b], [y, y])
    loss.backward()
    assert torch.isfinite(loss)
    assert a.grad is not None
    assert b.grad is not None
    assert torch.isfinite(a.grad).all()
    assert torch.isfinite(b.grad).all()


def test_a_certain_last_stage_is_the_stage_before_it() -> None:
    """The CVR head at logit +∞ makes CTCVR equal CTR, and its loss the CTR loss twice."""
    [a], [y] = tensors(A), tensors(Y)
    certain = torch.full_like(a, math.inf)
    ctr, ctcvr = chain([a, certain])
    assert torch.equal(ctr, ctcvr)
    assert funnel_loss([a, certain], [y, y]).item() == pytest.approx(2 * funnel_loss([a], [y]).item(), rel=1e-12)


def test_unclicked_rows_teach_the_second_stage_and_masking_them_would_not() -> None:
    """The product loss reaches the CVR logits of rows without a click; a loss masked to clicks does not."""
    a, b = tensors(A, B, grad=True)
    y, z = tensors(Y, Z)
    funnel_loss([a, b], [y, z]).backward()
    assert b.grad is not None
    unclicked = y == 0
    assert (b.grad[unclicked].abs() > 1e-3).all()

    [masked] = tensors(B, grad=True)
    clicked = torch.nn.functional.binary_cross_entropy_with_logits(masked[y == 1], z[y == 1])
    clicked.backward()
    assert masked.grad is not None
    assert (masked.grad[unclicked] == 0).all()


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.3, 1.0])
def test_base_rates_become_finite_biases(rate: float) -> None:
    value = logit(rate)
    assert math.isfinite(value)
    assert 1 / (1 + math.exp(-value)) == pytest.approx(rate, abs=1.001e-4)
