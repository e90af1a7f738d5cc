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
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from models.boxes import box_area
from models.command import command
from models.datasets.cutouts import (
    CroppedPerson,
    DrawnPerson,
    Person,
    as_sprite,
    film_people,
    read_crops,
    read_film,
    soft_outline,
)
from models.datasets.drawing import (
    PROPS,
    Sprite,
    draw_prop,
    draw_thing,
    extent,
    paste,
    random_look,
)
from models.datasets.read import read_dataset
from models.datasets.scene import UNLABELED, Scene
from models.datasets.scenes_json import image_record, refuse_another, write_scenes_json
from models.datasets.sprites import read_sprites
from models.datasets.synthetic import Camera, cast_shadows, develop, make_camera
from models.errors import DatasetError

T = TypeVar("T")

# Columns × rows of the views that make one scene, and how often.
LAYOUTS = (((1, 1), 0.35), ((2, 1), 0.2), ((2, 2), 0.3), ((3, 2), 0.15))
# People who are put into a scene; the more and smaller the views, the more of them.
CROWD = {1: (8, 16), 2: (10, 20), 4: (14, 28), 6: (18, 32)}
# Shares of scenes without anybody, of views of pedestrian scenes where there are some, and of views
# of backgrounds taken from films: beside pedestrian scenes, and alone.
EMPTY_SHARE, REAL_SHARE, STILL_SHARES = 0.03, 0.6, (0.1, 0.25)
# Patches of scenery pasted as people are, so that an edge is no sign of a person.
DISTRACTORS = (0, 4)
# Things that are drawn, half of them of a known kind; and their heights beside a person's.
THINGS, KNOWN_SHARE, THING_HEIGHTS = (0, 5), 0.5, (0.2, 1.4)
# Of somebody less visible than this neither presence nor identity is learned.
LEAST_VISIBLE = 0.35
# Of somebody already there, a newcomer hides at most so much.
MOST_HIDDEN = 0.45
SHADOWED = 0.7
FILM_DRESSES = 24
CROP_SIZE = (64, 128)
DRAWN_CAMERAS = 60
VALIDATION_PART = 10
"""Every so manieth person and pedestrian scene is for validation."""
LEAST_PEOPLE = VALIDATION_PART + 1
LEAST_SIDE = 64


@dataclass
class Material:
    """The material for one part, training or validation.

    Attributes:
        people: who has an identity; their place is their person id.
        scenes: exhaustively labelled pedestrian scenes.
        stills: backgrounds that show nobody, [H, W, 3].
        cameras: with drawn backgrounds; `write_composed` makes them.
    """

    people: list[Person] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    stills: list[NDArray[np.uint8]] = field(default_factory=list)
    cameras: list[Camera] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """Somebody in a composed scene.

    Attributes:
        person: place in `Material.people`; UNLABELED for somebody of a pedestrian scene.
        box: x1 y1 x2 y2 in pixels, within the scene.
        visible: share of them, in [0, 1]; of somebody labelled as ignored about 0.
    """

    person: int
    box: tuple[float, float, float, float]
    visible: float


def gather(
    crops: Sequence[Path],
    scenes: Sequence[Path],
    videos: Sequence[Path],
    drawn: int,
    *,
    people: Sequence[Path] = (),
    seed: int,
) -> tuple[Material, Material]:
    """Read all material and split it into training and validation.

    Args:
        crops: directories or ZIPs of crops named as Market-1501 does.
        scenes: datasets of scenes, of which those are used in which every person is labelled.
        videos: films as `film_people` takes them.
        drawn: people to draw, 0 or more.
        people: ZIPs of rendered people, or directories of such.
        seed: 0 or more; of the drawn people and of the clothes of filmed ones.

    Returns:
        Training's and validation's; of each source the first and then every tenth person and scene
        are validation's, still backgrounds of films are training's.

    Raises:
        DatasetError: something cannot be read, no scene of a dataset has everybody labelled, or
            there are too few people.
    """
    parts = Material(), Material()
    for source in crops:
        _part(read_crops(source), [part.people for part in parts])
    for source in people:
        _part(read_sprites(source), [part.people for part in parts])
    for film in videos:
        filmed, still = film_people(read_film(film))
        if not filmed:
            raise DatasetError(f"{film}: nobody found who walks in after an empty beginning")
        rng = np.random.default_rng((seed, 5))
        for number, person in enumerate(filmed):
            dressed = [person, *(person.redressed(rng) for _ in range(FILM_DRESSES))]
            parts[number % VALIDATION_PART == 0].people.extend(dressed)
        parts[0].stills.append(still)
    looks = [random_look(np.random.default_rng((seed, 1, number))) for number in range(drawn)]
    _part([DrawnPerson(look) for look in looks], [part.people for part in parts])
    for path in scenes:
        dataset = read_dataset(path, split="train")
        every = [scene for scene in dataset.scenes if scene.exhaustive]
        if not every:
            raise DatasetError(
                f"{path}: expected scenes in which every person is labelled, got none among "
                f"{len(dataset.scenes)}"
            )
        _part(every, [part.scenes for part in parts])
    training, validation = (len(part.people) for part in parts)
    if training + validation < LEAST_PEOPLE or not (training and validation):
        raise DatasetError(
            f"expected {LEAST_PEOPLE} people or more, some for training and some for validation, "
            f"got {training} and {validation}: pass --crops, --people, --video or --drawn"
        )
    return parts


