"""Pictures as routes send them: upright JPEG without metadata."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.image import encode_jpeg

Pixels = NDArray[np.uint8]


def upright_jpeg(pixels: Pixels) -> bytes:
    """The whole picture."""
    return encode_jpeg(pixels)


def thumbnail_jpeg(pixels: Pixels, *, size: int) -> bytes:
    """As large as fits into size × size pixels; never enlarged."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((size, size))
    return encode_jpeg(np.asarray(picture))


def crop_jpeg(pixels: Pixels, *, box: tuple[float, float, float, float]) -> bytes:
    """What is in a box, to whole pixels outwards, at least one."""
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = box
    left, top = min(int(x1), width - 1), min(int(y1), height - 1)
    right, bottom = max(math.ceil(x2), left + 1), max(math.ceil(y2), top + 1)
    return encode_jpeg(pixels[top:bottom, left:right])
