"""Is a wide layer PyTorch's linear layer, whatever its width, in answers and gradients?"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from components.rankers import tower
from components.rankers.tower import LINE, WIDE, WideLinear


@pytest.mark.parametrize("wide", [3, WIDE - 1, WIDE + 1, WIDE + LINE, 1426])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_answers_and_learns_as_a_linear_layer(wide: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ours, theirs = WideLinear(wide, 24).to(dtype), nn.Linear(wide, 24).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    rows = torch.randn(50, wide, dtype=dtype)
    found: list[list[torch.Tensor]] = []
    for layer in (ours, theirs):
        x = rows.clone().requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        assert x.grad is not None and layer.weight.grad is not None and layer.bias.grad is not None
        found.append([y.detach(), x.grad, layer.weight.grad, layer.bias.grad])
    for name, got, expected in zip(("y", "x", "weight", "bias"), *found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-3, msg=name)
    assert torch.equal(found[0][0], found[1][0])


def test_only_the_widths_that_gain_take_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never:
        @staticmethod
        def apply(*_: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    monkeypatch.setattr(tower, "_Product", Never)
    for wide in (WIDE - 1, WIDE + LINE):
        WideLinear(wide, 4)(torch.randn(2, wide, requires_grad=True))
    WideLinear(1426, 4)(torch.randn(2, 1426))  # nobody asks for the gradient of an answer
    with torch.autocast("cpu", torch.bfloat16):
        WideLinear(1426, 4)(torch.randn(2, 1426, requires_grad=True))
    with pytest.raises(AssertionError):
        WideLinear(1426, 4)(torch.randn(2, 1426, requires_grad=True))
