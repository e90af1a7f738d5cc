"""A generated dataset: people of distinct looks walking past several cameras.

It is for tests, demonstrations and a first training run. The annotations are those of
models.datasets.scenes_json, which reads it.

    python -m models.datasets.synthetic DIR --scenes 200 --persons 40 --cameras 3 --seed 0
"""

if __name__ == "__main__":
    from models.command import run

    run("models.datasets.synthetic")

import argparse
import io
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from tqdm import tqdm

from models.command import command
from models.datasets.drawing import Look, Sprite, draw_person, extent, paste, random_look, tone
from models.datasets.scene import UNLABELED
from models.datasets.scenes_json import image_record, refuse_another, write_scenes_json
from models.datasets.things import PROPS, draw_prop

LEAST_VISIBLE = 0.3
"""People of whom less is seen, by area, are marked as ignored."""

LEAST_SIDE = 64

GRAIN = np.random.default_rng(0).standard_normal(2**19 + 7).astype(np.float32)
"""Noise of unit deviation: drawing new noise for each scene takes longer than drawing people."""


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and how it sees.

    Attributes:
        background: What is behind everything.
        props: Things that always stand there: row, column, what.
        horizon: Row of the horizon; a person's height is `slope` times how far below it they stand.
        near, far: Rows between which people stand.
        gains: [3], of red, green and blue.
        blur: Radius in pixels.
        noise: Standard deviation in grey levels.
        quality: Of the JPEG files.
        tilt: Radians it looks down.
    """

    background: Image.Image
    props: tuple[tuple[float, float, Sprite], ...]
    horizon: float
    slope: float
    near: float
    far: float
    gains: NDArray[np.float32]
    gamma: float
    blur: float
    noise: float
    quality: int
    tilt: float


def write_synthetic(
    directory: Path,
    *,
    scenes: int,
    persons: int,
    cameras: int = 3,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    background_share: float = 0.25,
    crowd: tuple[int, int] = (2, 6),
    progress: bool = False,
) -> None:
    """Write images/*.jpg and annotations.json; the same arguments write the same files again.

    Every labelled person who is well visible in two scenes or more gets one query, whose gallery is
    all other scenes.

    Args:
        persons: Labelled people; they share the scenes evenly.
        size: Width and height in pixels.
        background_share: Of the people in a scene, how many are of unknown identity.
        crowd: Fewest and most people in a scene.

    Raises:
        DatasetError: the directory holds another dataset.
        ValueError: a number is too small.
    """
    if min(scenes, persons, cameras) < 1 or min(size) < LEAST_SIDE:
        raise ValueError(
            f"expected at least one scene, person and camera and {LEAST_SIDE} × {LEAST_SIDE} "
            f"pixels, got {scenes}, {persons}, {cameras} and {size[0]} × {size[1]}"
        )
    note = (
        f"Generated: {scenes} scenes of {size[0]} × {size[1]}, {persons} people, "
        f"{cameras} cameras, seed {seed}, {background_share:g} unknown, crowds of {crowd}."
    )
    refuse_another(directory, note=note)
    (directory / "images").mkdir(parents=True, exist_ok=True)
    looks = [random_look(np.random.default_rng((seed, 1, person))) for person in range(persons)]
    views = [make_camera(np.random.default_rng((seed, 2, index)), size) for index in range(cameras)]
    casting = np.random.default_rng((seed, 3))
    waiting: deque[int] = deque()
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    visible: list[float] = []
    for scene in tqdm(range(scenes), desc="scenes", disable=not progress):
        people = int(casting.integers(crowd[0], crowd[1] + 1))
        unknown = int(casting.binomial(people, background_share))
        cast: list[int] = []
        while len(cast) < min(people - unknown, persons):
            if not waiting:
                waiting.extend(int(person) for person in casting.permutation(persons))
            if waiting[0] in cast:
                break
            cast.append(waiting.popleft())
        rng = np.random.default_rng((seed, 4, scene))
        number = int(casting.integers(cameras))
        actors = [(person, looks[person]) for person in cast]
        actors += [(UNLABELED, random_look(rng)) for _ in range(unknown)]
        picture, found = draw_scene(views[number], actors, rng)
        file = f"c{number + 1}_{scene:06d}.jpg"
        (directory / "images" / file).write_bytes(develop(views[number], picture, rng))
        for person, (x1, y1, x2, y2), seen in found:
            box = {"image": scene, "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
            box |= {"person_id": person, "id_source": "synthetic"}
            boxes.append(box | ({"ignore": True} if seen < LEAST_VISIBLE else {}))
            visible.append(seen)
        images.append(image_record(file, size, camera=f"c{number + 1}", sequence=f"s{scene}"))
    write_scenes_json(
        directory,
        {
            "name": f"synthetic-{seed}",
            "licence": "generated: free to use",
            "note": note,
            "images": images,
            "boxes": boxes,
            "queries": _queries(persons, boxes, visible),
        },
    )


def _queries(
    persons: int, boxes: list[dict[str, Any]], visible: list[float]
) -> list[dict[str, Any]]:
    queries = []
    for person in range(persons):
        own = [
            index
            for index, box in enumerate(boxes)
            if box["person_id"] == person and "ignore" not in box
        ]
        if len(own) >= 2:
            best = max(own, key=lambda index: visible[index])
            scene = boxes[best]["image"]
            queries.append(
                {"image": scene, "box": best, "person_id": person, "exclude": [scene]}
                | {"kind": "other-scene"}
            )
    return queries


def draw_scene(
    camera: Camera, actors: Sequence[tuple[int, Look]], rng: np.random.Generator
) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int], float]]]:
    """The picture before the camera's faults, and of each person: id, x1 y1 x2 y2, share seen."""
    picture = camera.background.copy()
    width = picture.width
    rows = camera.far + (camera.near - camera.far) * rng.random(len(actors)) ** 1.3
    columns = rng.uniform(0.04, 0.96, len(actors)) * width
    for index in range(1, len(actors)):
        if rng.random() < 0.25:  # walking with somebody: the two overlap
            columns[index] = columns[index - 1] + rng.uniform(-0.09, 0.09) * width
            rows[index] = np.clip(rows[index - 1] + rng.normal(0, 8), camera.far, camera.near)
    things: list[tuple[float, float, Sprite | int]] = [
        (float(row), float(column), index)
        for index, (row, column) in enumerate(zip(rows, columns, strict=True))
    ]
    for row in rng.uniform(camera.far, 1.1 * camera.near, int(rng.integers(0, 4))).tolist():
        unit = camera.slope * (row - camera.horizon)
        sprite = draw_prop(PROPS[rng.integers(len(PROPS))], unit, rng)
        things.append((row, float(rng.uniform(0, width)), sprite))
    things.extend(camera.props)
    things.sort(key=lambda thing: thing[0])
    cast_shadows(
        picture,
        [
            (
                row,
                column,
                camera.slope * (row - camera.horizon),
                what.foot if isinstance(what, Sprite) else 0.2,
            )
            for row, column, what in things
        ],
    )

    owner = np.full((picture.height, width), -1, dtype=np.int16)
    drawn: list[tuple[int, tuple[int, int, int, int], int]] = []
    for row, column, what in things:
        if isinstance(what, Sprite):
            owner[paste(picture, what, round(column), round(row))] = -1
            continue
        facing, phase = rng.uniform(0, 2 * math.pi, 2)
        person = draw_person(
            actors[what][1],
            camera.slope * (row - camera.horizon),
            facing=float(facing),
            phase=float(phase),
            tilt=camera.tilt,
        )
        covered = paste(picture, person, round(column), round(row))
        owner[covered] = what
        if covered.any():
            drawn.append(
                (what, extent(covered), int(np.count_nonzero(np.asarray(person.mask) > 127)))
            )
    found = [
        (actors[index][0], box, float(np.count_nonzero(owner == index)) / whole)
        for index, box, whole in drawn
    ]
    return picture, found


def cast_shadows(picture: Image.Image, things: Sequence[tuple[float, float, float, float]]) -> None:
    """Darken the ground under things.

    Args:
        things: of each the row and column that it stands on, the height of a person beside it in
            pixels, and half the width of what touches the ground in such heights.
    """
    shadow = Image.new("L", picture.size, 255)
    brush = ImageDraw.Draw(shadow)
    for row, column, unit, foot in things:
        reach = foot * unit
        brush.ellipse(
            [column - 0.8 * reach, row - 0.05 * unit, column + 1.4 * reach, row + 0.045 * unit],
            120,
        )
    shadow = shadow.filter(ImageFilter.BoxBlur(4))
    picture.paste(ImageChops.multiply(picture, Image.merge("RGB", [shadow] * 3)))


def develop(camera: Camera, picture: Image.Image, rng: np.random.Generator) -> bytes:
    """The camera's JPEG of a picture: its blur, white balance, exposure, noise, compression."""
    if camera.blur > 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur))
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    exposure = float(rng.uniform(0.88, 1.12))
    table = 255 * (levels * camera.gains * exposure).clip(0, 1) ** camera.gamma
    pixels = np.asarray(picture.point(table.T.round().astype(int).ravel().tolist()), dtype=np.int16)
    places = np.arange(pixels.size) + rng.integers(GRAIN.size)
    grain = GRAIN.take(places, mode="wrap").reshape(pixels.shape)
    pixels = (pixels + (grain * camera.noise).astype(np.int16)).clip(0, 255)
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, format="JPEG", quality=camera.quality)
    return stream.getvalue()


def make_camera(rng: np.random.Generator, size: tuple[int, int]) -> Camera:
    """A camera over a street, a square or a hall; sizes follow the picture's height."""
    height = size[1]
    horizon = float(rng.uniform(0.02, 0.26)) * height
    near, far = 0.985 * height, float(rng.uniform(0.42, 0.55)) * height
    slope = float(rng.uniform(0.4, 0.52)) * height / (near - horizon)
    props = []
    for row in rng.uniform(far * 0.97, 0.75 * height, int(rng.integers(2, 6))).tolist():
        sprite = draw_prop(PROPS[rng.integers(len(PROPS))], slope * (row - horizon), rng)
        props.append((row, float(rng.uniform(0, size[0])), sprite))
    return Camera(
        background=draw_background(rng, size, horizon, far),
        props=tuple(props),
        horizon=horizon,
        slope=slope,
        near=near,
        far=far,
        gains=rng.uniform(0.9, 1.1, 3).astype(np.float32),
        gamma=float(rng.uniform(0.8, 1.25)),
        blur=float(rng.uniform(0, 0.8)),
        noise=float(rng.uniform(1.5, 7)),
        quality=int(rng.integers(70, 94)),
        tilt=float(rng.uniform(0.05, 0.22)),
    )


def draw_background(
    rng: np.random.Generator, size: tuple[int, int], horizon: float, wall: float
) -> Image.Image:
    """Sky, a row of buildings that ends above the row `wall`, and a paved ground."""
    width, height = size
    picture = Image.new("RGB", (width * 2, height * 2))
    brush = ImageDraw.Draw(picture)

    def box(x1: float, y1: float, x2: float, y2: float, colour: tuple[int, int, int]) -> None:
        if x2 > x1 and y2 > y1:
            brush.rectangle([x1 * 2, y1 * 2, x2 * 2, y2 * 2], colour)

    def grey(low: float, high: float, tint: float) -> tuple[int, int, int]:
        level = rng.uniform(low, high)
        red, green, blue = (int(level + value) for value in rng.uniform(-tint, tint, 3))
        return red, green, blue

    foot = wall - 0.03 * height
    box(0, 0, width, foot, (190, 206, 222))
    left = 0.0
    while left < width:
        right = left + rng.uniform(0.15, 0.5) * width
        top = rng.uniform(-0.2, 0.35) * foot
        face = grey(90, 190, 22)
        box(left, top, right, foot, face)
        pane = grey(50, 105, 14)
        step_x, step_y = rng.uniform(0.06, 0.14) * width, rng.uniform(0.1, 0.2) * height
        share_x, share_y = rng.uniform(0.35, 0.8, 2)
        for x in np.arange(left + step_x * 0.2, right - step_x * share_x, step_x):
            for y in np.arange(top + step_y * 0.25, foot - step_y * 0.5, step_y):
                lit = tone(pane, float(rng.uniform(0.6, 1.5)))
                box(
                    x - 1.5,
                    y - 1.5,
                    x + step_x * share_x + 1.5,
                    y + step_y * share_y + 1.5,
                    tone(face, 0.8),
                )
                box(x, y, x + step_x * share_x, y + step_y * share_y, lit)
                box(x, y, x + step_x * share_x * 0.4, y + step_y * share_y, tone(lit, 1.12))
        if rng.random() < 0.6:
            awning = rng.uniform(0.45, 0.75) * foot
            box(left, awning, right, awning + 0.05 * height, grey(60, 170, 60))
        door = rng.uniform(left, right)
        box(door, foot - 0.2 * height, door + 0.07 * width, foot, grey(40, 110, 25))
        box(left, foot - 0.02 * height, right, foot, tone(face, 0.7))
        left = right

    ground = grey(95, 175, 14)
    box(0, foot, width, height, ground)
    seam = tone(ground, float(rng.uniform(0.78, 0.92)))
    middle = rng.uniform(0.2, 0.8) * width
    lines = rng.integers(10, 26)
    for x in np.linspace(-3 * width, 4 * width, int(lines)):
        top_x = middle + (x - middle) * (foot - horizon) / (height - horizon)
        brush.line([top_x * 2, foot * 2, x * 2, height * 2], seam, 2)
    distance = 1.0
    while (row := horizon + (height - horizon) / distance) > foot:
        brush.line([0, row * 2, width * 2, row * 2], seam, 2)
        distance += rng.uniform(0.05, 0.07) * 2
    if rng.random() < 0.6:  # a road or a lawn along the wall
        strip = foot + rng.uniform(0.04, 0.14) * height
        box(0, foot, width, strip, (78, 80, 84) if rng.random() < 0.5 else (92, 118, 66))
        box(0, strip, width, strip + 0.012 * height, tone(ground, 1.2))
    picture = picture.reduce(2)

    shade = np.ones((height, width), dtype=np.float32)
    for cells, depth in ((3, 0.12), (12, 0.06), (60, 0.035), (240, 0.03)):
        rough = Image.fromarray(rng.normal(0, depth, (cells, cells)).astype(np.float32))
        shade += np.asarray(rough.resize(size, Image.Resampling.BICUBIC))
    textured = np.asarray(picture, dtype=np.float32) * shade.clip(0.4, 1.5)[..., None]
    return Image.fromarray(textured.clip(0, 255).astype(np.uint8))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m models.datasets.synthetic",
        description="Write a generated person search dataset.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--persons", type=int, default=40)
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for flag, least in (
        ("scenes", 1), ("persons", 1), ("cameras", 1), ("width", LEAST_SIDE),
        ("height", LEAST_SIDE), ("seed", 0),
    ):  # fmt: skip
        value = getattr(options, flag)
        if value < least:
            parser.error(f"argument --{flag}: expected {least} or more, got {value}")
    write_synthetic(
        options.directory,
        scenes=options.scenes,
        persons=options.persons,
        cameras=options.cameras,
        size=(options.width, options.height),
        seed=options.seed,
        progress=True,
    )
