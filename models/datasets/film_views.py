"""Crops of the few people in films, in endless clothes: for a teacher to answer about.

    python -m models.datasets.film_views views --film one-by-one.mp4 --film worker-zone.gif

What a network learns from a teacher's answers needs no identities, only pictures that are like
those it will see. A film with a still camera gives real light, noise, edges and folds of cloth;
here each cut-out gets other colours and patterns, is put before a background of the films and cut
out as a detector would. Some crops show the upper half of one and the lower half of another, some
nobody at all: a teacher's answer about these tells what it looks at, too. Files are named as
unnamed people's: -1_c1s1_000000_00.jpg.
"""

if __name__ == "__main__":
    from models.command import run

    run("models.datasets.film_views")

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageSequence
from tqdm import tqdm

from models.command import command
from models.datasets.cutouts import ANKLES, EMPTY_FRAMES, NECK, WAIST, film_people, read_film
from models.datasets.drawing import cloth
from models.errors import DatasetError

NOBODY, HALVES, BLENDED = 0.08, 0.2, 0.1
"""Shares of crops that show no person; two people's halves; and two people through each other."""
HIDDEN, CUT = 0.2, 0.25
MOST_FRAMES = 400
VALIDATION_PERSON = 0
"""Of each film the first who walks in belongs to validation; no crop shows them."""


