"""How a camera renders what it sees: sharpness, light, colours, noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.datasets.synthetic import GRAIN

QUALITIES = (55, 94)
"""Of JPEG."""


@dataclass(frozen=True, eq=False)
class Lens:
    """One camera's rendering.

    Attributes:
        coarse: by how much it sees more coarsely than its picture's pixels, 1 or more.
        blur: deviation of a Gaussian, in pixels.
        sharpened: share that it adds to edges, 0 or more.
        gains: of red, green and blue.
        gamma, contrast, saturation: 1 changes nothing.
        shade: how much darker corners are, a share.
        noise: deviation in grey levels.
        grain: size of a speck of noise in pixels, 1 or more.
        quality: of its JPEGs.
    """

    coarse: float
    blur: float
    sharpened: float
    gains: NDArray[np.float32]
    gamma: float
    contrast: float
    saturation: float
    shade: float
    noise: float
    grain: float
    quality: int


def random_lens(rng: np.random.Generator) -> Lens:
    """A camera as they hang in streets and shops: most see well, some badly."""
    poor = rng.random() < 0.3
    return Lens(
        coarse=float(rng.uniform(1.2, 2.2)) if poor else float(rng.uniform(1, 1.25)),
        blur=float(rng.uniform(0, 1.0 if poor else 0.6)),
        sharpened=float(rng.uniform(0, 1.2)) if rng.random() < 0.4 else 0.0,
        gains=rng.normal(1, 0.045, 3).clip(0.8, 1.2).astype(np.float32),
        gamma=float(np.exp(rng.normal(0, 0.18))),
        contrast=float(rng.uniform(0.75, 1.2)),
        saturation=0.0 if rng.random() < 0.04 else float(rng.uniform(0.5, 1.25)),
        shade=float(rng.uniform(0, 0.35)) if rng.random() < 0.4 else 0.0,
        noise=float(rng.uniform(2, 9) if poor else rng.uniform(0.5, 5)),
        grain=float(rng.uniform(1, 2)),
        quality=int(rng.integers(*QUALITIES)),
    )


def through(
    lens: Lens, picture: Image.Image, rng: np.random.Generator, *, coarse: float = 1.0
) -> Image.Image:
    """The picture as the camera sees it, in another light each time.

    Args:
        picture: RGB.
        coarse: what it shows is this much coarser than its pixels already; then so is all of it.
    """
    size = picture.size
    coarse = max(lens.coarse, coarse)
    if coarse > 1.05:
        small = max(8, round(size[0] / coarse)), max(8, round(size[1] / coarse))
        picture = picture.resize(
            small, Image.Resampling.BOX if coarse > 1.4 else Image.Resampling.BILINEAR
        )
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if lens.blur > 0.25:
        picture = picture.filter(ImageFilter.GaussianBlur(lens.blur))
    if lens.sharpened:
        picture = picture.filter(ImageFilter.UnsharpMask(1.5, round(100 * lens.sharpened), 2))
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    exposure = float(np.exp(rng.normal(0, 0.12)))
    table = (levels * lens.gains * exposure).clip(0, 1) ** lens.gamma
    table = 255 * ((table - 0.5) * lens.contrast + 0.5).clip(0, 1)
    picture = picture.point(table.T.round().astype(int).ravel().tolist())
    pixels = np.asarray(picture, np.float32)
    if abs(lens.saturation - 1) > 0.05:
        grey = pixels @ np.array([0.3, 0.59, 0.11], np.float32)
        pixels = grey[..., None] + lens.saturation * (pixels - grey[..., None])
    if lens.shade:
        across, down = (np.linspace(-1, 1, side) ** 2 for side in size)
        left = 1 - lens.shade / 2 * (across[None, :] + down[:, None])
        pixels = pixels * left[..., None].astype(np.float32)
    grains = _grains(size, lens.grain, 3 if rng.random() < 0.5 else 1, rng)
    # Dark parts are noisier than bright ones.
    pixels = np.asarray(pixels + grains * lens.noise * (1.25 - pixels / 400), np.float32)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _grains(
    size: tuple[int, int], grain: float, channels: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Noise of about unit deviation, [H, W, channels], whose specks are so many pixels wide."""
    width, height = max(1, round(size[0] / grain)), max(1, round(size[1] / grain))
    places = np.arange(width * height * channels) + rng.integers(GRAIN.size)
    specks = GRAIN.take(places, mode="wrap").reshape(channels, height, width)
    if (width, height) == size:
        return np.ascontiguousarray(specks.transpose(1, 2, 0))
    layers = [
        np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BILINEAR), np.float32)
        for layer in specks
    ]
    return 1.3 * np.stack(layers, axis=-1)
