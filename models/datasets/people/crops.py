"""Crops of rendered people, as a detector would cut them from several cameras' pictures."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from models.datasets.people.backgrounds import behind
from models.datasets.people.camera import Profile, develop, random_profile, random_view
from models.datasets.people.cast import (
    Actor,
    Wardrobe,
    actor,
    dress_of,
    random_look,
    random_pose,
    redressed,
)
from models.datasets.people.pose import bones_of
from models.datasets.people.render import Renderer
from models.datasets.things import PROPS, draw_prop, draw_thing

DRAWN_SIZE = (232, 264)
"""Width and height of what is rendered; a person fills four fifths of it."""
HEIGHT, WIDTHS = 192, (56, 128)
"""Of crops, in pixels."""
CAMERAS = 64
SEEN_BY = (3, 7)
"""A person is seen by so many cameras, the second number excluded."""
OTHERS, IN_FRONT, THINGS = 0.3, 0.35, 0.15
"""Shares of crops with somebody else, of these who stand in front, and of crops with a thing."""


@dataclass(frozen=True, eq=False)
class Crop:
    """One picture of a person.

    Attributes:
        name: as Market-1501 has it: identity, camera, sequence, frame, number.
        picture: RGB.
    """

    name: str
    picture: Image.Image


def cameras_of(seed: int) -> list[Profile]:
    """The cameras that see all people of a seed."""
    return [random_profile(np.random.default_rng((seed, 7, number))) for number in range(CAMERAS)]


def crops_of(
    person: int,
    views: int,
    *,
    seed: int,
    wardrobe: Wardrobe,
    renderer: Renderer,
    cameras: list[Profile],
    films: list[list[Image.Image]],
) -> list[Crop]:
    """All crops of one person; the same person and seed give the same crops.

    Args:
        person: number of the person, 0 or more.
        views: how many to draw.
        renderer: one of size `DRAWN_SIZE`.
    """
    rng = np.random.default_rng((seed, 8, person))
    own = actor(wardrobe, random_look(wardrobe, rng))
    other = dress_of(wardrobe, redressed(own.look, rng), own.shape)
    renderer.take(own.layers)
    seen_by = rng.choice(len(cameras), int(rng.integers(*SEEN_BY)), replace=False)
    found = []
    for view in range(views):
        camera = int(seen_by[view % len(seen_by)])
        profile = cameras[camera]
        renderer.wear(own.dress)
        sprite = _drawn(own, wardrobe, renderer, profile, rng)
        beside = None
        if rng.random() < OTHERS:
            renderer.wear(other)
            beside = _drawn(own, wardrobe, renderer, profile, rng)
        picture = _composed(sprite, beside, films, profile, seed, rng)
        name = f"{person:05d}_c{camera + 1}s1_{view:06d}_00"
        found.append(Crop(name, develop(picture, profile, rng)))
    return found


def _drawn(
    own: Actor, wardrobe: Wardrobe, renderer: Renderer, profile: Profile, rng: np.random.Generator
) -> Image.Image:
    """The person in what they wear now, RGBA, cropped to what is covered."""
    bones = bones_of(wardrobe.bodies.rig, own.shape, random_pose(own.look, rng))
    pixels = renderer.draw(bones, random_view(profile, rng), height=own.shape.height)
    picture = Image.fromarray(pixels)
    return picture.crop(picture.getchannel("A").getbbox())


def _composed(
    sprite: Image.Image,
    beside: Image.Image | None,
    films: list[list[Image.Image]],
    profile: Profile,
    seed: int,
    rng: np.random.Generator,
) -> Image.Image:
    """The crop before the camera's faults: the person, with what is behind and in front."""
    scale = HEIGHT / sprite.height
    around = rng.normal(0.03, 0.035, 4)
    if rng.random() < 0.12:  # the feet or a side are cut off
        around[int(rng.integers(1, 4))] -= float(rng.uniform(0.05, 0.25))
    if rng.random() < 0.1:
        around += float(rng.uniform(0.03, 0.12))
    up, down, left, right = (around * sprite.height * [0.7, 0.7, 1, 1]).tolist()
    whole = sprite.height + up + down
    least, most = (wide / HEIGHT * whole for wide in WIDTHS)
    wide = sprite.width + left + right
    extra = max(0.0, least - wide) - max(0.0, wide - most)
    left, wide = left + extra / 2, wide + extra
    scale = HEIGHT / whole
    size = max(WIDTHS[0], min(WIDTHS[1], round(wide * scale))), HEIGHT
    picture = behind(films, profile.ground, size, seed, rng)
    at = left * scale, up * scale
    tall, broad = sprite.height * scale, sprite.width * scale
    _shade(picture, at[0] + broad / 2, at[1] + tall, tall, profile, rng)
    in_front = rng.random() < IN_FRONT
    if beside is not None and not in_front:
        _beside(picture, beside, at, (broad, tall), rng, near=False)
    if rng.random() < THINGS / 2:
        _thing(picture, tall, at[1] + tall * float(rng.uniform(0.8, 0.97)), rng)
    _paste(picture, sprite, at, (broad, tall))
    if beside is not None and in_front:
        _beside(picture, beside, at, (broad, tall), rng, near=True)
    if rng.random() < THINGS / 2:
        _thing(picture, tall, at[1] + tall * float(rng.uniform(1.0, 1.15)), rng, near=True)
    return picture


