"""Depthwise convolutions give the numbers, and the gradients, of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maskloop.segment.clicknet_decoder import Attention
from maskloop.segment.depthwise import Depthwise

KINDS = [(3, 1, 1), (5, 1, 1), (3, 2, 1), (3, 1, 2), (3, 2, 2)]
"""Kernel, stride and dilation."""


def learned(x: Tensor, layer: Depthwise, ours: bool) -> list[Tensor]:
    """The output for ``x``, and the gradients of the input, the weights and the bias when its corners count most."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    theirs = (layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    y = layer(x) if ours else functional.conv2d(x, *theirs)
    counts = torch.linspace(-1, 2, y.shape[3]) * torch.linspace(1, -3, y.shape[2])[:, None]
    (y.float() * counts).sum().backward()
    assert layer.bias is not None
    found = [t.detach().float().clone() for t in (y, x.grad, layer.weight.grad, layer.bias.grad) if t is not None]
    assert len(found) == 4
    return found


@pytest.mark.parametrize(("kernel", "stride", "dilation"), KINDS)
def test_gradients_are_those_of_a_convolution(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(1)
    layer = Depthwise(6, kernel, stride, dilation)
    x = torch.randn(2, 6, 17, 13)
    for ours, theirs in zip(learned(x, layer, True), learned(x, layer, False), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), KINDS)
def test_in_half_precision_they_are_as_good_as_torchs(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(2)
    layer = Depthwise(6, kernel, stride, dilation)
    x = torch.randn(2, 6, 17, 13)
    exact = learned(x, layer, False)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
        halves = learned(x, layer, True)
    for ours, theirs in zip(halves, exact, strict=True):
        assert torch.allclose(ours, theirs, atol=0.02 * float(theirs.abs().max()))


def test_a_layer_that_is_not_learned_gets_no_gradient_and_passes_its_inputs_on() -> None:
    layer = Depthwise(4, 5).requires_grad_(False)
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None
    assert bool(x.grad.any())


def test_attention_answers_the_same_whether_it_is_learned_or_not() -> None:
    torch.manual_seed(3)
    attention = Attention(16)
    x = torch.randn(2, 16, 5, 7)
    learning = attention(x)
    with torch.no_grad():
        serving = attention(x)
    assert learning.requires_grad
    assert torch.allclose(learning, serving, atol=1e-5)
