"""Cloth: its colours, weave, prints and cut."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

RGB = tuple[float, float, float]

# The kinds of pattern; their place is what the shader calls them.
KINDS = (
    "plain",
    "hoops",
    "stripes",
    "checks",
    "print",
    "yoke",
    "sleeves",
    "open",
    "band",
    "sides",
    "fading",
    "marl",
)
TOP_KINDS = (0.36, 0.09, 0.04, 0.09, 0.08, 0.05, 0.05, 0.12, 0.04, 0.02, 0.02, 0.04)
BOTTOM_KINDS = (0.82, 0.0, 0.015, 0.035, 0.04, 0.0, 0.0, 0.0, 0.0, 0.05, 0.02, 0.02)
PRINT_SIDE = 96
# What clothes in the street are coloured like, as (share, how a colour is drawn): hue in turns,
# saturation and value, each from a range; hue None: any.
Range = tuple[float, float]
TOP_COLOURS: tuple[tuple[float, Range | None, Range, Range], ...] = (
    (0.20, None, (0.0, 0.15), (0.03, 0.14)),  # black
    (0.15, None, (0.0, 0.06), (0.80, 0.97)),  # white
    (0.15, None, (0.0, 0.10), (0.18, 0.70)),  # grey
    (0.09, (0.58, 0.68), (0.35, 0.75), (0.12, 0.30)),  # navy
    (0.09, (0.54, 0.64), (0.25, 0.80), (0.35, 0.85)),  # blue
    (0.09, (0.97, 1.03), (0.55, 0.90), (0.30, 0.80)),  # red
    (0.04, (0.90, 0.98), (0.20, 0.60), (0.60, 0.92)),  # pink
    (0.05, (0.06, 0.12), (0.25, 0.60), (0.30, 0.75)),  # brown and beige
    (0.05, (0.22, 0.45), (0.25, 0.80), (0.20, 0.65)),  # green
    (0.03, (0.12, 0.17), (0.50, 0.90), (0.65, 0.92)),  # yellow
    (0.02, (0.04, 0.09), (0.75, 0.95), (0.70, 0.92)),  # orange
    (0.02, (0.72, 0.85), (0.30, 0.65), (0.25, 0.60)),  # violet
    (0.02, (0.45, 0.53), (0.30, 0.80), (0.35, 0.75)),  # turquoise
)
BOTTOM_COLOURS: tuple[tuple[float, Range | None, Range, Range], ...] = (
    (0.30, None, (0.0, 0.15), (0.03, 0.13)),
    (0.05, None, (0.0, 0.06), (0.75, 0.95)),
    (0.14, None, (0.0, 0.10), (0.15, 0.55)),
    (0.15, (0.57, 0.64), (0.35, 0.65), (0.15, 0.32)),
    (0.15, (0.56, 0.62), (0.25, 0.60), (0.32, 0.68)),
    (0.10, (0.07, 0.12), (0.25, 0.50), (0.35, 0.75)),
    (0.04, (0.18, 0.40), (0.20, 0.50), (0.18, 0.45)),
    (0.02, (0.97, 1.03), (0.50, 0.90), (0.25, 0.70)),
    (0.05, (0.0, 1.0), (0.3, 0.8), (0.3, 0.8)),
)
HAIR_COLOURS = (
    (0.045, 0.04, 0.04), (0.07, 0.055, 0.05), (0.12, 0.08, 0.06), (0.20, 0.13, 0.08),
    (0.33, 0.22, 0.13), (0.55, 0.42, 0.25), (0.30, 0.12, 0.07), (0.50, 0.50, 0.50),
    (0.75, 0.74, 0.72),
)  # fmt: skip
HAIR_SHARES = (0.32, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.05, 0.03)


@dataclass(frozen=True, eq=False)
class Cloth:
    """One garment's cloth.

    Attributes:
        base, accent: colours in [0, 1].
        kind: index into `KINDS`.
        scale: decimetres after which the pattern repeats.
        share: how much of it is `accent`, in [0, 1].
        print: [PRINT_SIDE, PRINT_SIDE, 4], all over or on the chest.
        logo: where it has a print: 0 nowhere, 1 chest, 2 back, 3 both.
        logo_size: half the print's width and height, in decimetres.
        texture: how much of the assets' texture shows through, in [0, 1].
        folds: how many creases it has, in [0, 1].
        trim: of collar, cuffs and hem: 1 in `accent`, else 0.
    """

    base: RGB
    accent: RGB
    kind: int
    scale: float
    share: float
    print: NDArray[np.uint8]
    logo: int
    logo_size: tuple[float, float]
    texture: float
    folds: float
    trim: int


def colour(
    rng: np.random.Generator,
    colours: tuple[tuple[float, Range | None, Range, Range], ...] = TOP_COLOURS,
) -> RGB:
    """A random colour of clothes, in [0, 1]."""
    shares = np.array([row[0] for row in colours])
    _, hues, saturations, values = colours[int(rng.choice(len(colours), p=shares / shares.sum()))]
    hue = float(rng.uniform(*(hues or (0, 1)))) % 1
    return colorsys.hsv_to_rgb(hue, float(rng.uniform(*saturations)), float(rng.uniform(*values)))


def another(
    rng: np.random.Generator,
    than: RGB,
    colours: tuple[tuple[float, Range | None, Range, Range], ...] = TOP_COLOURS,
) -> RGB:
    """A random colour that clearly differs from a given one."""
    several = [colour(rng, colours) for _ in range(4)]
    return max(several, key=lambda other: sum(abs(a - b) for a, b in zip(other, than, strict=True)))


def top_cloth(rng: np.random.Generator) -> Cloth:
    return _cloth(rng, TOP_COLOURS, TOP_KINDS, logos=(0.62, 0.24, 0.06, 0.08))


def bottom_cloth(rng: np.random.Generator) -> Cloth:
    return _cloth(rng, BOTTOM_COLOURS, BOTTOM_KINDS, logos=(1.0, 0.0, 0.0, 0.0))


def _cloth(
    rng: np.random.Generator,
    colours: tuple[tuple[float, Range | None, Range, Range], ...],
    kinds: tuple[float, ...],
    logos: tuple[float, ...],
) -> Cloth:
    base = colour(rng, colours)
    accent = another(rng, base)
    kind = int(rng.choice(len(KINDS), p=np.array(kinds) / sum(kinds)))
    scale = {
        "hoops": rng.uniform(0.25, 1.6),
        "stripes": rng.uniform(0.2, 1.0),
        "checks": rng.uniform(0.25, 1.4),
        "print": rng.uniform(1.0, 3.5),
    }.get(KINDS[kind], 1.0)
    logo = int(rng.choice(4, p=logos))
    wide = float(rng.uniform(0.35, 1.15))
    return Cloth(
        base=base,
        accent=accent,
        kind=kind,
        scale=float(scale),
        share=float(rng.uniform(0.2, 0.6)),
        print=_print(rng, base, accent),
        logo=logo if KINDS[kind] in ("plain", "yoke", "sleeves", "marl") else 0,
        logo_size=(wide, wide * float(rng.uniform(0.3, 1.2))),
        texture=float(rng.uniform(0.3, 1.0)),
        folds=float(rng.uniform(0.3, 1.0)),
        trim=int(rng.random() < 0.15),
    )


def _print(rng: np.random.Generator, base: RGB, accent: RGB) -> NDArray[np.uint8]:
    """A small picture to be printed on cloth: letters, shapes, spots, flowers, camouflage."""
    side = PRINT_SIDE
    inks = [accent, another(rng, base), another(rng, accent)]
    ink = [(*(round(255 * value) for value in one), 255) for one in inks]
    picture = Image.new("RGBA", (side, side))
    brush = ImageDraw.Draw(picture)
    which = int(rng.integers(6))
    if which == 0:  # letters
        for line in range(int(rng.integers(1, 4))):
            word = "".join(
                rng.choice(list("ABCDEFGHIKLMNOPRSTUVWXYZ0123456789"), rng.integers(2, 8))
            )
            font = ImageFont.load_default(float(rng.uniform(16, 44)))
            brush.text((2, 4 + line * side / 3), word, fill=ink[line % 2], font=font)
    elif which == 1:  # one emblem
        brush.ellipse([6, 6, side - 6, side - 6], fill=ink[0])
        corners = rng.uniform(0.2, 0.8, (int(rng.integers(3, 8)), 2)) * side
        brush.polygon([tuple(corner) for corner in corners.tolist()], fill=ink[1])
    elif which == 2:  # spots, in rows
        apart = int(rng.integers(10, 32))
        size = apart * float(rng.uniform(0.2, 0.45))
        for row, y in enumerate(range(0, side + apart, apart)):
            for x in range(-apart, side + apart, apart):
                middle = x + apart / 2 * (row % 2)
                brush.ellipse([middle - size, y - size, middle + size, y + size], fill=ink[row % 2])
    elif which == 3:  # flowers
        for x, y in (rng.random((int(rng.integers(6, 24)), 2)) * side).tolist():
            petal = float(rng.uniform(3, 9))
            paint = ink[int(rng.integers(3))]
            for turn in np.linspace(0, 2 * np.pi, 6)[:-1]:
                at = x + petal * np.cos(turn), y + petal * np.sin(turn)
                brush.ellipse(
                    [
                        at[0] - petal / 1.5,
                        at[1] - petal / 1.5,
                        at[0] + petal / 1.5,
                        at[1] + petal / 1.5,
                    ],
                    fill=paint,
                )
    elif which == 4:  # camouflage
        noise = Image.fromarray((rng.random((side, side, 2)) * 255).astype(np.uint8)[..., 0])
        blurred = np.asarray(
            noise.filter(ImageFilter.GaussianBlur(float(rng.uniform(3, 8)))), np.float32
        )
        steps = np.percentile(blurred, [35, 60, 82])
        zones = np.searchsorted(steps, blurred)
        pixels = np.zeros((side, side, 4), np.uint8)
        for number in range(3):
            pixels[zones == number + 1] = ink[number]
        picture = Image.fromarray(pixels, "RGBA")
    else:  # a picture: soft shapes
        for _ in range(int(rng.integers(4, 12))):
            x, y, w, h = (rng.random(4) * [side, side, side / 2, side / 2]).tolist()
            paint = ink[int(rng.integers(3))]
            (brush.ellipse if rng.random() < 0.5 else brush.rectangle)(
                [x, y, x + w, y + h], fill=paint
            )
    return np.ascontiguousarray(np.asarray(picture)[::-1])
