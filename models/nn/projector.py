"""Small layers of one shape: linear or 1×1 convolution, then batch norm, both started small."""

import torch
from torch import Tensor, nn


def projector(inputs: int, outputs: int) -> nn.Sequential:
    """Of vectors [R, inputs] → [R, outputs]."""
    return _started(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))


def pixel_projector(inputs: int, outputs: int) -> nn.Sequential:
    """Of maps [R, inputs, h, w] → [R, outputs, h, w], each pixel alone."""
    return _started(nn.Conv2d(inputs, outputs, kernel_size=1), nn.BatchNorm2d(outputs))


class TwoProjectors(nn.ModuleDict):
    """Projectors of the trunk's and of the box head's pooled maps, half of the embedding each."""

    def __init__(self, trunk_channels: int, head_channels: int, dim: int) -> None:
        half = dim // 2
        super().__init__(
            {
                "feat_res4": projector(trunk_channels, half),
                "feat_res5": projector(head_channels, dim - half),
            }
        )

    def forward(self, trunk: Tensor, head: Tensor) -> Tensor:
        """Of [R, trunk_channels] and [R, head_channels] → [R, dim]."""
        return torch.cat([self["feat_res4"](trunk), self["feat_res5"](head)], dim=1)


def _started(linear: nn.Linear | nn.Conv2d, norm: nn.Module) -> nn.Sequential:
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)
