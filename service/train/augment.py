"""What surveillance pictures suffer, done to scenes at random while a network is trained."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

BLURRED, NOISY, COMPRESSED = 0.25, 0.3, 0.3
HIDDEN = 0.25
"""Shares of scenes, and of people of whom a part is hidden."""
GREYED = np.array([[0.3], [0.59], [0.11]], np.float32) * np.ones(3, np.float32)
"""Colours to their grey, by a product from the right."""


def degraded(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    strong: bool = False,
) -> NDArray[np.uint8]:
    """A scene [H, W, 3] in other light, blurred, noisy or compressed, its people partly hidden.

    Args:
        boxes: [N, 4], x1 y1 x2 y2 of its people.
        strong: as another camera may see it: contrast and colours weaker or stronger, too.
    """
    shown = pixels.copy()
    for box in boxes[rng.random(len(boxes)) < HIDDEN]:
        _hide_part(shown, box, rng)
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    gains = float(rng.uniform(0.85, 1.15)) * rng.uniform(0.93, 1.07, 3)
    table = 255 * (levels * gains).clip(0, 1) ** float(np.exp(rng.uniform(-0.3, 0.3)))
    if strong:
        table = 255 * ((table / 255 - 0.5) * float(rng.uniform(0.8, 1.2)) + 0.5).clip(0, 1)
    lookup = np.round(table).astype(np.uint8)
    shown = np.stack([lookup[:, c][shown[..., c]] for c in range(3)], axis=-1)
    if strong:
        share = float(rng.uniform(0.7, 1.25))
        mixed = shown.astype(np.float32) @ (
            share * np.eye(3, dtype=np.float32) + GREYED * (1 - share)
        )
        shown = mixed.clip(0, 255).astype(np.uint8)
    if rng.random() < NOISY:
        deviation = float(rng.uniform(2, 9))
        grain = rng.standard_normal(shown.shape, dtype=np.float32) * deviation
        shown = (shown + grain).clip(0, 255).astype(np.uint8)
    if rng.random() < BLURRED:
        blur = ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.4)))
        shown = np.asarray(Image.fromarray(shown).filter(blur))
    if rng.random() < COMPRESSED:
        stream = io.BytesIO()
        Image.fromarray(shown).save(stream, "JPEG", quality=int(rng.integers(25, 75)))
        shown = np.asarray(Image.open(stream))
    return shown


def _hide_part(
    pixels: NDArray[np.uint8], box: NDArray[np.floating], rng: np.random.Generator
) -> None:
    """Put a block of one colour before a person, as large as a tenth to two fifths of the box."""
    width, height = box[2] - box[0], box[3] - box[1]
    wide, tall = width * rng.uniform(0.3, 0.9), height * rng.uniform(0.15, 0.4)
    left = int(max(0, box[0] + rng.uniform(0, width - wide)))
    top = int(max(0, box[1] + rng.uniform(0, height - tall)))
    block = pixels[top : top + max(1, int(tall)), left : left + max(1, int(wide))]
    block[:] = rng.integers(0, 256, 3)
