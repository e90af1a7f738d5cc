"""Pictures that show nobody, to see what a model takes for people."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.datasets.backgrounds import furnish, photo_view, plain_picture, random_stage
from models.datasets.lenses import random_lens, through
from models.datasets.material import Material
from models.datasets.photos import read_photos
from models.datasets.synthetic import make_camera

CAMERAS = 40


def pictures_of_nobody(
    count: int, photos: Sequence[Path], *, size: tuple[int, int], seed: int
) -> Iterator[tuple[str, Image.Image]]:
    """Kind and picture, RGB: the same ones for the same arguments.

    The kinds take turns: "plain" (colours, gradients, patterns, noise), "drawn" (streets full of
    things) and, where there are photographs, "photo" (parts of them) and "photo with things".
    Each is seen through another camera.

    Args:
        count: how many, 1 or more.
        photos: directories of photographs that show nobody.
        size: width and height in pixels.
        seed: 0 or more.

    Raises:
        DatasetError: a photograph cannot be read, or a directory has none.
    """
    cameras = [make_camera(np.random.default_rng((seed, 2, n)), size) for n in range(CAMERAS)]
    drawn = Material(cameras=cameras)
    taken = Material(photos=[photo for path in photos for photo in read_photos(path)])

    def staged(material: Material, rng: np.random.Generator) -> Image.Image:
        stage = random_stage(material, size, rng, populated=False)
        furnish(stage, material, rng)
        return stage.picture

    kinds: dict[str, Callable[[np.random.Generator], Image.Image]] = {
        "plain": lambda rng: plain_picture(size, rng),
        "drawn": lambda rng: staged(drawn, rng),
    }
    if taken.photos:
        kinds["photo"] = lambda rng: photo_view(taken, size, rng)
        kinds["photo with things"] = lambda rng: staged(taken, rng)
    for number in range(count):
        rng = np.random.default_rng((seed, 4, number))
        kind = list(kinds)[number % len(kinds)]
        yield kind, through(random_lens(rng), kinds[kind](rng), rng)
