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
    """Normalize, resize to an exact height and width, and pad.

    Bilinear, half-pixel centres, no antialiasing: the published weights never saw the antialiasing
    of Pillow and most others. Every step is in float32 and in the reference's order; otherwise
    its boxes differ by 0.01 px.
    """
    height, width = size
    step = rule.size_divisor
    padded = np.zeros((3, -(-height // step) * step, -(-width // step) * step), np.float32)
    rows, upper, lower, down = _taps(pixels.shape[0], height)
    columns, left, right, along = _taps(pixels.shape[1], width)
    used = pixels[rows][:, columns]
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    down = down[:, None]
    for channel in range(3):
        normalized = (levels - np.float32(rule.mean[channel])) / np.float32(rule.std[channel])
        plane = normalized[used[:, :, channel]]
        wide = plane[:, left] * (1 - along) + plane[:, right] * along
        padded[channel, :height, :width] = wide[upper] * (1 - down) + wide[lower] * down
    return PreparedImage(padded, size, (int(pixels.shape[0]), int(pixels.shape[1])))


def _taps(
    old: int, new: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """What a side's resizing needs.

    Returns:
        The old positions that are used; for each new one, the places among these of its two
        neighbours, and the weight of the second.
    """
    half, step = np.float32(0.5), np.float32(old) / np.float32(new)
    position = np.maximum((np.arange(new, dtype=np.float32) + half) * step - half, 0)
    first = np.minimum(position.astype(np.int64), old - 1)
    second = np.minimum(first + 1, old - 1)
    used, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    return used, place[:new], place[new:], (position - first).astype(np.float32)
