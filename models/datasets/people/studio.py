"""Draws files of people: what a process reads once, and the files that it writes."""

import io
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image

from models.datasets.people.backgrounds import read_films
from models.datasets.people.cast import Wardrobe
from models.datasets.people.crops import DRAWN_SIZE, HEIGHT, WIDTHS, cameras_of, crops_of
from models.datasets.people.render import Renderer
from models.datasets.people.sprites import SPRITE_SIZE, sprites_of

KINDS = ("crops", "sprites")


@dataclass(frozen=True)
class Job:
    """One file of people to draw.

    Attributes:
        kind: one of `KINDS`.
        assets: folder of the assets.
        films: for the backgrounds.
        seed: 0 or more.
        path: the ZIP to write.
        people: numbers of the people in it.
        views: how many pictures of each.
    """

    kind: str
    assets: Path
    films: tuple[Path, ...]
    seed: int
    path: Path
    people: range
    views: int


class Studio:
    """Everything a process needs to draw people."""

    def __init__(self, kind: str, assets: Path, films: Sequence[Path], seed: int) -> None:
        """Read the assets and the films.

        Args:
            kind: one of `KINDS`.

        Raises:
            DatasetError: something cannot be read, or there is no OpenGL.
        """
        self.kind = kind
        self._seed = seed
        self._renderer = Renderer(DRAWN_SIZE if kind == "crops" else SPRITE_SIZE)
        self._wardrobe = Wardrobe(assets)
        self._films = read_films(list(films))
        self._cameras = cameras_of(seed)

    def pictures(self, person: int, views: int) -> list[tuple[str, Image.Image]]:
        """Each picture of one person, with its name without a suffix."""
        if self.kind == "crops":
            return [
                (crop.name, crop.picture)
                for crop in crops_of(
                    person, views, seed=self._seed, wardrobe=self._wardrobe,
                    renderer=self._renderer, cameras=self._cameras, films=self._films,
                )
            ]  # fmt: skip
        return [
            (sprite.name, sprite.picture)
            for sprite in sprites_of(
                person, views, seed=self._seed, wardrobe=self._wardrobe, renderer=self._renderer
            )
        ]


@lru_cache(maxsize=1)
def _studio(kind: str, assets: Path, films: tuple[Path, ...], seed: int) -> Studio:
    return Studio(kind, assets, films, seed)


def do(job: Job) -> Path:
    """Draw one file of people, in any process; it appears only when complete.

    Raises:
        DatasetError: something cannot be read, or there is no OpenGL.
        OSError: the file cannot be written.
    """
    studio = _studio(job.kind, job.assets, job.films, job.seed)
    unfinished = job.path.with_suffix(f".{os.getpid()}.part")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for person in job.people:
                _add(archive, job.kind, studio.pictures(person, job.views))
        unfinished.replace(job.path)
    finally:
        unfinished.unlink(missing_ok=True)
    return job.path


def _add(archive: zipfile.ZipFile, kind: str, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    for name, picture in pictures:
        stream = io.BytesIO()
        if kind == "crops":
            picture.save(stream, "JPEG", quality=90)
        else:
            picture.save(stream, "WEBP", quality=90, alpha_quality=90)
        ending = "jpg" if kind == "crops" else "webp"
        # A ZipInfo of its own has no time of writing, so that the same people make the same file.
        archive.writestr(zipfile.ZipInfo(f"{kind}/{name}.{ending}"), stream.getvalue())


def contact_sheet(studio: Studio, people: Sequence[int], views: int) -> Image.Image:
    """A sheet with one row of pictures for each person."""
    sheet = Image.new("RGB", (views * WIDTHS[1], len(people) * HEIGHT), (128, 128, 132))
    for row, person in enumerate(people):
        for column, (_, picture) in enumerate(studio.pictures(person, views)):
            picture.thumbnail((WIDTHS[1], HEIGHT))
            mask = picture.getchannel("A") if picture.mode == "RGBA" else None
            sheet.paste(picture.convert("RGB"), (column * WIDTHS[1], row * HEIGHT), mask)
    return sheet
