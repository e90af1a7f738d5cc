"""Small layers of one shape: linear or 1×1 convolution, then batch norm, both started small."""

from torch import nn


def projector(inputs: int, outputs: int) -> nn.Sequential:
    """Of vectors [R, inputs] → [R, outputs]."""
    return _started(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))


def pixel_projector(inputs: int, outputs: int) -> nn.Sequential:
    """Of maps [R, inputs, h, w] → [R, outputs, h, w], each pixel alone."""
    return _started(nn.Conv2d(inputs, outputs, kernel_size=1), nn.BatchNorm2d(outputs))


def _started(linear: nn.Linear | nn.Conv2d, norm: nn.Module) -> nn.Sequential:
    for layer in (linear, norm):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear, norm)
