"""Depthwise convolutions that are quick to learn on a CPU.

oneDNN takes long over some of their gradients (torch 2.13, one core): those of a 5 x 5 kernel's weights take seven
times as long as a 3 x 3 one's, and any of a strided or dilated kernel in bfloat16 three to eight times as long as in
single precision. Here they are found in single precision, those of a 5 x 5 kernel from its four 3 x 3 corners.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Depthwise(nn.Conv2d):
    """A convolution of each channel with a kernel of its own, padded to keep the size (at stride 1)."""

    def __init__(self, width: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(width, width, kernel, stride, dilation * (kernel // 2), dilation, width)
        self.slow = kernel == 5 or stride > 1 or dilation > 1

    def forward(self, input: Tensor) -> Tensor:
        if not (self.slow and input.device.type == "cpu" and torch.is_grad_enabled()):
            return super().forward(input)
        if torch.is_autocast_enabled("cpu"):
            input = input.to(torch.get_autocast_dtype("cpu"))
        step = (self.stride[0], self.dilation[0])
        result: Tensor = _Learned.apply(input, self.weight, self.bias, *step)  # type: ignore[no-untyped-call]
        return result


class _Learned(torch.autograd.Function):
    """The same numbers as a convolution's, up to rounding, sooner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.dilation, ctx.padding = stride, dilation, dilation * (weight.shape[2] // 2)
        return functional.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, ctx.padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        gradient, (x, weight), wanted = gradients[0], ctx.saved_tensors, ctx.needs_input_grad
        how = (ctx.stride, ctx.padding, ctx.dilation)
        of_input = of_weight = None
        if wanted[0] and ctx.stride == 1:
            turned = weight.to(x.dtype).flip(2, 3)
            of_input = functional.conv2d(gradient, turned, None, *how, len(weight))
        elif wanted[0]:
            of_input = _native(0, gradient, x, weight, *how).to(x.dtype)
        if wanted[1] and weight.shape[2] == 5:
            of_weight = _by_corners(gradient, x, weight)
        elif wanted[1]:
            of_weight = _native(1, gradient, x, weight, *how)
        return of_input, of_weight, gradient.sum((0, 2, 3), dtype=torch.float32) if wanted[2] else None, None, None


def _native(
    which: int, gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """oneDNN's gradient of the input (0) or of the weights (1), in single precision."""
    wanted = [which == 0, which == 1, False]
    steps = ([stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], len(weight), wanted)
    found = torch.ops.aten.convolution_backward(gradient.float(), x.float(), weight, None, *steps)
    result: Tensor = found[which]
    return result


def _by_corners(gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient of the weights of a 5 x 5 kernel at stride 1: its 3 x 3 corners overlap and agree where they do."""
    gradient, padded = gradient.float(), functional.pad(x.float(), (2, 2, 2, 2))
    height, width = gradient.shape[2:]
    whole, corner = torch.empty_like(weight), weight[:, :, :3, :3]
    for row in (0, 2):
        for column in (0, 2):
            seen = padded[:, :, row : row + height + 2, column : column + width + 2]
            seen = seen.contiguous(memory_format=torch.channels_last)
            whole[:, :, row : row + 3, column : column + 3] = _native(1, gradient, seen, corner, 1, 0, 1)
    return whole
