"""Resize and normalize for the network, and the way back: used by serving, evaluation, training."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.boxes import Boxes


@dataclass(frozen=True)
class InputRule:
    """How a picture becomes the network's input.

    Attributes:
        min_size: length in pixels that the shorter side is resized to …
        max_size: … unless the longer side would exceed this length; then that side gets it.
        mean, std: per RGB channel, of values in [0, 1].
        size_divisor: the input is padded at the right and bottom to a multiple of this.
        person_height: pixels that a bare crop of a person is resized to in height, so that people
            in crops appear as large as they do in scenes.
    """

    min_size: int = 900
    max_size: int = 1500
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    size_divisor: int = 32
    person_height: int = 360


@dataclass(frozen=True)
class PreparedImage:
    """A picture as the network takes it.

    Attributes:
        pixels: [3, H, W] float32, normalized, zero in the padding; H and W fit the divisor.
        size: height and width of the whole resized picture, without padding.
        original_size: height and width of the picture as it came.
        origin: x and y in the resized picture where pixels begin: not 0 where they are a window.
    """

    pixels: NDArray[np.float32]
    size: tuple[int, int]
    original_size: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    def to_network(self, boxes: NDArray[np.floating]) -> Boxes:
        """Boxes [N, 4] from pixels of the original picture to those of the network's input."""
        return (boxes * self._scale() - (self.origin * 2)).astype(np.float32)

    def to_original(self, boxes: NDArray[np.floating]) -> Boxes:
        """Boxes [N, 4] from pixels of the network's input to pixels of the original picture."""
        return ((boxes + (self.origin * 2)) / self._scale()).astype(np.float32)

    def _scale(self) -> NDArray[np.float64]:
        height, width = (new / old for new, old in zip(self.size, self.original_size, strict=True))
        return np.array([width, height, width, height])


def resized_size(height: int, width: int, rule: InputRule) -> tuple[int, int]:
    """Height and width after resizing, rounded down in double precision as the reference does."""
    scale = rule.min_size / min(height, width)
    if scale * max(height, width) > rule.max_size:
        scale = rule.max_size / max(height, width)
    return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))


def prepare(pixels: NDArray[np.uint8], rule: InputRule) -> PreparedImage:
    """Resize, normalize and pad one picture [H, W, 3]."""
    height, width = pixels.shape[:2]
    return prepare_at(pixels, resized_size(height, width, rule), rule)


def prepare_around(
    pixels: NDArray[np.uint8], box: NDArray[np.floating], rule: InputRule, *, margin: int
) -> PreparedImage:
    """The window around a box [4], and no less than margin pixels of input more on each side.

    The window's pixels are those that the whole picture's input has there; it starts and ends at
    multiples of the divisor, so that the network's strides fall as they do on the whole.
    """
    height, width = pixels.shape[:2]
    size = resized_size(height, width, rule)
    step = rule.size_divisor
    scale = np.array([size[1] / width, size[0] / height] * 2)
    x1, y1, x2, y2 = (box * scale + [-margin, -margin, margin, margin]) / step
    (left, right), (top, bottom) = (
        (max(0, math.floor(low)) * step, min(-(-side // step), math.ceil(high)) * step)
        for low, high, side in ((x1, x2, size[1]), (y1, y2, size[0]))
    )
    return prepare_at(pixels, size, rule, window=(left, top, right, bottom))


def prepare_crop(pixels: NDArray[np.uint8], rule: InputRule) -> PreparedImage:
    """The same for a bare crop of one person, who gets the height of people in scenes."""
    height, width = pixels.shape[:2]
    scale = min(rule.person_height / height, rule.max_size / width)
    return prepare_at(
        pixels, (max(1, math.floor(height * scale)), max(1, math.floor(width * scale))), rule
    )


def prepare_at(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    rule: InputRule,
    *,
    window: tuple[int, int, int, int] | None = None,
) -> PreparedImage:
    """Normalize, resize to an exact height and width, and pad.

    Bilinear, half-pixel centres, no antialiasing: the published weights never saw the antialiasing
    of Pillow and most others. Every step is in float32 and in the reference's order; otherwise
    its boxes differ by 0.01 px.

    Args:
        window: x1 y1 x2 y2, multiples of the divisor: make only this part of it.
    """
    height, width = size
    step = rule.size_divisor
    x1, y1, x2, y2 = window or (0, 0, -(-width // step) * step, -(-height // step) * step)
    padded = np.zeros((3, y2 - y1, x2 - x1), np.float32)
    rows, upper, lower, down = _taps(pixels.shape[0], height, y1, min(y2, height))
    columns, left, right, along = _taps(pixels.shape[1], width, x1, min(x2, width))
    used = pixels[rows][:, columns]
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    down = down[:, None]
    for channel in range(3):
        normalized = (levels - np.float32(rule.mean[channel])) / np.float32(rule.std[channel])
        plane = normalized[used[:, :, channel]]
        wide = plane[:, left] * (1 - along) + plane[:, right] * along
        made = wide[upper] * (1 - down) + wide[lower] * down
        padded[channel, : len(upper), : len(left)] = made
    return PreparedImage(padded, size, (int(pixels.shape[0]), int(pixels.shape[1])), (x1, y1))


def _taps(
    old: int, new: int, start: int, stop: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """What resizing a side takes, for the new positions from start to before stop.

    Returns:
        The old positions that are used; for each new one, the places among these of its two
        neighbours, and the weight of the second.
    """
    half, step = np.float32(0.5), np.float32(old) / np.float32(new)
    position = np.maximum((np.arange(start, stop, dtype=np.float32) + half) * step - half, 0)
    first = np.minimum(position.astype(np.int64), old - 1)
    second = np.minimum(first + 1, old - 1)
    used, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    return used, *np.split(place, 2), (position - first).astype(np.float32)
