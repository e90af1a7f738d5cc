"""Draw people who do not exist:

    python -m models.datasets.people ASSETS OUT --people 1000 --views 10

writes OUT/people-00000.zip, people-00050.zip …, each of 50 people's crops named as Market-1501 does.
"""

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.datasets.people.backgrounds import read_films
from models.datasets.people.camera import Profile
from models.datasets.people.cast import Wardrobe
from models.datasets.people.crops import (
    DRAWN_SIZE,
    HEIGHT,
    WIDTHS,
    Crop,
    cameras_of,
    crops_of,
    write_archive,
)
from models.datasets.people.render import Renderer
from models.errors import PersonSearchError

PEOPLE_A_FILE = 50


class Studio:
    """What a process needs to draw people."""

    def __init__(self, assets: Path, films: Sequence[Path], seed: int) -> None:
        """Read the assets and the films.

        Raises:
            DatasetError: something cannot be read, or there is no OpenGL.
        """
        self.seed = seed
        self.renderer = Renderer(DRAWN_SIZE)
        self.wardrobe = Wardrobe(assets)
        self.films = read_films(list(films))
        self.cameras: list[Profile] = cameras_of(seed)

    def crops(self, person: int, views: int) -> list[Crop]:
        return crops_of(
            person, views, seed=self.seed, wardrobe=self.wardrobe, renderer=self.renderer,
            cameras=self.cameras, films=self.films,
        )  # fmt: skip


@lru_cache(maxsize=1)
def _studio(assets: Path, films: tuple[Path, ...], seed: int) -> Studio:
    return Studio(assets, films, seed)


def write_file(job: tuple[Path, tuple[Path, ...], int, Path, int, int, int]) -> Path:
    """Draw one file's people, in whichever process."""
    assets, films, seed, path, first, count, views = job
    studio = _studio(assets, films, seed)

    def made() -> Iterator[tuple[int, list[Crop]]]:
        for person in range(first, first + count):
            yield person, studio.crops(person, views)

    write_archive(path, made())
    return path


def contact_sheet(studio: Studio, people: Sequence[int], views: int) -> Image.Image:
    """One row of crops for each person."""
    sheet = Image.new("RGB", (views * WIDTHS[1], len(people) * HEIGHT))
    for row, person in enumerate(people):
        for column, crop in enumerate(studio.crops(person, views)):
            sheet.paste(crop.picture, (column * WIDTHS[1], row * HEIGHT))
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 1, with one line on stderr, where something is not usable."""
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.people",
        description="Draw people who do not exist, with MakeHuman's CC0 assets: base mesh, targets, "
        "rig, clothes, hair and skins, as https://github.com/makehumancommunity/makehuman has them "
        "in makehuman/data.",
    )
    parser.add_argument("assets", type=Path, metavar="ASSETS", help="folder of the assets")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of ZIPs of crops")
    parser.add_argument("--people", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--views", type=int, default=10, help="of each (default: %(default)s)")
    parser.add_argument(
        "--background", type=Path, action="append", default=[], metavar="FILE",
        help="a film or picture to show people before; may be given several times",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="only draw a contact sheet, of the first people"
    )
    given = parser.parse_args(arguments)
    for flag in ("people", "views", "processes"):
        if getattr(given, flag) < 1:
            parser.error(f"argument --{flag}: expected 1 or more, got {getattr(given, flag)}")
    if given.seed < 0:
        parser.error(f"argument --seed: expected 0 or more, got {given.seed}")
    # Several processes share the cores; one picture is too small for threads to help.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        films = tuple(given.background)
        if given.sheet is not None:
            studio = Studio(given.assets, films, given.seed)
            contact_sheet(studio, range(min(given.people, 12)), given.views).save(given.sheet)
            return 0
        given.out.mkdir(parents=True, exist_ok=True)
        jobs = [
            (given.assets, films, given.seed, path, first,
             min(PEOPLE_A_FILE, given.people - first), given.views)
            for first in range(0, given.people, PEOPLE_A_FILE)
            if not (path := given.out / f"people-{first:05d}.zip").exists()
        ]  # fmt: skip
        progress = tqdm(total=len(jobs), desc="files of people", disable=None)
        if given.processes == 1:
            for job in jobs:
                write_file(job)
                progress.update()
        else:
            with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
                for _ in pool.imap_unordered(write_file, jobs):
                    progress.update()
        progress.close()
    except (PersonSearchError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
