"""Places with a camera: ground to walk on, and a row of houses or a wall behind it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.people.camera import Profile, random_profile

Map = NDArray[np.float64]
STOREY = 34.0
"""Decimetres."""
FINER = 2
"""Times as many pixels each way are drawn as are shown."""


@dataclass(frozen=True, eq=False)
class Place:
    """One camera's view with nobody in it. Lengths are in decimetres.

    Attributes:
        size: width and height in pixels.
        focal: focal length in pixels.
        high: height of the camera above the ground.
        pitch: radians that it looks down.
        wall: distance to the houses.
        profile: its light and colours.
        background: before the camera's faults.
    """

    size: tuple[int, int]
    focal: float
    high: float
    pitch: float
    wall: float
    profile: Profile
    background: Image.Image

    def at(self, right: float, away: float, up: float = 0.0) -> tuple[float, float, float]:
        """Where a point is in the picture: column, row, and pixels per decimetre there."""
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        low = self.high - up
        depth = away * cos + low * sin
        column = self.size[0] / 2 + self.focal * right / depth
        row = self.size[1] / 2 + self.focal * (low * cos - away * sin) / depth
        return float(column), float(row), float(self.focal / depth)


def random_place(size: tuple[int, int], rng: np.random.Generator) -> Place:
    """A random street, square or hall."""
    focal = float(rng.uniform(0.85, 1.25)) * size[0]
    high = float(rng.uniform(28, 55))
    wall = float(rng.uniform(140, 280))
    # The camera looks down so far that the houses begin above the picture's middle.
    base = float(rng.uniform(0.05, 0.2)) * size[1]
    pitch = float(np.arctan2(high, wall) + np.arctan2(base, focal))
    profile = random_profile(rng)
    background = _view(size, focal, high, pitch, wall, rng)
    return Place(size, focal, high, pitch, wall, profile, background)


def _view(
    size: tuple[int, int],
    focal: float,
    high: float,
    pitch: float,
    wall: float,
    rng: np.random.Generator,
) -> Image.Image:
    width, height = (FINER * side for side in size)
    column, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    u = (column - width / 2) / (FINER * focal)
    v = (row - height / 2) / (FINER * focal)
    ahead = np.cos(pitch) - v * np.sin(pitch)
    down = np.sin(pitch) + v * np.cos(pitch)
    far = wall / np.maximum(ahead, 1e-3)
    up = high - far * down
    upright = up > 0
    reach = np.where(upright, far, high / np.maximum(down, 1e-3))
    ground = _ground(u * reach, ahead * reach, wall, rng)
    houses = _houses(u * far, up, rng)
    pixels = np.where(upright[..., None], houses, ground)
    return Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8)).reduce(FINER)


def _ground(x: Map, z: Map, wall: float, rng: np.random.Generator) -> Map:
    """Paving, with a road or a lawn along the houses; [H, W, 3] in [0, 1]."""
    stone = _grey(rng, 0.35, 0.7)
    tile = float(rng.choice((5.0, 8.0, 12.0, 25.0)))
    turn = float(rng.uniform(-0.5, 0.5))
    a = (x * np.cos(turn) - z * np.sin(turn)) / tile
    b = (x * np.sin(turn) + z * np.cos(turn)) / tile
    each = _cells(a, b, rng) - 0.5
    # A seam is wider than a pixel or is not seen.
    seam = (np.abs(a - np.round(a)) < 0.03) | (np.abs(b - np.round(b)) < 0.03)
    near = np.clip(1.4 - z / wall, 0, 1)
    shade = 1 + 0.14 * each - 0.22 * seam * near
    for size, depth in ((40.0, 0.12), (9.0, 0.07), (1.5, 0.06)):
        shade = shade + depth * (_noise(x / size, z / size, rng) - 0.5) * 2
    ground = shade[..., None] * stone
    edge = wall * float(rng.uniform(0.7, 0.9))
    if rng.random() < 0.6:
        strip = np.array([0.27, 0.28, 0.29]) if rng.random() < 0.6 else np.array([0.27, 0.36, 0.2])
        rough = 1 + 0.25 * (_noise(x / 3, z / 3, rng) - 0.5)
        ground = np.where((z > edge)[..., None], strip * rough[..., None], ground)
        ground = np.where(((z > edge - 2) & (z <= edge))[..., None], stone * 1.15, ground)
    foot = 1 - 0.35 * np.exp(-(wall - z) / 4)
    lit: Map = ground * foot[..., None]
    return lit


def _houses(x: Map, y: Map, rng: np.random.Generator) -> Map:
    """A row of houses under a sky; [H, W, 3] in [0, 1]."""
    sky = np.array([0.75, 0.81, 0.88]) * (1 - 0.1 * np.clip(y / 300, 0, 1))[..., None]
    made = sky
    left = -400.0
    while left < 400:
        right = left + float(rng.uniform(60, 160))
        own = (x >= left) & (x < right)
        tall = STOREY * int(rng.integers(2, 8)) + 12
        if own.any():
            face = _house(x - left, y, tall, rng)
            made = np.where((own & (y < tall))[..., None], face, made)
        left = right
    return made


def _house(x: Map, y: Map, tall: float, rng: np.random.Generator) -> Map:
    face = _grey(rng, 0.35, 0.8) * np.array([1.0, 0.97, 0.92])
    shade = 1 + 0.16 * (_noise(x / 12, y / 12, rng) - 0.5) + 0.1 * (_noise(x, y, rng) - 0.5)
    if rng.random() < 0.4:  # bricks
        row = np.floor(y / 0.8)
        shade = shade * np.where((y / 0.8 - row < 0.12), 0.85, 1.0)
    made = face * shade[..., None]
    wide, share = float(rng.uniform(18, 34)), float(rng.uniform(0.4, 0.7))
    a, b = x / wide, y / STOREY
    inside = (np.abs(a - np.floor(a) - 0.5) < share / 2) & (np.abs(b - np.floor(b) - 0.55) < 0.3)
    frame = (np.abs(a - np.floor(a) - 0.5) < share / 2 + 0.04) & (
        np.abs(b - np.floor(b) - 0.55) < 0.34
    )
    glass = (0.14 + 0.4 * _cells(a, b, rng) ** 2)[..., None] * np.array([0.85, 0.95, 1.05])
    glass = glass * (0.8 + 0.5 * (b - np.floor(b)))[..., None]
    made = np.where(frame[..., None], face * 0.75, made)
    made = np.where(inside[..., None], glass, made)
    shop = rng.random() < 0.6
    if shop:
        pane = (y < 28) & (np.abs(x / 22 - np.floor(x / 22) - 0.5) < 0.44) & (y > 3)
        deep = 0.1 + 0.3 * _noise(x / 7, y / 9, rng) ** 2 + 0.15 * (_cells(x / 22, y / 90, rng))
        made = np.where((y < STOREY)[..., None], face * 0.6 * shade[..., None], made)
        made = np.where(pane[..., None], deep[..., None] * np.array([1.0, 0.95, 0.85]), made)
        sign = rng.uniform(0.1, 0.7, 3)
        made = np.where(((y > 28.5) & (y < 33))[..., None], sign * shade[..., None], made)
    whole: Map = made
    return whole


def _grey(rng: np.random.Generator, low: float, high: float) -> NDArray[np.float64]:
    tint: NDArray[np.float64] = rng.uniform(0.92, 1.08, 3)
    return float(rng.uniform(low, high)) * tint


def _cells(a: Map, b: Map, rng: np.random.Generator) -> Map:
    """A random number in [0, 1) for each cell of a grid."""
    table = rng.random((64, 64))
    return np.asarray(table[np.floor(a).astype(int) % 64, np.floor(b).astype(int) % 64])


def _noise(a: Map, b: Map, rng: np.random.Generator) -> Map:
    """Random numbers in [0, 1], smooth between the points of a grid."""
    table = rng.random((64, 64))
    i, j = np.floor(a).astype(int), np.floor(b).astype(int)
    s, t = a - i, b - j
    s, t = s * s * (3 - 2 * s), t * t * (3 - 2 * t)
    i, j, k, m = i % 64, j % 64, (i + 1) % 64, (j + 1) % 64
    upper = table[i, j] * (1 - s) + table[k, j] * s
    lower = table[i, m] * (1 - s) + table[k, m] * s
    return np.asarray(upper * (1 - t) + lower * t)
