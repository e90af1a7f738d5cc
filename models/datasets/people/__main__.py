"""Render made-up people:

    python -m models.datasets.people ASSETS OUT --people 1000 --views 10

writes OUT/people-00000.zip, people-00050.zip …, each of 50 people's crops, named as Market-1501
does. With --sprites they are people without a background, for models.datasets.compose --people;
with --scenes they are whole scenes, as models.datasets.scenes_json reads them.
"""

if __name__ == "__main__":
    from models.command import run

    run("models.datasets.people.__main__")

import argparse
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from models.command import command, goes_on, without_ctrl_c
from models.datasets.people.cast import Wardrobe
from models.datasets.people.render import Renderer
from models.datasets.people.scenes import write_scenes
from models.datasets.people.sprites import SPRITE_SIZE
from models.datasets.people.studio import Job, Studio, contact_sheet, do
from models.datasets.scenes_json import refuse_another

ON_A_SHEET = 12


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.people",
        description="Draw people who do not exist, with MakeHuman's CC0 assets: base mesh, "
        "targets, rig, clothes, hair and skins, as the folder makehuman/data of "
        "https://github.com/makehumancommunity/makehuman has them.",
    )
    parser.add_argument("assets", type=Path, metavar="ASSETS", help="folder of the assets")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of ZIPs")
    parser.add_argument("--people", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--views", type=int, default=10, help="of each (default: %(default)s)")
    parser.add_argument(
        "--background", type=Path, action="append", default=[], metavar="FILE",
        help="a film or picture to show people before; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--sprites", action="store_true", help="people without a background instead of crops"
    )
    parser.add_argument(
        "--scenes", type=int, metavar="COUNT", help="annotated scenes of these people instead"
    )
    parser.add_argument(
        "--cameras", type=int, default=3, help="of the scenes (default: %(default)s)"
    )
    parser.add_argument("--per-file", type=int, default=50, help="people (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first person")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="only draw a contact sheet, of the first people"
    )
    given = parser.parse_args(arguments)
    for flag, least in (
        ("people", 1), ("views", 1), ("per-file", 1), ("processes", 1), ("seed", 0), ("first", 0),
        ("scenes", 1), ("cameras", 1),
    ):  # fmt: skip
        value = getattr(given, flag.replace("-", "_"))
        if value is not None and value < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {value}")
    # Several processes share the cores; one picture is too small for threads to help.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    films = tuple(given.background)
    kind = "sprites" if given.sprites else "crops"
    if given.sheet is not None:
        studio = Studio(kind, given.assets, films, given.seed)
        shown = range(given.first, given.first + min(given.people, ON_A_SHEET))
        contact_sheet(studio, shown, given.views).save(given.sheet)
        return 0
    end = given.first + given.people
    if given.scenes is not None:
        refuse_another(given.out)
        drawn = write_scenes(
            given.out,
            count=given.scenes,
            people=range(given.first, end),
            cameras=given.cameras,
            seed=given.seed,
            wardrobe=Wardrobe(given.assets),
            renderer=Renderer(SPRITE_SIZE),
        )
        for _ in tqdm(drawn, total=given.scenes, desc="scenes", disable=None):
            pass
        return 0
    given.out.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(kind, given.assets, films, given.seed, path, people, given.views)
        for first in range(given.first, end, given.per_file)
        if not (path := given.out / f"people-{first:05d}.zip").exists()
        and (people := range(first, min(first + given.per_file, end)))
    ]
    with goes_on(), tqdm(total=len(jobs), desc="files of people", disable=None) as progress:
        if given.processes == 1:
            for job in jobs:
                do(job)
                progress.update()
        else:
            with without_ctrl_c():
                pool = multiprocessing.get_context("spawn").Pool(given.processes)
            with pool:
                for _ in pool.imap_unordered(do, jobs):
                    progress.update()
    return 0
