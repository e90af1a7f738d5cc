"""Whole scenes of rendered people, seen by several cameras."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from models.datasets.drawing import Sprite, extent
from models.datasets.people.camera import coloured, random_view
from models.datasets.people.cast import Actor, Wardrobe, actor, random_look, random_pose
from models.datasets.people.places import Place, random_place
from models.datasets.people.pose import bones_of
from models.datasets.people.render import FILL, Renderer, View, camera_matrix
from models.datasets.scenes_json import image_record, write_scenes_json
from models.datasets.things import PROPS, draw_prop, draw_thing

SCENE_SIZE = (768, 576)
"""Width and height in pixels."""
CROWD, THINGS = (3, 8), (2, 7)
"""People and things of a scene, the second number excluded."""
EMPTY_SHARE = 0.1
"""Of scenes."""
LEAST_VISIBLE = 0.3
"""Of somebody less visible than this neither presence nor identity is learned."""
SHADOW_FILL = 0.4
"""Of a shadow's picture, how much somebody's height fills."""


@dataclass(frozen=True, eq=False)
class _Standing:
    """A person or an object on the ground: its place, and the picture pasted there.

    Attributes:
        person: number of the person; -1 for an object.
        away: distance from the camera, in decimetres.
        picture: RGBA.
        left, top: where the picture is in the scene.
    """

    person: int
    away: float
    picture: Image.Image
    left: int
    top: int


def write_scenes(
    directory: Path,
    *,
    count: int,
    people: range,
    cameras: int,
    seed: int,
    wardrobe: Wardrobe,
    renderer: Renderer,
) -> Iterator[str]:
    """Write images/*.jpg and annotations.json; yields each picture's name once it is drawn.

    The cameras take turns. Whoever is visible by two cameras gets one query.

    Args:
        count: scenes, 1 or more.
        people: numbers of the people who may appear; the same as `crops_of` draws for a seed.
        cameras: 1 or more.
        seed: 0 or more.
    """
    (directory / "images").mkdir(parents=True, exist_ok=True)
    places = [
        random_place(SCENE_SIZE, np.random.default_rng((seed, 12, number)))
        for number in range(cameras)
    ]
    casting = np.random.default_rng((seed, 13))
    waiting: list[int] = []
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    shown: dict[int, list[tuple[float, int]]] = {}
    for number in range(count):
        rng = np.random.default_rng((seed, 14, number))
        camera = number % cameras
        crowd = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(*CROWD))
        cast: list[int] = []
        while len(cast) < min(crowd, len(people)):
            if not waiting:
                waiting = casting.permutation(np.array(people)).tolist()
            one = waiting.pop()
            if one not in cast:
                cast.append(one)
        actors = [
            (one, actor(wardrobe, random_look(wardrobe, np.random.default_rng((seed, 8, one)))))
            for one in cast
        ]
        picture, seen = draw_scene(places[camera], actors, wardrobe, renderer, rng)
        file = f"c{camera + 1}_{number:06d}.jpg"
        picture.save(directory / "images" / file, quality=max(80, places[camera].profile.quality))
        images.append(
            image_record(file, SCENE_SIZE, camera=f"c{camera + 1}", sequence=f"s{number}")
        )
        for one, (x1, y1, x2, y2), visible in seen:
            box: dict[str, Any] = {"image": number, "x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
            box |= {"person_id": one, "id_source": "rendered"}
            if visible < LEAST_VISIBLE:
                box |= {"ignore": True}
            else:
                shown.setdefault(one, []).append((visible, len(boxes)))
            boxes.append(box)
        yield file
    queries = []
    for one, found in sorted(shown.items()):
        if len({images[boxes[box]["image"]]["camera"] for _, box in found}) > 1:
            best = max(found)[1]
            image = boxes[best]["image"]
            queries.append(
                {"image": image, "box": best, "person_id": one, "kind": "other-scene"}
                | {"exclude": [image]}
            )
    about = {
        "name": f"rendered-{seed}",
        "licence": "generated: free to use",
        "note": f"Rendered: {count} scenes, {len(people)} people, {cameras} cameras, seed {seed}.",
    }
    write_scenes_json(directory, about | {"images": images, "boxes": boxes, "queries": queries})


def draw_scene(
    place: Place,
    actors: list[tuple[int, Actor]],
    wardrobe: Wardrobe,
    renderer: Renderer,
    rng: np.random.Generator,
) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int], float]]]:
    """One scene: the picture, and for each person the number, x1 y1 x2 y2 and visible share."""
    picture = place.background.copy()
    shadows = Image.new("L", picture.size)
    standing = []
    spots: list[tuple[float, float]] = []
    for number, own in actors:
        spot = _spot(place, spots, rng, apart=7.0)
        spots.append(spot)
        standing.append(_person(place, number, own, spot, wardrobe, renderer, shadows, rng))
    for _ in range(int(rng.integers(*THINGS))):
        spot = _spot(place, spots, rng, apart=9.0)
        spots.append(spot)
        standing.append(_thing(place, spot, shadows, rng))
    soft = 1 - 0.55 * min(1.0, place.profile.sunshine)
    dark = shadows.filter(ImageFilter.GaussianBlur(1.5)).point(
        lambda level: round(255 - (1 - soft) * level)
    )
    picture = ImageChops.multiply(picture, Image.merge("RGB", [dark] * 3))
    owner = np.full((picture.height, picture.width), -1)
    whole: dict[int, tuple[tuple[int, int, int, int], int]] = {}
    ordered = sorted(standing, key=lambda one: -one.away)
    for index, one in enumerate(ordered):
        mask = Image.new("L", picture.size)
        mask.paste(one.picture.getchannel("A"), (one.left, one.top))
        picture.paste(one.picture.convert("RGB"), (one.left, one.top), one.picture.getchannel("A"))
        covered = np.asarray(mask) > 127
        owner[covered] = index
        if one.person >= 0 and covered.any():
            total = int((np.asarray(one.picture.getchannel("A")) > 127).sum())
            whole[index] = extent(covered), total
    seen = [
        (ordered[index].person, box, float((owner == index).sum()) / total)
        for index, (box, total) in whole.items()
        if min(box[2] - box[0], box[3] - box[1]) >= 4
    ]
    return coloured(picture, place.profile, rng), seen


def _spot(
    place: Place, taken: list[tuple[float, float]], rng: np.random.Generator, *, apart: float
) -> tuple[float, float]:
    """A random visible place on the ground: how far right, and how far away."""
    cos, sin = np.cos(place.pitch), np.sin(place.pitch)
    half = place.size[1] / 2 / place.focal
    nearest = place.high * (cos - half * sin) / (sin + half * cos)
    spot = (0.0, 0.0)
    for _ in range(30):
        away = float(nearest + (0.95 * place.wall - nearest) * rng.random() ** 1.4)
        wide = 0.46 * place.size[0] / place.at(0, away)[2]
        spot = float(rng.uniform(-wide, wide)), away
        if all(np.hypot(spot[0] - x, spot[1] - z) > apart for x, z in taken):
            break
    return spot


def _person(
    place: Place,
    number: int,
    own: Actor,
    spot: tuple[float, float],
    wardrobe: Wardrobe,
    renderer: Renderer,
    shadows: Image.Image,
    rng: np.random.Generator,
) -> _Standing:
    right, away = spot
    height = own.shape.height
    distance = float(np.hypot(right, away))
    aside = np.degrees(np.arctan2(right, away))
    given = random_view(place.profile, rng)
    view = replace(
        given,
        pitch=float(np.degrees(np.arctan2(place.high - height / 2, distance))),
        distance=float(np.hypot(distance, place.high - height / 2)),
        sun=_sun(place, aside),
        sunshine=place.profile.sunshine,
        sky=place.profile.sky,
    )
    renderer.take(own.layers)
    renderer.wear(own.dress)
    bones = bones_of(wardrobe.bodies.rig, own.shape, random_pose(own.look, rng))
    drawn = Image.fromarray(renderer.draw(bones, view, height=height))
    flat = renderer.draw(bones, view, height=height, fill=SHADOW_FILL, flat=True)
    scale = place.at(right, away, height / 2)[2]
    column, row, _ = place.at(right, away)
    for picture, fill in ((Image.fromarray(flat), SHADOW_FILL), (drawn, FILL)):
        factor = scale * height / (fill * renderer.size[1])
        foot = _foot(view, height, renderer.size, fill)
        small = _scaled(picture, factor)
        left, top = round(column - foot[0] * factor), round(row - foot[1] * factor)
        if fill == SHADOW_FILL:
            mask = Image.new("L", shadows.size)
            mask.paste(small.getchannel("A"), (left, top))
            shadows.paste(ImageChops.lighter(shadows, mask))
    return _Standing(number, away, small, left, top)


def _sun(place: Place, aside: float) -> tuple[float, float, float]:
    """The direction of the light for a person so many degrees right of the middle."""
    around = np.radians(place.profile.sun + aside)
    up = np.radians(max(35.0, place.profile.sun_height))
    return (
        float(np.cos(up) * np.sin(around)), float(np.sin(up)), float(np.cos(up) * np.cos(around)),
    )  # fmt: skip


def _foot(view: View, height: float, size: tuple[int, int], fill: float) -> tuple[float, float]:
    """Where the ground between the feet is in a rendered picture."""
    x, y, _, w = camera_matrix(view, height, size, fill=fill) @ np.array([0, 0, 0, 1.0])
    return float((x / w + 1) / 2 * size[0]), float((1 - y / w) / 2 * size[1])


def _scaled(picture: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.convert("RGBa").resize(size, Image.Resampling.BOX).convert("RGBA")


def _thing(
    place: Place, spot: tuple[float, float], shadows: Image.Image, rng: np.random.Generator
) -> _Standing:
    """An object, no person."""
    column, row, scale = place.at(*spot)
    unit = 17 * scale
    if rng.random() < 0.75:
        sprite = draw_prop(PROPS[int(rng.integers(len(PROPS)))], unit, rng)
    else:
        sprite = draw_thing(unit * float(rng.uniform(0.3, 1.3)), rng)
    left, top = round(column) - sprite.x, round(row) - sprite.y
    lying = sprite.mask.resize((sprite.mask.width, max(1, round(sprite.mask.height * 0.35))))
    mask = Image.new("L", shadows.size)
    mask.paste(lying, (left + round(0.12 * unit), round(row) - lying.height + round(0.03 * unit)))
    shadows.paste(ImageChops.lighter(shadows, mask.filter(ImageFilter.GaussianBlur(0.02 * unit))))
    return _Standing(-1, spot[1], _plain(sprite), left, top)


def _plain(sprite: Sprite) -> Image.Image:
    """RGBA, with colours no longer multiplied by the coverage."""
    cover = np.asarray(sprite.mask, np.float32)[..., None]
    colours = np.asarray(sprite.colour, np.float32) * 255 / np.maximum(cover, 1)
    return Image.fromarray(
        np.concatenate([colours.clip(0, 255), cover], axis=2).astype(np.uint8), "RGBA"
    )
