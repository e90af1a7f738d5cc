"""The people: random looks, and the layers they are drawn from."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.datasets.people.body import Bodies, Figure, Shape
from models.datasets.people.formats import Floats
from models.datasets.people.garments import (
    LIMBS,
    OUT,
    UPPER,
    Part,
    Wearable,
    body_part,
    dressed,
    read_texture,
    read_wearables,
    skin_of,
)
from models.datasets.people.objects import bag_parts, hat_part
from models.datasets.people.patterns import (
    HAIR_COLOURS,
    HAIR_SHARES,
    RGB,
    Cloth,
    bottom_cloth,
    colour,
    top_cloth,
)
from models.datasets.people.pose import Pose, holding, sitting, standing, walking
from models.datasets.people.render import GARMENT, HAIR, SKIN, THING, Dress, Layer
from models.errors import DatasetError

BAGS = ("none", "backpack", "left", "right", "handbag", "shopping")
BAG_SHARES = (0.52, 0.17, 0.08, 0.08, 0.08, 0.07)
HATS = ("none", "cap", "beanie", "brim")
HAT_SHARES = (0.86, 0.08, 0.03, 0.03)
# What hangs from the waist over what the suit is, of women and of men.
SKIRTS = ("none", "skirt", "dress", "coat")
SKIRT_SHARES = ((0.68, 0.13, 0.12, 0.07), (0.95, 0.0, 0.0, 0.05))
SHORT_SLEEVES, SHORT_LEGS = 0.5, 0.25
VEIL = 0.4
"""Legs are not drawn so many decimetres above a skirt's hem, or they would show through it."""
FULL = 9.0
"""How far down cloth reaches that is not cut."""


@dataclass(frozen=True, eq=False)
class Look:
    """What stays the same about a person, at any moment and from any side.

    Attributes:
        skin, suit, shoes, hair: indices into the assets; None for no hair.
        skin_tint: factor for the skin's colour.
        sleeves, legs: how far the cloth reaches, on the scale of `Shape.arm`.
        skirt: one of `SKIRTS`; a dress or a coat has the top's cloth.
        hem: how far the skirt reaches, as a share of the way from hip to sole.
        flare: how much wider a skirt is at the soles.
        loose: how much wider than the body the suit is, in decimetres.
        tights: colour of the legs where no cloth covers them; None for skin.
        bare: whether the belly shows where no cloth covers it.
        hat, bag: one of `HATS`, one of `BAGS`.
    """

    figure: Figure
    skin: int
    skin_tint: RGB
    suit: int
    shoes: int
    hair: int | None
    hair_colour: RGB
    shoe_colour: RGB
    top: Cloth
    bottom: Cloth
    sleeves: float
    legs: float
    skirt: str
    hem: float
    flare: float
    hat: str
    hat_colour: RGB
    bag: str
    bag_colour: RGB
    loose: float
    seed: float
    tights: RGB | None = None
    bare: bool = False


class Wardrobe:
    """The assets that people are made of, read once."""

    def __init__(self, assets: Path) -> None:
        """Read the assets.

        Raises:
            DatasetError: something is missing or cannot be read.
        """
        self.bodies = Bodies(assets)
        clothes = read_wearables(assets / "clothes", self.bodies)
        self.shoes = [one for one in clothes if "shoe" in one.name]
        self.suits = [one for one in clothes if "suit" in one.name]
        self.hairs = read_wearables(assets / "hair", self.bodies)
        self.skins = [
            (path.stem, read_texture(path)) for path in sorted((assets / "skins").rglob("*.png"))
        ]
        for what, found in (
            ("suits in clothes", self.suits),
            ("shoes in clothes", self.shoes),
            ("skins", self.skins),
        ):
            if not found:
                raise DatasetError(f"{assets}: expected {what}, found none")


