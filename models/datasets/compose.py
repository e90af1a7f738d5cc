"""Training scenes composed of what is at hand: people cut out of crops and films.

    python -m models.datasets.compose DIR --crops crops.zip --scenes pennfudan --video film.mp4

DIR/train and DIR/val are annotated scenes (models.datasets.scenes_json). Nobody of one is in the
other: every person with an identity, every pedestrian scene and every background belongs to one of
the two.
"""

if __name__ == "__main__":
    from models.command import run

    run("models.datasets.compose")

import argparse
import io
import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from models.command import command, without_ctrl_c
from models.datasets.backgrounds import empty_picture, furnish, random_stage
from models.datasets.cutouts import CroppedPerson
from models.datasets.lenses import QUALITIES, random_lens, through
from models.datasets.material import Material, gather
from models.datasets.scene import UNLABELED
from models.datasets.scenes_json import image_record, refuse_another, write_scenes_json
from models.datasets.stage import Seen
from models.datasets.synthetic import make_camera

# Columns × rows of the views that make one scene, and how often.
LAYOUTS = (((1, 1), 0.45), ((2, 1), 0.15), ((2, 2), 0.28), ((3, 2), 0.12))
# People who are put into a scene; the more and smaller the views, the more of them.
CROWD = {1: (4, 16), 2: (8, 20), 4: (12, 28), 6: (16, 32)}
# In a view whose nearest people are taller than this share of it, so many at most.
CLOSE, FEW = 0.6, 4
# Share of scenes without anybody.
EMPTY_SHARE = 0.08
# Things that are drawn after people, so that they may hide some.
THINGS_IN_FRONT = (0, 3)
# Of somebody less visible than this neither presence nor identity is learned.
LEAST_VISIBLE = 0.35
CROP_SIZE = (64, 128)
DRAWN_CAMERAS, LENSES = 60, 120
LEAST_SIDE = 64


@dataclass(frozen=True)
class _Scene:
    """What a scene is made of, before it is.

    Attributes:
        number: its place.
        layout: columns and rows of views.
        cast: person and view of each who is put into it.
    """

    number: int
    layout: tuple[int, int]
    cast: list[tuple[int, int]]


class _Writer:
    """What a process needs to write scenes."""

    def __init__(
        self, directory: Path, material: Material, size: tuple[int, int], seed: int
    ) -> None:
        self._directory, self._material, self._size, self._seed = directory, material, size, seed

    def write(self, scene: _Scene) -> list[Seen]:
        """Write its picture; says who is in it."""
        rng = np.random.default_rng((self._seed, 4, scene.number))
        picture, people = compose(self._material, scene.cast, scene.layout, self._size, rng)
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=int(rng.integers(*QUALITIES)))
        (self._directory / "images" / _file(scene.number)).write_bytes(stream.getvalue())
        return people


_writers: list[_Writer] = []
"""Of a process that only writes scenes, its writer."""


def _prepare(*given: Any) -> None:
    _writers[:] = [_Writer(*given)]


def _write(scene: _Scene) -> list[Seen]:
    return _writers[0].write(scene)


def _file(number: int) -> str:
    return f"{number:06d}.jpg"


