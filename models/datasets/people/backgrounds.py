"""Backgrounds for rendered people: parts of films and of drawn streets."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.cutouts import read_film
from models.datasets.synthetic import draw_background
from models.errors import DatasetError

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
FRAMES = 16
"""Of each film."""
DRAWN = 48
"""Streets that are drawn."""
FILMED_SHARE = 0.7


def read_films(films: list[Path]) -> list[list[Image.Image]]:
    """Evenly spaced frames of each film; a picture counts as a film of one frame.

    Raises:
        DatasetError: one cannot be read.
    """
    return [_frames(film) for film in films]


def _frames(film: Path) -> list[Image.Image]:
    if film.suffix.lower() in PICTURES:
        try:
            return [Image.open(film).convert("RGB")]
        except (OSError, ValueError) as error:
            raise DatasetError(f"{film}: a picture that cannot be read: {error}") from error
    every = read_film(film, every=8)
    return [
        Image.fromarray(every[round(at)])
        for at in np.linspace(0, len(every) - 1, min(FRAMES, len(every)))
    ]


@lru_cache(maxsize=DRAWN)
def _street(seed: int, number: int) -> Image.Image:
    rng = np.random.default_rng((seed, 11, number))
    horizon, wall = (float(rng.uniform(*ends)) * 360 for ends in ((0.02, 0.26), (0.3, 0.5)))
    return draw_background(rng, (480, 360), horizon, wall)


def behind(
    films: list[list[Image.Image]],
    ground: int,
    size: tuple[int, int],
    seed: int,
    rng: np.random.Generator,
) -> Image.Image:
    """A piece of background for one camera.

    Args:
        films: as `read_films` returns them; may be empty.
        ground: number of the camera's background; modulo how many there are.
        size: width and height in pixels.
        seed: for the drawn streets.
    """
    choice = np.random.default_rng(ground)
    if films and choice.random() < FILMED_SHARE:
        film = films[int(choice.integers(len(films)))]
        picture = film[int(rng.integers(len(film)))]
    else:
        picture = _street(seed, ground % DRAWN)
    tall = picture.height * float(rng.uniform(0.25, 0.75))
    wide = tall * size[0] / size[1]
    if wide > picture.width:
        tall, wide = tall * picture.width / wide, float(picture.width)
    left = float(rng.uniform(0, picture.width - wide))
    top = float(rng.uniform(0.2, 1.0)) * (picture.height - tall)
    part = picture.resize(size, Image.Resampling.BICUBIC, (left, top, left + wide, top + tall))
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        return part
    pixels = np.asarray(part, np.float32)
    shift: NDArray[np.float64] = rng.normal(0, 12, 3) + rng.normal(0, 18)
    return Image.fromarray((pixels + shift).clip(0, 255).astype(np.uint8))