def random_look(wardrobe: Wardrobe, rng: np.random.Generator) -> Look:
    """A random person; all choices are drawn from `rng`."""
    female = float(rng.random() < 0.5)
    old = float(rng.beta(1.2, 3.5))
    origins = rng.dirichlet((0.35, 0.35, 0.35))
    figure = Figure(
        female=female * 0.9 + 0.05,
        old=old,
        origins=(float(origins[0]), float(origins[1]), float(origins[2])),
        tall=float(np.clip(rng.normal(0, 0.35), -0.8, 0.8)),
        girth=float(np.clip(rng.gamma(2.0, 0.23) - 0.25, -0.4, 1.5)),
    )
    skins = _named(
        [name for name, _ in wardrobe.skins],
        ("female" if female else "male", "darkskinned" if origins[0] > 0.55 else "lightskinned"),
    )
    prefix = "female" if female else "male"
    other = rng.random() < 0.35
    suits = [
        number
        for number, suit in enumerate(wardrobe.suits)
        if other or suit.name.startswith(prefix)
    ] or list(range(len(wardrobe.suits)))
    suit = int(rng.choice(suits))
    hairs = _named(
        [hair.name for hair in wardrobe.hairs],
        ("short", "afro") if not female else ("bob", "long", "pony", "braid", "short03", "afro"),
        anyof=True,
    )
    bald = not wardrobe.hairs or rng.random() < (0.01 if female else 0.06 + 0.2 * old)
    grey = rng.random() < max(0.0, old - 0.35) * 1.3
    hair_colour = HAIR_COLOURS[int(rng.choice(len(HAIR_COLOURS), p=HAIR_SHARES))]
    if grey:
        hair_colour = HAIR_COLOURS[-1 - int(rng.integers(2))]
    skirt = str(rng.choice(SKIRTS, p=SKIRT_SHARES[0 if female else 1]))
    sleeves = float(rng.uniform(0.45, 0.95)) if rng.random() < SHORT_SLEEVES else FULL
    legs = float(rng.uniform(0.5, 1.15)) if rng.random() < SHORT_LEGS else FULL
    if skirt == "coat":
        sleeves = FULL
    elif skirt != "none" and rng.random() < 0.9:
        legs = 0.3
    tint = rng.uniform(0.85, 1.08)
    return Look(
        figure=figure,
        skin=int(rng.choice(skins)),
        skin_tint=(
            float(tint),
            float(tint * rng.uniform(0.93, 1.02)),
            float(tint * rng.uniform(0.86, 1.02)),
        ),
        suit=suit,
        shoes=int(rng.integers(len(wardrobe.shoes))),
        hair=None if bald else int(rng.choice(hairs)),
        hair_colour=_jittered(hair_colour, rng),
        shoe_colour=_shoe_colour(rng),
        top=top_cloth(rng),
        bottom=bottom_cloth(rng),
        sleeves=sleeves,
        legs=legs,
        skirt=skirt,
        hem=float(rng.uniform(0.25, 0.85)),
        flare=float(rng.uniform(0.05, 0.15) if skirt == "coat" else rng.uniform(0.0, 0.5)),
        hat=str(rng.choice(HATS, p=HAT_SHARES)),
        hat_colour=colour(rng),
        bag=str(rng.choice(BAGS, p=BAG_SHARES)),
        bag_colour=colour(rng),
        loose=float(rng.gamma(2.0, 0.05)),
        seed=float(rng.uniform(0, 60)),
        tights=_jittered((0.08, 0.075, 0.08), rng) if female and rng.random() < 0.2 else None,
        bare=bool(female and rng.random() < 0.15),
    )


def redressed(look: Look, rng: np.random.Generator) -> Look:
    """Another person, with the same body and other colours."""
    return replace(
        look,
        top=top_cloth(rng),
        bottom=bottom_cloth(rng),
        hair_colour=HAIR_COLOURS[int(rng.choice(len(HAIR_COLOURS), p=HAIR_SHARES))],
        shoe_colour=_shoe_colour(rng),
        bag_colour=colour(rng),
        hat_colour=colour(rng),
        sleeves=float(rng.uniform(0.45, 0.95)) if rng.random() < SHORT_SLEEVES else FULL,
        legs=float(rng.uniform(0.5, 1.15)) if rng.random() < SHORT_LEGS else FULL,
        seed=float(rng.uniform(0, 60)),
    )


def random_pose(look: Look, rng: np.random.Generator) -> Pose:
    """A random everyday pose."""
    draw = rng.random()
    if draw < 0.7:
        pose = walking(float(rng.random()), rng)
    elif draw < 0.985:
        pose = standing(rng)
    else:
        pose = sitting(rng)
    if rng.random() < 0.3:
        pose = holding(pose, rng)
    wide = 4 * max(0.0, look.figure.girth)
    return replace(pose, spread=(pose.spread[0] + wide, pose.spread[1] + wide))


@dataclass(frozen=True, eq=False)
class Actor:
    """A look with its body and its layers, ready to be drawn.

    Attributes:
        layers: in drawing order.
        dress: their colours.
    """

    look: Look
    shape: Shape
    layers: tuple[Layer, ...]
    dress: Dress