class Films:
    """The people of films, cut out, and the films' backgrounds."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Find the people: whatever differs from the background.

        Args:
            paths: a video that begins with nobody in it and that people enter one by one, of
                which the first person is left to validation; or an animated GIF with a person who
                is never at one place for half of it.

        Raises:
            DatasetError: one cannot be read, or nobody is found in any.
        """
        self.people: list[tuple[Image.Image, ...]] = []
        self.backgrounds: list[Image.Image] = []
        for path in paths:
            if path.suffix.lower() == ".gif":
                frames = _read_gif(path)
                still = np.median(np.stack(frames[:MOST_FRAMES]), axis=0).astype(np.uint8)
                people, _ = film_people([still] * EMPTY_FRAMES + frames, least_height=0.25)
            else:
                found, still = film_people(read_film(path))
                people = found[VALIDATION_PERSON + 1 :]
            self.people += [tuple(map(_without_rim, person.cutouts)) for person in people]
            self.backgrounds.append(Image.fromarray(still))
        if not self.people:
            raise DatasetError(f"{', '.join(map(str, paths))}: nobody found who moves")

    def view(self, rng: np.random.Generator) -> Image.Image:
        """One crop, 96 to 256 pixels tall."""
        tall = int(rng.integers(96, 257))
        draw = rng.random()
        if draw < NOBODY:
            return self._background((round(tall * float(rng.uniform(0.3, 0.6))), tall), rng)
        shown = self._alone(tall, rng)
        if draw < NOBODY + HALVES + BLENDED:
            other = self._alone(tall, rng).resize(shown.size)
            if draw < NOBODY + HALVES:
                border = round(tall * float(rng.uniform(0.4, 0.6)))
                half = (0, border, shown.width, tall)
                shown.paste(other.crop(half), half[:2])
            else:
                shown = Image.blend(shown, other, float(rng.uniform(0.25, 0.5)))
        return shown

    def _alone(self, tall: int, rng: np.random.Generator) -> Image.Image:
        """Somebody before a background, cut out as a detector would."""
        cutouts = self.people[int(rng.integers(len(self.people)))]
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        height = max(24, round(tall * float(rng.uniform(0.8, 1.1))))
        ratio = cutout.width / cutout.height * float(np.exp(rng.normal(0, 0.08)))
        figure = cutout.resize((max(8, round(height * ratio)), height), Image.Resampling.BICUBIC)
        if rng.random() < 0.5:
            figure = figure.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(figure, np.float32)
        dressed = _dressed_anew(pixels[..., :3], pixels[..., 3], rng)
        mask = Image.fromarray(pixels[..., 3].astype(np.uint8))
        wide = max(24, round(max(figure.width * float(rng.uniform(0.75, 1.3)), 0.28 * tall)))
        shown = self._background((wide, tall), rng)
        left = round((wide - figure.width) / 2 + float(rng.normal(0, 0.06)) * wide)
        top = round((tall - height) * float(rng.uniform(0.2, 0.8)))
        if rng.random() < CUT:
            top = round(float(rng.uniform(0, 0.1)) * tall)
            longer = float(rng.uniform(1.05, 1.5))
            grown = (round(figure.width * longer), round(height * longer))
            dressed = np.asarray(Image.fromarray(dressed).resize(grown))
            mask = mask.resize(grown)
            left = round((wide - grown[0]) / 2)
        shown.paste(Image.fromarray(dressed), (left, top), mask)
        if rng.random() < HIDDEN:
            size = (
                max(4, round(wide * float(rng.uniform(0.3, 1)))),
                max(4, round(tall * float(rng.uniform(0.15, 0.45)))),
            )
            place = (int(rng.integers(-size[0] // 2, wide)), int(rng.integers(tall // 2, tall)))
            shown.paste(self._background(size, rng), place)
        return shown

    def _background(self, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
        """A part of a film's background in other light."""
        whole = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        height = float(rng.uniform(0.25, 0.8)) * whole.height
        width = min(height * size[0] / size[1], whole.width - 1)
        left = float(rng.uniform(0, whole.width - width))
        top = float(rng.uniform(0, whole.height - height))
        window = (left, top, left + width, top + height)
        part = np.asarray(whole.resize(size, Image.Resampling.BILINEAR, window), np.float32)
        gains = rng.uniform(0.4, 1.4) * rng.uniform(0.8, 1.2, 3)
        return Image.fromarray((part * gains).clip(0, 255).astype(np.uint8))


def _without_rim(cutout: Image.Image) -> Image.Image:
    """A cut-out without its outermost pixels, in which the film's background shines through."""
    *colours, cover = cutout.split()
    return Image.merge("RGBA", (*colours, cover.filter(ImageFilter.MinFilter(5))))


def _dressed_anew(
    pixels: NDArray[np.float32], cover: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Somebody [H, W, 3] with garments of other colours and patterns; their folds stay."""
    height = len(pixels)
    made = pixels.copy()
    border = WAIST + float(rng.uniform(-0.06, 0.06))
    parts = [(NECK, border), (border, ANKLES)]
    if rng.random() < 0.15:  # a dress, or a coat
        parts = [(NECK, float(rng.uniform(0.6, 0.9))), (0.9, 1.0)]
    for number, (first, end) in enumerate(parts):
        rows = slice(round(first * height), max(round(first * height) + 1, round(end * height)))
        inside = cover[rows] > 127
        if not inside.any() or rng.random() < 0.12:
            continue
        grey = pixels[rows] @ np.array([0.3, 0.59, 0.11], np.float32)
        level = max(float(np.median(grey[inside])), 12.0)
        shade = np.clip(0.35 + 0.65 * grey / level, 0.3, 1.7)
        colour = np.array(cloth(rng, (0.6, 0.35)[number]), np.float32)
        second = np.array(cloth(rng, 0.5), np.float32)
        share = _pattern(grey.shape, rng)
        made[rows] = shade[..., None] * (colour + (second - colour) * share[..., None])
    if rng.random() < 0.3:  # hair or a hat
        rows = slice(0, max(1, round(float(rng.uniform(0.05, 0.12)) * height)))
        made[rows] = made[rows] * 0.3 + 0.7 * np.array(cloth(rng, 0.2), np.float32)
    gains = float(rng.uniform(0.6, 1.35)) * rng.uniform(0.88, 1.12, 3)
    return np.asarray((made * gains).clip(0, 255).astype(np.uint8))


def _pattern(size: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """How much of a second colour [H, W] is where: none, stripes, checks, a print or a strap."""
    height, width = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    kind = rng.random()
    step = float(rng.uniform(0.06, 0.3)) * max(width, 8)
    if kind < 0.5:
        return np.zeros((height, width), np.float32)
    if kind < 0.65:
        share = (rows % step < step * float(rng.uniform(0.2, 0.6))).astype(np.float32)
    elif kind < 0.72:
        share = (columns % step < step * float(rng.uniform(0.2, 0.6))).astype(np.float32)
    elif kind < 0.82:
        share = (((rows // step) + (columns // step)) % 2).astype(np.float32)
    elif kind < 0.92:
        middle = float(rng.uniform(0.3, 0.7)) * width, float(rng.uniform(0.2, 0.6)) * height
        radius = float(rng.uniform(0.1, 0.3)) * width
        near = np.hypot(columns - middle[0], rows - middle[1]) < radius
        share = near.astype(np.float32)
    else:
        slope = float(rng.uniform(-1.5, 1.5))
        across = np.abs(columns - width / 2 - slope * (rows - height / 2))
        share = (across < 0.06 * width).astype(np.float32)
    made: NDArray[np.float32] = share * np.float32(rng.uniform(0.5, 1.0))
    return made


def _read_gif(path: Path) -> list[NDArray[np.uint8]]:
    try:
        with Image.open(path) as film:
            return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(film)]
    except OSError as error:
        raise DatasetError(f"{path}: not readable as a film: {error}") from error


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.film_views",
        description="Write crops of the people in films, in endless clothes.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument(
        "--film", type=Path, action="append", required=True,
        help="a video with a still camera that people enter one by one, or an animated GIF; may be "
        "given several times",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=8000, help="crops to write")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for flag, least in (("count", 1), ("seed", 0)):
        if getattr(given, flag) < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {getattr(given, flag)}")
    films = Films(given.film)
    given.directory.mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(given.count), desc=given.directory.name, disable=None):
        rng = np.random.default_rng((given.seed, 7, number))
        path = given.directory / f"-1_c1s1_{number:06d}_00.jpg"
        films.view(rng).save(path, quality=int(rng.integers(60, 96)))
    print(f"{given.directory}: {given.count} crops of {len(films.people)} people")
    return 0