def write_composed(
    directory: Path,
    material: Material,
    *,
    scenes: int,
    size: tuple[int, int],
    name: str,
    licence: str,
    seed: int,
    processes: int = 1,
    progress: bool = False,
) -> None:
    """Write images/*.jpg and annotations.json; the same arguments write the same files, however
    many processes there are.

    People are cast in rounds: each of their appearances has its turn before the next round begins,
    and is passed over where the same person is in the scene already. Whoever is visible in two
    scenes or more has up to two queries, whose gallery is all other scenes.

    Args:
        material: its cameras and lenses are replaced by random ones.
        scenes: how many, 1 or more.
        size: width and height in pixels, 64 or more.
        name, licence: of the dataset, as its reader tells them.
        seed: 0 or more.
        processes: that compose scenes, 1 or more.

    Raises:
        DatasetError: a crop, a photograph or a pedestrian scene cannot be read.
        ValueError: the number of scenes or the size is too small.
    """
    if scenes < 1 or min(size) < LEAST_SIDE:
        raise ValueError(
            f"expected at least one scene and {LEAST_SIDE} × {LEAST_SIDE} pixels, "
            f"got {scenes} and {size[0]} × {size[1]}"
        )
    (directory / "images").mkdir(parents=True, exist_ok=True)
    material.cameras = [
        make_camera(np.random.default_rng((seed, 2, number)), size)
        for number in range(min(DRAWN_CAMERAS, scenes))
    ]
    material.lenses = [
        random_lens(np.random.default_rng((seed, 7, number))) for number in range(LENSES)
    ]
    plans = _cast(material, scenes, seed)
    given = directory, material, size, seed
    bar = tqdm(total=scenes, desc=directory.name, disable=None if progress else True)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    shown: dict[int, list[tuple[float, int]]] = {}
    with bar:
        for number, people in enumerate(_written(plans, given, processes)):
            bar.update()
            for seen in people:
                x1, y1, x2, y2 = (round(float(value), 1) for value in seen.box)
                box: dict[str, Any] = {
                    "image": number,
                    "x": x1,
                    "y": y1,
                    "w": x2 - x1,
                    "h": y2 - y1,
                }
                hidden = seen.visible < LEAST_VISIBLE
                box |= {"person_id": UNLABELED if hidden else seen.person, "id_source": "composed"}
                if seen.person != UNLABELED and seen.visible > 0.7:
                    shown.setdefault(seen.person, []).append((seen.visible, len(boxes)))
                boxes.append(box | ({"ignore": True} if hidden else {}))
            sequence = f"s{number}"
            images.append(image_record(_file(number), size, camera="composed", sequence=sequence))
    queries = [
        {"image": boxes[b]["image"], "box": b, "person_id": person, "kind": "other-scene"}
        | {"exclude": [boxes[b]["image"]]}
        for person, found in sorted(shown.items())
        if len(found) >= 2
        for _, b in sorted(found, reverse=True)[:2]
    ]
    about = {"name": name, "licence": licence}
    write_scenes_json(directory, about | {"images": images, "boxes": boxes, "queries": queries})


def _written(
    plans: Iterator[_Scene], given: tuple[Any, ...], processes: int
) -> Iterator[list[Seen]]:
    """Who is in each scene, in order, once it is written."""
    if processes == 1:
        writer = _Writer(*given)
        yield from (writer.write(plan) for plan in plans)
        return
    with without_ctrl_c():
        pool = multiprocessing.get_context("spawn").Pool(processes, _prepare, given)
    with pool:
        yield from pool.imap(_write, plans, chunksize=4)


def _cast(material: Material, scenes: int, seed: int) -> Iterator[_Scene]:
    """What each scene is made of."""
    casting = np.random.default_rng((seed, 3))
    views = [(p, v) for p, person in enumerate(material.people) for v in range(person.views)]
    waiting: deque[tuple[int, int]] = deque()
    for number in range(scenes):
        rng = np.random.default_rng((seed, 8, number))
        shares = [share for _, share in LAYOUTS]
        columns, rows = LAYOUTS[int(rng.choice(len(LAYOUTS), p=shares))][0]
        count = int(rng.integers(*CROWD[columns * rows]))
        if rng.random() < EMPTY_SHARE:
            count = 0
        cast: dict[int, int] = {}
        while len(cast) < min(count, len(material.people)):
            if not waiting:
                waiting.extend(views[i] for i in casting.permutation(len(views)))
            person, view = waiting.popleft()
            cast.setdefault(person, view)
        yield _Scene(number, (columns, rows), list(cast.items()))


def write_crops(directory: Path, material: Material, *, name: str, licence: str, seed: int) -> None:
    """Write every appearance of all people alone, as a scene of 64 × 128 that one person fills.

    From these a network learns to tell people apart in a tenth of the time that scenes take. The
    same arguments write the same files.

    Args:
        material: as `write_composed` leaves it, with cameras.
        name: of the dataset; that of the scenes, so that it is known to be of the same people.
        licence: as its reader tells it.
        seed: 0 or more.

    Raises:
        DatasetError: a crop cannot be read.
    """
    (directory / "images").mkdir(parents=True, exist_ok=True)
    width, height = CROP_SIZE
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number, person in enumerate(material.people):
        for view in range(person.views):
            file = f"{number:04d}_{view:03d}.jpg"
            path = directory / "images" / file
            if isinstance(person, CroppedPerson):
                person.picture(view).resize(CROP_SIZE).save(path, quality=95)
            else:
                rng = np.random.default_rng((seed, 6, number, view))
                stage = random_stage(material, (2 * width, 2 * height), rng, populated=False)
                stage.put_alone(person, view, rng).resize(CROP_SIZE).save(path, quality=90)
            boxes.append(
                {"image": len(images), "x": 0, "y": 0, "w": width, "h": height}
                | {"person_id": number, "id_source": "composed"}
            )
            sequence = f"s{len(images)}"
            images.append(image_record(file, CROP_SIZE, camera="composed", sequence=sequence))
    about = {"name": name, "licence": licence}
    write_scenes_json(directory, about | {"images": images, "boxes": boxes, "queries": []})


