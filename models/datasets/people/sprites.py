"""Rendered people without a background, for pasting into scenes."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.datasets.people.camera import random_profile, random_view
from models.datasets.people.cast import Wardrobe, actor, random_look, random_pose
from models.datasets.people.pose import bones_of
from models.datasets.people.render import Renderer

SPRITE_SIZE = (320, 368)
"""Width and height of what is rendered; a person fills four fifths of it."""
PITCHES = (3.0, 10.0, 20.0)
"""Degrees that cameras look down; a person's sprites take turns."""


@dataclass(frozen=True, eq=False)
class RenderedSprite:
    """One picture of a person without a background.

    Attributes:
        name: identity, pitch in degrees and number, as `models.datasets.sprites` reads them.
        picture: RGBA, cropped to what is covered.
    """

    name: str
    picture: Image.Image


def sprites_of(
    person: int, views: int, *, seed: int, wardrobe: Wardrobe, renderer: Renderer
) -> list[RenderedSprite]:
    """All sprites of one person; the same person and seed give the same sprites.

    Args:
        person: number of the person, 0 or more.
        views: how many to draw.
        renderer: one of size `SPRITE_SIZE`.
    """
    rng = np.random.default_rng((seed, 9, person))
    own = actor(wardrobe, random_look(wardrobe, rng))
    renderer.take(own.layers)
    renderer.wear(own.dress)
    found = []
    for number in range(views):
        pitch = PITCHES[number % len(PITCHES)]
        view = random_view(random_profile(rng), rng, pitch=pitch)
        bones = bones_of(wardrobe.bodies.rig, own.shape, random_pose(own.look, rng))
        picture = Image.fromarray(renderer.draw(bones, view, height=own.shape.height))
        picture = picture.crop(picture.getchannel("A").getbbox())
        found.append(RenderedSprite(f"{person:05d}_p{round(pitch):02d}_{number:03d}", picture))
    return found
