"""Cameras: each one's colours, viewpoint, light and picture quality."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.datasets.people.render import View


@dataclass(frozen=True, eq=False)
class Profile:
    """What all pictures of one camera have in common.

    Attributes:
        gains: [3], factors of red, green and blue.
        gamma, contrast, saturation: factors around 1.
        lift: added to black, in [0, 1].
        pitch: about how many degrees it looks down.
        heights: least and greatest height of a person, in pixels.
        blur: radius, as a share of a person's height.
        noise: standard deviation in [0, 1].
        quality: JPEG quality.
        sharpening: strength of the halos around edges; 0 for none.
        sun: direction of the light, in degrees around the vertical; 0 is from the camera.
        sun_height: degrees of the light above the ground.
        sunshine, sky, warmth: as in `View`.
        ground: number of its background, modulo how many there are.
    """

    gains: NDArray[np.float32]
    gamma: float
    contrast: float
    saturation: float
    lift: float
    pitch: float
    heights: tuple[float, float]
    blur: float
    noise: float
    quality: int
    sharpening: float
    sun: float
    sun_height: float
    sunshine: float
    sky: float
    warmth: float
    ground: int


def random_profile(rng: np.random.Generator) -> Profile:
    """A random camera, as in a shop, a street or a station."""
    warm = float(rng.normal(0, 0.07))
    tint = float(rng.normal(0, 0.025))
    gains = np.array([1 + warm, 1 + tint, 1 - warm], np.float32)
    low = float(np.exp(rng.uniform(np.log(60), np.log(140))))
    cloudy = rng.random() < 0.5
    sunshine = float(rng.uniform(0.15, 0.4) if cloudy else rng.uniform(0.6, 1.1))
    sky = float(rng.uniform(0.75, 1.0) if cloudy else rng.uniform(0.4, 0.65))
    exposure = float(np.exp(rng.normal(0.0, 0.17)))
    return Profile(
        gains=gains * exposure,
        gamma=float(np.exp(rng.normal(0.0, 0.14))),
        contrast=float(np.exp(rng.normal(0.02, 0.15))),
        saturation=float(np.clip(rng.normal(0.88, 0.2), 0.35, 1.4)),
        lift=float(max(0.0, rng.normal(0.02, 0.03))),
        pitch=float(np.clip(rng.gamma(2.0, 7.0), 0, 42)),
        heights=(low, low * float(rng.uniform(1.4, 2.6))),
        blur=float(rng.gamma(1.5, 0.0016)),
        noise=float(rng.gamma(2.0, 0.006)),
        quality=int(rng.integers(45, 95)),
        sharpening=float(rng.uniform(0.5, 2.0)) if rng.random() < 0.35 else 0.0,
        sun=float(rng.uniform(-180, 180)),
        sun_height=float(rng.uniform(25, 80)),
        sunshine=sunshine,
        sky=sky,
        warmth=float(rng.normal(0, 0.5)),
        ground=int(rng.integers(1 << 30)),
    )


def random_view(camera: Profile, rng: np.random.Generator, *, pitch: float | None = None) -> View:
    """A random view of a person, who may face any way.

    Args:
        pitch: degrees that the camera looks down; None: about as it usually does.
    """
    around = np.radians(camera.sun + float(rng.normal(0, 12)))
    up = np.radians(camera.sun_height)
    sun = (
        float(np.cos(up) * np.sin(around)), float(np.sin(up)), float(np.cos(up) * np.cos(around)),
    )  # fmt: skip
    shaded = 0.25 if rng.random() < 0.15 else 1.0
    return View(
        facing=float(rng.uniform(-180, 180)),
        pitch=float(np.clip((camera.pitch if pitch is None else pitch) + rng.normal(0, 3), -3, 48)),
        distance=float(rng.uniform(45, 180)),
        sun=sun,
        sunshine=camera.sunshine * shaded * float(rng.uniform(0.85, 1.15)),
        sky=camera.sky * float(rng.uniform(0.9, 1.1)),
        warmth=camera.warmth,
    )


def develop(picture: Image.Image, camera: Profile, rng: np.random.Generator) -> Image.Image:
    """The camera's version of a picture [H, W]: its faults at the size at which it saw it, and its
    colours; then as large as it was."""
    low, high = camera.heights
    tall = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    factor = min(1.0, tall / picture.height)
    size = max(8, round(picture.width * factor)), max(16, round(picture.height * factor))
    small = picture.resize(
        size, Image.Resampling.BOX if factor < 0.6 else Image.Resampling.BILINEAR
    )
    blur = camera.blur * size[1] * float(rng.uniform(0.6, 1.6))
    if blur > 0.25:
        small = small.filter(ImageFilter.GaussianBlur(blur))
    if rng.random() < 0.12:  # somebody moved
        small = _smeared(small, max(1, round(float(rng.uniform(0.008, 0.03)) * size[1])))
    if camera.sharpening:
        small = small.filter(ImageFilter.UnsharpMask(1.2, round(60 * camera.sharpening), 0))
    made = coloured(small, camera, rng)
    stream = io.BytesIO()
    made.save(stream, "JPEG", quality=int(np.clip(camera.quality + rng.integers(-6, 7), 25, 97)))
    stream.seek(0)
    return Image.open(stream).convert("RGB").resize(picture.size, Image.Resampling.BICUBIC)


def coloured(picture: Image.Image, camera: Profile, rng: np.random.Generator) -> Image.Image:
    """A picture with the camera's colours and noise."""
    pixels = np.asarray(picture, np.float32) / 255
    pixels = pixels * camera.gains * float(np.exp(rng.normal(0, 0.06)))
    pixels = np.clip(pixels, 0, 1) ** camera.gamma
    grey = pixels @ np.array([0.3, 0.59, 0.11], np.float32)
    pixels = grey[..., None] + (pixels - grey[..., None]) * camera.saturation
    pixels = camera.lift + (1 - camera.lift) * ((pixels - 0.5) * camera.contrast + 0.5)
    noise = rng.standard_normal((*pixels.shape[:2], 1)) + 0.5 * rng.standard_normal(pixels.shape)
    pixels = pixels + camera.noise * noise
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def _smeared(picture: Image.Image, length: int) -> Image.Image:
    pixels = np.asarray(picture, np.float32)
    total = sum(np.roll(pixels, step, axis=1) for step in range(length + 1))
    return Image.fromarray((np.asarray(total) / (length + 1)).astype(np.uint8))