def compose(
    material: Material,
    cast: Sequence[tuple[int, int]],
    layout: tuple[int, int],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[Image.Image, list[Seen]]:
    """One scene of several views side by side.

    Args:
        material: with cameras.
        cast: person (place in `Material.people`) and view of each who is put into it, as far as
            there is room; without any, nobody is shown at all.
        layout: columns and rows of views.
        size: width and height in pixels.

    Returns:
        The picture, and everybody in it who is 4 pixels or more in width and height, also people
        of pedestrian scenes.

    Raises:
        DatasetError: a crop, a photograph or a pedestrian scene cannot be read.
    """
    width, height = size
    columns, rows = layout
    picture = Image.new("RGB", size)
    people: list[Seen] = []
    places = [(column, row) for column in range(columns) for row in range(rows)]
    for number, (column, row) in enumerate(places):
        left, top = column * width // columns, row * height // rows
        view = ((column + 1) * width // columns - left, (row + 1) * height // rows - top)
        shown, there = _view(material, cast[number :: len(places)], view, rng, alone=not cast)
        picture.paste(shown, (left, top))
        for seen in there:
            x1, y1, x2, y2 = seen.box
            shifted = (x1 + left, y1 + top, x2 + left, y2 + top)
            people.append(Seen(seen.person, shifted, seen.visible))
    return picture, people


def _view(
    material: Material,
    cast: Sequence[tuple[int, int]],
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    alone: bool,
) -> tuple[Image.Image, list[Seen]]:
    """One view as its camera renders it, and who is in it; alone: of a scene without anybody."""
    shown = empty_picture(material, size, rng) if alone else None
    there: list[Seen] = []
    coarse = 1.0
    if shown is None:
        stage = random_stage(material, size, rng, populated=not alone)
        furnish(stage, material, rng)
        if stage.tallest > CLOSE * size[1]:
            cast = cast[:FEW]
        stage.put_people([(p, material.people[p], v) for p, v in cast], rng)
        for _ in range(int(rng.integers(*THINGS_IN_FRONT))):
            stage.put_thing(rng)
        shown, there, coarse = stage.picture, stage.people(), stage.coarse
    if material.lenses:
        lens = material.lenses[int(rng.integers(len(material.lenses)))]
        shown = through(lens, shown, rng, coarse=coarse)
    return shown, there


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.compose",
        description="Compose annotated scenes for training and validation.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    for flag, what in (
        ("--crops", "crops of people, named as Market-1501 does: a ZIP or a directory"),
        ("--people", "rendered people, as models.datasets.people --sprites writes them"),
        ("--scenes", "labelled scenes, in any layout that is read"),
        ("--photos", "directory of photographs that show nobody"),
        ("--video", "film with a still camera that people enter one by one, empty at first"),
    ):
        parser.add_argument(
            flag, type=Path, action="append", default=[], help=f"{what}; may be given several times"
        )
    parser.add_argument("--drawn", type=int, default=60, help="people to draw")
    parser.add_argument("--count", type=int, default=1500, help="scenes for training")
    parser.add_argument("--val-count", type=int, default=150, help="scenes for validation")
    parser.add_argument("--width", type=int, default=720, help="of scenes, in pixels")
    parser.add_argument("--height", type=int, default=576, help="likewise")
    parser.add_argument("--name", default="composed")
    parser.add_argument("--licence", default="not stated", help="of the material, for model cards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that compose (%(default)s)")
    parser.add_argument(
        "--no-crops", action="store_true", help="write no crops of training's people"
    )
    given = parser.parse_args(arguments)
    for flag, least in (
        ("drawn", 0), ("count", 1), ("val-count", 1), ("width", LEAST_SIDE),
        ("height", LEAST_SIDE), ("seed", 0), ("processes", 1),
    ):  # fmt: skip
        value = getattr(given, flag.replace("-", "_"))
        if value < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {value}")
    for part in ("train", "val", "crops"):
        refuse_another(given.directory / part)
    parts = gather(
        given.crops, given.scenes, given.video, given.drawn, people=given.people,
        photos=given.photos, seed=given.seed,
    )  # fmt: skip
    for part, material, count in zip(
        ("train", "val"), parts, (given.count, given.val_count), strict=True
    ):
        write_composed(
            given.directory / part,
            material,
            scenes=count,
            size=(given.width, given.height),
            name=f"{given.name}-{part}",
            licence=given.licence,
            seed=2 * given.seed + (part == "val"),
            processes=given.processes,
            progress=True,
        )
    if given.no_crops:
        return 0
    write_crops(
        given.directory / "crops",
        parts[0],
        name=f"{given.name}-train",
        licence=given.licence,
        seed=2 * given.seed,
    )
    return 0
