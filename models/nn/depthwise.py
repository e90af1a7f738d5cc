"""Depthwise convolution whose gradient is computed in a tenth of the time on a CPU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional


class Depthwise5x5(nn.Conv2d):
    """A depthwise 5 × 5 convolution; while it trains on a CPU, with a faster gradient.

    oneDNN has a fast kernel for the gradient of depthwise weights of 3 × 3 and a plain loop for
    5 × 5 (40 ms instead of 0.6 ms for 64 maps of 1152 × 6 × 3): so the taps are made of four
    overlapping parts of 3 × 3. Weights, names and results are those of `nn.Conv2d`.
    """

    def __init__(self, channels: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(
            channels, channels, 5, stride, padding=padding, groups=channels, bias=False
        )

    def forward(self, input: Tensor) -> Tensor:
        """Of [N, C, H, W]."""
        if not (self.training and self.weight.requires_grad and input.device.type == "cpu"):
            return super().forward(input)
        side = int(self.padding[0])
        padded = functional.pad(input, (side,) * 4) if side else input
        made: Tensor = _Depthwise5x5.apply(padded, self.weight, self.stride[0])
        return made


class _Depthwise5x5(Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(padded, weight)
        ctx.stride = stride
        return functional.conv2d(padded, weight, stride=stride, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        padded, weight = ctx.saved_tensors
        stride = ctx.stride
        to_input, *_ = _backward(gradient, padded, weight, stride, [True, False, False])
        rows, columns = (stride * (side - 1) + 3 for side in gradient.shape[2:])
        part = weight[:, :, :3, :3].contiguous()
        to_weight = torch.empty_like(weight)
        for top in (0, 2):
            for left in (0, 2):
                seen = padded[:, :, top : top + rows, left : left + columns]
                seen = seen.contiguous(memory_format=torch.channels_last)
                _, taps, _ = _backward(gradient, seen, part, stride, [False, True, False])
                to_weight[:, :, top : top + 3, left : left + 3] = taps
        return to_input, to_weight, None


def _backward(
    gradient: Tensor, input: Tensor, weight: Tensor, stride: int, wanted: list[bool]
) -> Any:
    return torch.ops.aten.convolution_backward(
        gradient, input, weight, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], len(weight),
        wanted,
    )  # fmt: skip
