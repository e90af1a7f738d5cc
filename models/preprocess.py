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
        size: height and width of the resized picture, without padding.
        original_size: height and width of the picture as it came.
    """

    pixels: NDArray[np.float32]
    size: tuple[int, int]
    original_size: tuple[int, int]

    def to_network(self, boxes: NDArray[np.floating]) -> Boxes:
        """Boxes [N, 4] from pixels of the original picture to pixels of the resized one."""
        return (boxes * self._scale()).astype(np.float32)

    def to_original(self, boxes: NDArray[np.floating]) -> Boxes:
        """Boxes [N, 4] from pixels of the resized picture to pixels of the original one."""
        return (boxes / self._scale()).astype(np.float32)

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


def prepare_crop(pixels: NDArray[np.uint8], rule: InputRule) -> PreparedImage:
    """The same for a bare crop of one person, who gets the height of people in scenes."""
    height, width = pixels.shape[:2]
    scale = min(rule.person_height / height, rule.max_size / width)
    return prepare_at(
        pixels, (max(1, math.floor(height * scale)), max(1, math.floor(width * scale))), rule
    )


def prepare_at(pixels: NDArray[np.uint8], size: tuple[int, int], rule: InputRule) -> PreparedImage:
    """Resize to an exact height and width, normalize and pad."""
    height, width = size
    step = rule.size_divisor
    padded = np.zeros((3, -(-height // step) * step, -(-width // step) * step), np.float32)
    resized = resize_bilinear(pixels, size)
    for channel in range(3):
        gain = np.float32(1 / (255 * rule.std[channel]))
        shift = np.float32(rule.mean[channel] / rule.std[channel])
        padded[channel, :height, :width] = resized[:, :, channel] * gain - shift
    return PreparedImage(padded, size, (int(pixels.shape[0]), int(pixels.shape[1])))


def resize_bilinear(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Bilinear, half-pixel centres, no antialiasing: what the reference's resize does.

    Pillow and most others antialias when they shrink, which the published weights never saw.

    Args:
        pixels: [H, W, C].
        size: new height and width.

    Returns:
        [height, width, C] float32 in [0, 255].
    """
    if pixels.shape[:2] == size:
        return pixels.astype(np.float32)
    upper, lower, down = _taps(pixels.shape[0], size[0])
    left, right, along = _taps(pixels.shape[1], size[1])
    weight = along[None, :, None]
    # Columns first, on the rows that are used: the copy is smallest when shrinking.
    used, place = np.unique(np.concatenate([upper, lower]), return_inverse=True)
    rows = pixels[used]
    columns = rows[:, left] * (1 - weight) + rows[:, right] * weight
    top, bottom = columns[place[: size[0]]], columns[place[size[0] :]]
    bottom -= top
    bottom *= down[:, None, None]
    return np.asarray(top + bottom, np.float32)


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each new position: its two neighbours and the weight of the second."""
    position = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    first = np.minimum(position.astype(np.int64), old - 1)
    second = np.minimum(first + 1, old - 1)
    return first, second, (position - first).astype(np.float32)