def _part(things: Sequence[Any], parts: Sequence[list[Any]]) -> None:
    for number, thing in enumerate(things):
        parts[number % VALIDATION_PART == 0].append(thing)


def write_composed(
    directory: Path,
    material: Material,
    *,
    scenes: int,
    size: tuple[int, int],
    name: str,
    licence: str,
    seed: int,
    progress: bool = False,
) -> None:
    """Write images/*.jpg and annotations.json; the same arguments write the same files.

    People are cast in rounds: each of their appearances has its turn before the next round begins,
    and is passed over where the same person is in the scene already. Whoever is visible in two
    scenes or more has up to two queries, whose gallery is all other scenes.

    Args:
        material: its cameras are replaced by drawn ones.
        scenes: how many, 1 or more.
        size: width and height in pixels, 64 or more.
        name, licence: of the dataset, as its reader tells them.
        seed: 0 or more.

    Raises:
        DatasetError: a crop or a pedestrian scene cannot be read.
        ValueError: the number of scenes or the size is too small.
    """
    if scenes < 1 or min(size) < LEAST_SIDE:
        raise ValueError(
            f"expected at least one scene and {LEAST_SIDE} × {LEAST_SIDE} pixels, "
            f"got {scenes} and {size[0]} × {size[1]}"
        )
    (directory / "images").mkdir(parents=True, exist_ok=True)
    cameras = [
        make_camera(np.random.default_rng((seed, 2, number)), size)
        for number in range(min(DRAWN_CAMERAS, scenes))
    ]
    material.cameras = cameras
    casting = np.random.default_rng((seed, 3))
    views = [(p, v) for p, person in enumerate(material.people) for v in range(person.views)]
    waiting: deque[tuple[int, int]] = deque()
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    shown: dict[int, list[tuple[float, int]]] = {}
    for number in tqdm(range(scenes), desc=directory.name, disable=None if progress else True):
        rng = np.random.default_rng((seed, 4, number))
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
        camera = cameras[int(rng.integers(len(cameras)))]
        picture, people = compose(material, list(cast.items()), (columns, rows), size, rng)
        file = f"{number:06d}.jpg"
        (directory / "images" / file).write_bytes(develop(camera, picture, rng))
        for seen in people:
            x1, y1, x2, y2 = (round(float(value), 1) for value in seen.box)
            box = {"image": number, "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
            hidden = seen.visible < LEAST_VISIBLE
            box |= {"person_id": UNLABELED if hidden else seen.person, "id_source": "composed"}
            if seen.person != UNLABELED and seen.visible > 0.7:
                shown.setdefault(seen.person, []).append((seen.visible, len(boxes)))
            boxes.append(box | ({"ignore": True} if hidden else {}))
        images.append(image_record(file, size, camera="composed", sequence=f"s{number}"))
    queries = [
        {"image": boxes[b]["image"], "box": b, "person_id": person, "kind": "other-scene"}
        | {"exclude": [boxes[b]["image"]]}
        for person, found in sorted(shown.items())
        if len(found) >= 2
        for _, b in sorted(found, reverse=True)[:2]
    ]
    about = {"name": name, "licence": licence}
    write_scenes_json(directory, about | {"images": images, "boxes": boxes, "queries": queries})


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
                stage = _stage(material, (2 * width, 2 * height), rng, populated=False)
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
        DatasetError: a crop or a pedestrian scene cannot be read.
    """
    width, height = size
    columns, rows = layout
    picture = Image.new("RGB", size)
    people: list[Seen] = []
    places = [(column, row) for column in range(columns) for row in range(rows)]
    for number, (column, row) in enumerate(places):
        left, top = column * width // columns, row * height // rows
        view = ((column + 1) * width // columns - left, (row + 1) * height // rows - top)
        stage = _stage(material, view, rng, populated=bool(cast))
        for _ in range(int(rng.integers(*DISTRACTORS))):
            stage.put_distractor(material, rng)
        for _ in range(int(rng.integers(*THINGS))):
            stage.put_thing(rng)
        own = cast[number :: len(places)]
        stage.put_people([(p, material.people[p], v) for p, v in own], rng)
        picture.paste(stage.picture, (left, top))
        for seen in stage.people():
            x1, y1, x2, y2 = seen.box
            shifted = (x1 + left, y1 + top, x2 + left, y2 + top)
            people.append(Seen(seen.person, shifted, seen.visible))
    return picture, people


class Stage:
    """One view while it is filled: a background with a ground that people stand on."""

    def __init__(
        self,
        picture: Image.Image,
        *,
        horizon: float,
        slope: float,
        far: float,
        near: float,
        tilt: float,
        there: Sequence[tuple[NDArray[np.float64], float]] = (),
    ) -> None:
        """Set it up.

        Args:
            picture: the background; it is drawn on.
            horizon, slope, far, near, tilt: as of `Camera`: rows of the picture, heights of a
                person per row below the horizon, radians.
            there: people of the background: x1 y1 x2 y2 in pixels of the picture, and the share
                that is visible, in [0, 1].
        """
        self.picture = picture
        self._horizon, self._slope, self._far, self._near = horizon, slope, far, near
        self._tilt = tilt
        self._owner = np.full((picture.height, picture.width), -1, np.int16)
        self._ids: list[int] = []
        self._boxes: list[NDArray[np.float64]] = []
        self._areas: list[float] = []
        for box, visible in there:
            x1, y1, x2, y2 = np.round(box).astype(int)
            self._owner[max(0, y1) : y2, max(0, x1) : x2] = len(self._ids)
            self._ids.append(UNLABELED)
            self._boxes.append(box)
            self._areas.append(float(box_area(box[None])[0]) / max(visible, 0.01))

    def put_people(
        self, people: Sequence[tuple[int, Person, int]], rng: np.random.Generator
    ) -> None:
        """Let people stand on the ground, the farthest first; whoever finds no room is left out.

        Args:
            people: of each the number that `people` tells, who it is, and which view of them.

        Raises:
            DatasetError: a crop cannot be read.
        """
        rows = np.sort(self._far + (self._near - self._far) * rng.random(len(people)) ** 1.2)
        for (person, who, view), row in zip(people, rows.tolist(), strict=True):
            height = self._slope * (row - self._horizon) * float(rng.uniform(0.9, 1.08))
            sprite = who.seen(view, height, self._tilt, rng)
            column = self._free_column(sprite, row, rng)
            if column is not None:
                if rng.random() < SHADOWED:
                    cast_shadows(self.picture, [(row, column, height, sprite.foot)])
                self._put(person, sprite, column, row)

    def put_alone(self, person: Person, view: int, rng: np.random.Generator) -> Image.Image:
        """Let somebody fill the view for the most part.

        Returns:
            A part of the picture: them, and up to a tenth of their height around.

        Raises:
            DatasetError: a crop cannot be read.
        """
        width, height = self.picture.size
        sprite = person.seen(view, 0.8 * height, self._tilt, rng)
        row, column = 0.95 * height, width / 2
        covered = paste(self.picture, sprite, round(column), round(row))
        sides = np.array(extent(covered))
        apart = rng.uniform(-0.02, 0.1, 4) * (sides[3] - sides[1]) * [0.6, 1, 0.6, 1]
        box = np.clip(sides + apart * [-1, -1, 1, 1], 0, [width, height, width, height])
        return self.picture.crop(tuple(box.round().astype(int).tolist()))

    def put_distractor(self, material: Material, rng: np.random.Generator) -> None:
        """Paste a patch without people, shaped and sized as people are, if one is found.

        Raises:
            DatasetError: a pedestrian scene cannot be read.
        """
        row = float(rng.uniform(self._far, self._near))
        height = max(8, round(self._slope * (row - self._horizon)))
        width = max(4, round(height * float(rng.uniform(0.35, 0.6))))
        patch = _empty_patch(material, (width, height), rng)
        if patch is None:
            return
        sprite = as_sprite(patch, soft_outline(width, height, rng))
        column = self._free_column(sprite, row, rng)
        if column is not None:
            self._owner[paste(self.picture, sprite, round(column), round(row))] = -1

    def put_thing(self, rng: np.random.Generator) -> None:
        """Draw an object that stands on the ground, if there is room for it."""
        row = float(rng.uniform(self._far, self._near))
        unit = max(8.0, self._slope * (row - self._horizon))
        if rng.random() < KNOWN_SHARE:
            sprite = draw_prop(_one_of(PROPS, rng), unit, rng)
        else:
            sprite = draw_thing(unit * float(rng.uniform(*THING_HEIGHTS)), rng)
        column = self._free_column(sprite, row, rng)
        if column is not None:
            cast_shadows(self.picture, [(row, column, unit, sprite.foot)])
            self._owner[paste(self.picture, sprite, round(column), round(row))] = -1

    def people(self) -> list[Seen]:
        """Who is in it and 4 pixels or more in width and height, as far as within the view."""
        found = []
        for index, (person, box, area) in enumerate(
            zip(self._ids, self._boxes, self._areas, strict=True)
        ):
            inside = np.clip(box, 0, [*self.picture.size, *self.picture.size])
            if (inside[2:] - inside[:2]).min() < 4:
                continue
            visible = min(1.0, float(np.count_nonzero(self._owner == index)) / area)
            x1, y1, x2, y2 = inside.tolist()
            found.append(Seen(person, (x1, y1, x2, y2), visible))
        return found

    def _put(self, person: int, sprite: Sprite, column: float, row: float) -> None:
        covered = paste(self.picture, sprite, round(column), round(row))
        if not covered.any():
            return
        self._owner[covered] = len(self._ids)
        box = _box(sprite, column, row)
        if not sprite.whole:
            box = np.array(extent(covered), np.float64)
        self._ids.append(person)
        self._boxes.append(box)
        self._areas.append(float(np.count_nonzero(np.asarray(sprite.mask) > 127)))

    def _free_column(self, sprite: Sprite, row: float, rng: np.random.Generator) -> float | None:
        """Where somebody can stand without hiding anybody for the most part; None if nowhere."""
        for _ in range(12):
            column = float(rng.uniform(0.0, 1.0)) * self.picture.width
            box = _box(sprite, column, row)
            if _most_hidden(np.array(self._boxes).reshape(-1, 4), box) < MOST_HIDDEN:
                return column
        return None


def _box(sprite: Sprite, column: float, row: float) -> NDArray[np.float64]:
    left, top = round(column) - sprite.x, round(row) - sprite.y
    return np.array([left, top, left + sprite.mask.width, top + sprite.mask.height], np.float64)


def _one_of(things: Sequence[T], rng: np.random.Generator) -> T:
    return things[int(rng.integers(len(things)))]


def _most_hidden(boxes: NDArray[np.float64], by: NDArray[np.float64]) -> float:
    """The largest share of any of boxes [N, 4] that lies under another [4]; 0 without any."""
    sides = np.minimum(boxes[:, 2:], by[2:]) - np.maximum(boxes[:, :2], by[:2])
    shares = np.clip(sides, 0, None).prod(axis=1) / box_area(boxes)
    return float(shares.max(initial=0.0))


def _stage(
    material: Material, size: tuple[int, int], rng: np.random.Generator, *, populated: bool
) -> Stage:
    """A view of a pedestrian scene, of a still background or of a drawn one."""
    draw = rng.random()
    if populated and material.scenes and draw < REAL_SHARE:
        return _pedestrian_stage(_one_of(material.scenes, rng), size, rng)
    stills = REAL_SHARE + STILL_SHARES[0] if material.scenes else STILL_SHARES[1]
    if material.stills and draw < stills:
        still = Image.fromarray(_one_of(material.stills, rng))
        picture, _, _ = _window(still, size, rng)
        horizon = float(rng.uniform(-0.1, 0.3)) * size[1]
        return Stage(
            picture, horizon=horizon, slope=float(rng.uniform(0.5, 0.8)), far=0.55 * size[1],
            near=1.02 * size[1], tilt=0.2,
        )  # fmt: skip
    camera = _one_of(material.cameras, rng)
    picture, scale, (_, top) = _window(camera.background, size, rng)
    horizon = (camera.horizon - top) * scale
    slope = camera.slope * float(rng.uniform(0.75, 1.1))
    far = max((camera.far - top) * scale, horizon + 0.12 * size[1])
    far = min(far, 0.7 * size[1])
    return Stage(
        picture, horizon=min(horizon, 0.4 * size[1]), slope=slope, far=far, near=1.03 * size[1],
        tilt=camera.tilt,
    )  # fmt: skip


def _pedestrian_stage(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Stage:
    """A part of a pedestrian scene; taken at eye level, so heads are at the horizon."""
    whole = Image.fromarray(scene.read())
    picture, scale, (left, top) = _window(whole, size, rng)
    boxes = (scene.boxes.astype(np.float64) - [left, top, left, top]) * scale
    inside = np.clip(boxes, 0, [*size, *size])
    visible = box_area(inside) / box_area(boxes)
    kept = (visible > 0) & ((inside[:, 2:] - inside[:, :2]).min(axis=1) >= 4)
    there = [
        (box, 0.0 if ignored else float(seen))
        for box, seen, ignored in zip(inside[kept], visible[kept], scene.ignore[kept], strict=True)
    ]
    horizon = float(np.median(boxes[:, 1])) if len(boxes) else 0.3 * size[1]
    tall = float(np.median(boxes[:, 3] - boxes[:, 1])) if len(boxes) else 0.5 * size[1]
    far = horizon + max(0.5 * tall, 0.15 * size[1])
    return Stage(
        picture, horizon=horizon, slope=1.0, far=far, near=max(far + 1, 1.03 * size[1]), tilt=0.05,
        there=there,
    )  # fmt: skip


def _window(
    picture: Image.Image, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Image.Image, float, tuple[float, float]]:
    """A random part of a picture, resized; its scale, and its corner before that."""
    fit = max(size[0] / picture.width, size[1] / picture.height)
    scale = fit * float(rng.uniform(1.0, 1.5))
    left = float(rng.uniform(0, picture.width - size[0] / scale))
    top = float(rng.uniform(0, picture.height - size[1] / scale))
    window = (left, top, left + size[0] / scale, top + size[1] / scale)
    return picture.resize(size, Image.Resampling.BILINEAR, window), scale, (left, top)


def _empty_patch(
    material: Material, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image | None:
    """A part of a scene or of a drawn background that shows nobody."""
    if not material.scenes or rng.random() < 0.3:
        camera = _one_of(material.cameras, rng)
        picture, boxes = camera.background, np.empty((0, 4))
    else:
        scene = _one_of(material.scenes, rng)
        picture, boxes = Image.fromarray(scene.read()), scene.boxes.astype(np.float64)
    height = float(rng.uniform(0.2, 0.9)) * picture.height
    width = min(height * size[0] / size[1], picture.width - 1)
    left = float(rng.uniform(0, picture.width - width))
    top = float(rng.uniform(0, picture.height - height))
    window = np.array([left, top, left + width, top + height])
    if _most_hidden(boxes, window) > 0.1:
        return None
    return picture.resize(size, Image.Resampling.BILINEAR, tuple(window))


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
    given = parser.parse_args(arguments)
    for flag, least in (
        ("drawn", 0), ("count", 1), ("val-count", 1), ("width", LEAST_SIDE),
        ("height", LEAST_SIDE), ("seed", 0),
    ):  # fmt: skip
        value = getattr(given, flag.replace("-", "_"))
        if value < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {value}")
    for part in ("train", "val", "crops"):
        refuse_another(given.directory / part)
    parts = gather(
        given.crops, given.scenes, given.video, given.drawn, people=given.people, seed=given.seed
    )
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
            progress=True,
        )
    write_crops(
        given.directory / "crops",
        parts[0],
        name=f"{given.name}-train",
        licence=given.licence,
        seed=2 * given.seed,
    )
    return 0