def _paste(
    picture: Image.Image,
    sprite: Image.Image,
    at: tuple[float, float],
    size: tuple[float, float],
) -> None:
    small = _resized(sprite, (max(1, round(size[0])), max(1, round(size[1]))))
    picture.paste(small.convert("RGB"), (round(at[0]), round(at[1])), small.getchannel("A"))


def _resized(sprite: Image.Image, size: tuple[int, int]) -> Image.Image:
    """RGBA resized, without the uncovered pixels' colour bleeding into its edge."""
    return sprite.convert("RGBa").resize(size, Image.Resampling.BILINEAR).convert("RGBA")


def _beside(
    picture: Image.Image,
    sprite: Image.Image,
    at: tuple[float, float],
    size: tuple[float, float],
    rng: np.random.Generator,
    *,
    near: bool,
) -> None:
    """Another person at one side, partly in the picture."""
    factor = float(rng.uniform(1.0, 1.25) if near else rng.uniform(0.75, 1.0))
    tall = size[1] * factor
    broad = sprite.width * tall / sprite.height
    side = -1 if rng.random() < 0.5 else 1
    apart = float(rng.uniform(0.6, 0.95) if near else rng.uniform(0.2, 0.8)) * (size[0] + broad) / 2
    middle = at[0] + size[0] / 2 + side * apart
    foot = at[1] + size[1] * float(rng.uniform(1.0, 1.1) if near else rng.uniform(0.88, 1.0))
    _paste(picture, sprite, (middle - broad / 2, foot - tall), (broad, tall))


def _thing(
    picture: Image.Image, tall: float, row: float, rng: np.random.Generator, *, near: bool = False
) -> None:
    """An object, no person; a near one stands at the side or is low."""
    if rng.random() < 0.5:
        sprite = draw_prop(PROPS[int(rng.integers(len(PROPS)))], tall, rng)
    else:
        sprite = draw_thing(tall * float(rng.uniform(0.2, 0.45 if near else 1.2)), rng)
    column = float(rng.uniform(-0.1, 1.1))
    if near and abs(column - 0.5) < 0.3:
        column = 0.0 if column < 0.5 else 1.0
    left, top = round(column * picture.width) - sprite.x, round(row) - sprite.y
    picture.paste(
        Image.composite(
            sprite.colour,
            Image.new("RGB", sprite.colour.size),
            sprite.mask.point(lambda v: 255 * (v > 0)),
        ),
        (left, top),
        sprite.mask,
    )


def _shade(
    picture: Image.Image,
    column: float,
    row: float,
    tall: float,
    profile: Profile,
    rng: np.random.Generator,
) -> None:
    """A shadow on the ground around the feet."""
    if rng.random() < 0.15:
        return
    mask = Image.new("L", picture.size, 255)
    long = 0.16 * tall / max(0.4, np.tan(np.radians(profile.sun_height)))
    away = -np.sin(np.radians(profile.sun)) * long
    level = round(255 * (1 - 0.5 * float(rng.uniform(0.4, 1.0))))
    ImageDraw.Draw(mask).ellipse(
        [
            column - 0.13 * tall + min(0, away),
            row - 0.07 * tall,
            column + 0.13 * tall + max(0, away),
            row + 0.02 * tall,
        ],
        fill=level,
    )
    mask = mask.filter(ImageFilter.GaussianBlur(0.02 * tall))
    picture.paste(ImageChops.multiply(picture, Image.merge("RGB", [mask] * 3)))