def actor(wardrobe: Wardrobe, look: Look) -> Actor:
    """Shape the body, fit the clothes to it, and colour them."""
    bodies = wardrobe.bodies
    shape = bodies.shape(look.figure)
    suit, shoes = wardrobe.suits[look.suit], wardrobe.shoes[look.shoes]
    name, texture = wardrobe.skins[look.skin]
    layers = [
        Layer(SKIN, "skin", skin_of(bodies, shape, [suit, shoes]), texture, key=f"skin {name}"),
        _layer(GARMENT, "suit", suit, dressed(suit, bodies, shape, out=OUT + look.loose)),
        _layer(THING, "shoes", shoes, dressed(shoes, bodies, shape, out=0.02), strength=0.7),
    ]
    eyes = [
        group for group in ("helper-l-eye", "helper-r-eye") if (bodies.mesh.groups == group).any()
    ]
    layers += [Layer(THING, "eyes", body_part(bodies, shape, eye), strength=0.0) for eye in eyes]
    hip = shape.heads[bodies.rig.names.index("upperleg01.L")]
    if look.skirt != "none" and (bodies.mesh.groups == "helper-skirt").any():
        part = body_part(bodies, shape, "helper-skirt", out=2 * OUT + look.loose)
        hem = float(hip[1]) * (1 - look.hem)
        whole = _as_skirt(part, hip, of_top=look.skirt != "skirt", flare=look.flare)
        layers.append(Layer(GARMENT, "skirt", whole, from_height=hem))
    crown = shape.height
    hat_from = crown - 0.95
    if look.hair is not None:
        hair = wardrobe.hairs[look.hair]
        under = hat_from + 0.15 if look.hat != "none" else 100.0
        part = dressed(hair, bodies, shape, out=0.0)
        layers.append(_layer(HAIR, "hair", hair, part, strength=0.6, to_height=under))
    if look.hat != "none":
        part = hat_part(bodies, shape, look.hat, hat_from)
        layers.append(Layer(THING, "hat", part, strength=0.0))
    for part in bag_parts(bodies, shape, look.bag):
        layers.append(Layer(THING, "bag", part, strength=0.0))
    return Actor(look, shape, tuple(layers), dress_of(wardrobe, look, shape))


def dress_of(wardrobe: Wardrobe, look: Look, shape: Shape) -> Dress:
    """The colours that a look gives the layers of this body."""
    names = wardrobe.bodies.rig.names
    chest = shape.heads[names.index("spine01")]
    neck = shape.heads[names.index("neck01")]
    hip = float(shape.heads[names.index("upperleg01.L")][1])
    red, green, blue = (0.75 * value for value in look.bag_colour)
    return Dress(
        cloths=(look.top, look.bottom),
        tints={
            "skin": _power(look.skin_tint),
            "hair": look.hair_colour,
            "shoes": look.shoe_colour,
            "hat": look.hat_colour,
            "bag": look.bag_colour,
            "eyes": (0.28, 0.25, 0.23),
        },
        sleeves=look.sleeves,
        legs=look.legs,
        straps={"backpack": 1, "left": 2, "right": 3}.get(look.bag, 0),
        strap=(red, green, blue),
        chest=float(chest[1]),
        neck=float(neck[1]),
        middle=float(chest[2]),
        hip=hip,
        veiled=100.0 if look.skirt == "none" else hip * (1 - look.hem) + VEIL,
        one=look.skirt in ("dress", "coat"),
        tights=look.tights,
        bare=look.bare,
        seed=look.seed,
    )


def _as_skirt(part: Part, hip: Floats, *, of_top: bool, flare: float) -> Part:
    """A skirt: not cut off where the legs' cloth ends, and wider towards the bottom.

    Args:
        hip: where a leg begins.
        flare: of its width at the soles, how much is added.
    """
    vertices = part.vertices.copy()
    below = np.clip((hip[1] - vertices[:, 1]) / hip[1], 0, 1)
    for axis, middle in ((0, 0.0), (2, float(hip[2]))):
        vertices[:, axis] += flare * below * (vertices[:, axis] - middle)
    vertices[:, LIMBS] = -1
    vertices[:, UPPER] = float(of_top)
    return Part(vertices, part.triangles)


def _layer(
    what: int,
    role: str,
    worn: Wearable,
    part: Part,
    *,
    strength: float = 1.0,
    to_height: float = 100.0,
) -> Layer:
    return Layer(
        what,
        role,
        part,
        worn.texture,
        worn.levels if what == GARMENT else (worn.level, worn.level),
        strength=strength,
        to_height=to_height,
        key=f"{role} {worn.name}",
    )


def _named(names: list[str], words: tuple[str, ...], *, anyof: bool = False) -> list[int]:
    """Places of the names that have all (or any) of the words, taken apart at underlines; all
    places, if none has."""
    found = []
    for number, name in enumerate(names):
        pieces = name.split("_")
        hits = [any(piece.startswith(word) for piece in pieces) for word in words]
        if any(hits) if anyof else all(hits):
            found.append(number)
    return found or list(range(len(names)))


def _shoe_colour(rng: np.random.Generator) -> RGB:
    if rng.random() < 0.65:
        level = float(rng.choice((0.07, 0.12, 0.3, 0.85), p=(0.4, 0.2, 0.15, 0.25)))
        return _jittered((level, level * 0.96, level * 0.93), rng)
    return colour(rng)


def _jittered(colour: RGB, rng: np.random.Generator) -> RGB:
    factor = float(rng.uniform(0.8, 1.2))
    red, green, blue = (min(1.0, value * factor) for value in colour)
    return red, green, blue


def _power(colour: RGB) -> RGB:
    """A factor, as a colour whose light in the shader is the factor itself."""
    red, green, blue = (value ** (1 / 2.2) for value in colour)
    return red, green, blue
