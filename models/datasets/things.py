"""Drawing what stands in a street and is nobody. Shapes are in body units, as in
models.datasets.drawing: a person beside a thing is 1 tall.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.datasets.drawing import Colour, Pen, Sprite, cloth, tone

PROPS = ("tree", "lamp", "sign", "bin", "bollard", "bench", "car", "hydrant", "shrub")


def draw_prop(kind: str, unit: float, rng: np.random.Generator) -> Sprite:
    """A thing that is not a person; `unit` is the height of a person beside it, in pixels."""
    sizes = {"tree": (1.0, 2.4), "lamp": (0.4, 2.4), "sign": (0.5, 1.6), "car": (1.5, 1.0)}
    half, up = sizes.get(kind, (0.7, 0.9))
    pen = Pen(left=half, right=half, up=up, down=0.15, scale=unit * 2)
    paint = cloth(rng)
    grey = tone((120, 122, 125), float(rng.uniform(0.4, 1.2)))
    wood = tone((96, 74, 54), float(rng.uniform(0.6, 1.2)))
    leaf = tone((70, 105, 48), float(rng.uniform(0.6, 1.2)))
    if kind == "tree":
        pen.limb((0, 0.04), (rng.uniform(-0.06, 0.06), 1.3), 0.08, 0.05, wood)
        for _ in range(34):
            x, y = rng.normal(0, 0.3), rng.normal(1.6, 0.25)
            pen.ellipse(x, y, 0.2, 0.17, tone(leaf, float(rng.uniform(0.65, 1.25))))
    elif kind == "lamp":
        pen.limb((0, 0.02), (0, 2.2), 0.035, 0.02, grey)
        pen.limb((0, 2.2), (0.25, 2.25), 0.02, 0.03, grey)
    elif kind == "sign":
        pen.limb((0, 0.02), (0, 1.1), 0.02, 0.02, grey)
        pen.ellipse(0, 1.25, 0.17, 0.17, (225, 225, 225))
        pen.ellipse(0, 1.25, 0.14, 0.14, paint)
    elif kind == "bin":
        pen.polygon([(-0.13, 0.45), (0.13, 0.45), (0.11, 0), (-0.11, 0)], paint)
        pen.polygon([(-0.13, 0.45), (-0.06, 0.45), (-0.05, 0), (-0.11, 0)], tone(paint, 0.7))
        pen.ellipse(0, 0.46, 0.14, 0.04, tone(paint, 0.6))
    elif kind == "bollard":
        pen.limb((0, 0.02), (0, 0.45), 0.05, 0.045, paint)
        pen.limb((0, 0.36), (0, 0.38), 0.05, 0.05, (230, 230, 225))
    elif kind == "bench":
        for x in (-0.45, 0.45):
            pen.limb((x, 0), (x, 0.48), 0.025, 0.025, grey)
        for y in (0.25, 0.38, 0.47):
            pen.limb((-0.55, y), (0.55, y), 0.035, 0.035, wood)
    elif kind == "car":
        body = [(-1.25, 0.12), (-1.25, 0.42), (-0.85, 0.5), (-0.55, 0.8), (0.4, 0.8), (0.8, 0.5)]
        pen.polygon([*body, (1.25, 0.42), (1.28, 0.12)], paint)
        pen.polygon([(-0.75, 0.5), (-0.5, 0.75), (-0.1, 0.75), (-0.1, 0.5)], (48, 58, 68))
        pen.polygon([(-0.04, 0.5), (-0.04, 0.75), (0.36, 0.75), (0.68, 0.5)], (58, 68, 78))
        pen.polygon([(-1.25, 0.12), (-1.25, 0.2), (1.28, 0.2), (1.28, 0.12)], tone(paint, 0.6))
        for x in (-0.78, 0.76):
            pen.ellipse(x, 0.14, 0.17, 0.17, (28, 28, 30))
            pen.ellipse(x, 0.14, 0.09, 0.09, (150, 152, 155))
    elif kind == "hydrant":
        pen.limb((0, 0.03), (0, 0.3), 0.065, 0.055, paint)
        pen.limb((-0.1, 0.21), (0.1, 0.21), 0.035, 0.035, paint)
        pen.dome(0, 0.32, 0.07, 0.06, tone(paint, 0.8))
    else:
        for _ in range(26):
            x, y = rng.normal(0, 0.2), abs(rng.normal(0.18, 0.12))
            pen.ellipse(x, y, 0.12, 0.1, tone(leaf, float(rng.uniform(0.6, 1.3))))
    return pen.sprite(2, foot={"car": 1.15, "bench": 0.5}.get(kind, 0.15))


def draw_thing(height: float, rng: np.random.Generator) -> Sprite:
    """Something upright that has no name: one to four shapes on top of each other.

    What a detector has never seen must not pass for a person merely because it stands upright.

    Args:
        height: in pixels.
    """
    pen = Pen(left=0.5, right=0.5, up=1.05, down=0.05, scale=height * 2)
    edges = np.concatenate([[0.0], np.cumsum(rng.dirichlet(np.full(rng.integers(1, 5), 1.5)))])
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        wide, narrow = (float(value) for value in rng.uniform(0.02, 0.25, 2))
        grey = tone((128, 128, 128), float(rng.uniform(0.15, 1.9)))
        colour = grey if rng.random() < 0.4 else cloth(rng)
        shape = int(rng.integers(4))
        if shape == 0:
            pen.limb((0, low), (0, high), wide / 2, narrow / 2, colour)
        elif shape == 1:
            pen.polygon([(-wide, low), (wide, low), (narrow, high), (-narrow, high)], colour)
            pen.polygon([(-wide, low), (0, low), (0, high), (-narrow, high)], tone(colour, 0.8))
        elif shape == 2:
            pen.ellipse(0, (low + high) / 2, wide, (high - low) / 2, colour)
        else:
            pen.dome(0, low, wide, high - low, colour)
    return pen.sprite(2, foot=0.15)


@dataclass(frozen=True)
class _Shape:
    """How a thing is drawn.

    Attributes:
        half, up: half the width and the height of its sheet.
        draw: puts it there.
        foot: half the width of what touches the ground.
    """

    half: float
    up: float
    draw: Callable[[Pen, np.random.Generator], None]
    foot: float = 0.15


def draw_furniture(kind: str, unit: float, rng: np.random.Generator) -> Sprite:
    """One of `FURNITURE`; `unit` is the height of a person beside it, in pixels."""
    shape = FURNITURE[kind]
    pen = Pen(left=shape.half, right=shape.half, up=shape.up, down=0.1, scale=unit * 2)
    shape.draw(pen, rng)
    return pen.sprite(2, foot=shape.foot)


def _grey(rng: np.random.Generator) -> Colour:
    return tone((125, 126, 128), float(rng.uniform(0.25, 1.7)))


def _box(pen: Pen, half: float, low: float, high: float, colour: Colour, x: float = 0.0) -> None:
    pen.polygon([(x - half, low), (x + half, low), (x + half, high), (x - half, high)], colour)


def _pole(pen: Pen, rng: np.random.Generator) -> None:
    thick = float(rng.uniform(0.015, 0.07))
    pen.limb((0, 0), (0, float(rng.uniform(1.2, 2.9))), thick, thick * 0.9, _grey(rng))
    if rng.random() < 0.5:  # a box with switches, a bill
        low = float(rng.uniform(0.3, 0.9))
        _box(pen, thick + 0.05, low, low + float(rng.uniform(0.15, 0.4)), cloth(rng))


def _cone(pen: Pen, rng: np.random.Generator) -> None:
    _box(pen, 0.16, 0, 0.03, (40, 40, 42))
    colour = tone((225, 90, 30), float(rng.uniform(0.7, 1.1)))
    pen.polygon([(-0.12, 0.03), (0.12, 0.03), (0.025, 0.42), (-0.025, 0.42)], colour)
    pen.polygon([(-0.08, 0.16), (0.08, 0.16), (0.055, 0.25), (-0.055, 0.25)], (230, 230, 228))


def _column(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall = float(rng.uniform(0.12, 0.35)), float(rng.uniform(1.0, 1.7))
    body = _grey(rng)
    _box(pen, wide, 0, tall, body)
    if rng.random() < 0.6:
        _bills(pen, rng, wide, 0.15, tall - 0.1)
    _box(pen, wide * 0.3, 0, tall, tone(body, 0.75), -0.7 * wide)
    if rng.random() < 0.5:
        pen.dome(0, tall, wide * 1.1, 0.12, tone(body, 0.7))


def _bills(pen: Pen, rng: np.random.Generator, half: float, low: float, high: float) -> None:
    """Posters without people: fields of colour, lines of print."""
    for _ in range(int(rng.integers(1, 5))):
        wide, tall = float(rng.uniform(0.3, 0.9)) * half, float(rng.uniform(0.2, 0.5))
        x = float(rng.uniform(-1, 1)) * (half - wide)
        y = float(rng.uniform(low, max(low + 0.01, high - tall)))
        colour = cloth(rng)
        _box(pen, wide, y, min(high, y + tall), colour, x)
        for line in np.arange(y + 0.04, min(high, y + tall) - 0.04, 0.06).tolist():
            long = float(rng.uniform(0.3, 0.85)) * wide
            _box(pen, long, line, line + 0.02, tone(colour, float(rng.choice((0.4, 1.8)))), x)


def _board(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall = float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.6, 1.4))
    _box(pen, wide, 0.1, tall, _grey(rng))
    _bills(pen, rng, wide * 0.95, 0.15, tall - 0.05)
    for x in (-0.9 * wide, 0.9 * wide):
        pen.limb((x, 0), (x, tall), 0.02, 0.02, (70, 72, 75))


def _plant(pen: Pen, rng: np.random.Generator) -> None:
    leaf = tone((72, 110, 52), float(rng.uniform(0.5, 1.3)))
    pot, top = cloth(rng), float(rng.uniform(0.5, 1.15))
    pen.polygon([(-0.1, 0), (0.1, 0), (0.15, 0.28), (-0.15, 0.28)], pot)
    for _ in range(int(rng.integers(8, 26))):
        x, y = float(rng.normal(0, 0.16)), float(rng.uniform(0.35, top))
        pen.limb((0, 0.28), (x, y), 0.012, 0.03, tone(leaf, float(rng.uniform(0.6, 1.4))))


def _rack(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall, frame = float(rng.uniform(0.3, 0.6)), float(rng.uniform(0.8, 1.3)), _grey(rng)
    for x in (-wide, wide):
        pen.limb((x, 0), (x, tall), 0.02, 0.02, frame)
    for y in np.linspace(0.1, tall, int(rng.integers(3, 6))).tolist():
        _box(pen, wide, y - 0.02, y, frame)
        x = -wide + 0.05
        while x < wide - 0.1 and y < tall - 0.1:
            half, high = float(rng.uniform(0.02, 0.09)), float(rng.uniform(0.06, 0.2))
            _box(pen, half, y, y + high, cloth(rng), x + half)
            x += 2.2 * half


def _clothes(pen: Pen, rng: np.random.Generator) -> None:
    """Clothes on a rail: colours and folds of people, without one."""
    wide, tall = float(rng.uniform(0.3, 0.65)), float(rng.uniform(0.85, 1.05))
    for x in (-wide, wide):
        pen.limb((x, 0), (x, tall), 0.018, 0.018, (90, 92, 95))
    pen.limb((-wide, tall), (wide, tall), 0.018, 0.018, (90, 92, 95))
    for x in np.arange(-wide + 0.06, wide - 0.03, float(rng.uniform(0.06, 0.16))).tolist():
        colour, low = cloth(rng), float(rng.uniform(0.25, 0.55))
        pen.limb((x, tall - 0.1), (x, low), 0.03, float(rng.uniform(0.03, 0.09)), colour)


def _dummy(pen: Pen, rng: np.random.Generator) -> None:
    """A tailor's dummy: a trunk on a stand."""
    stand, body = _grey(rng), _grey(rng) if rng.random() < 0.6 else cloth(rng)
    pen.limb((0, 0.03), (0, 0.5), 0.018, 0.018, stand)
    _box(pen, 0.14, 0, 0.03, stand)
    pen.limb((0, 0.5), (0, 0.72), 0.1, 0.085, body)
    pen.limb((0, 0.62), (0, 0.78), 0.09, 0.11, body)
    pen.limb((0, 0.8), (0, 0.87), 0.035, 0.035, tone(body, 0.9))


def _window(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall = float(rng.uniform(0.15, 0.45)), float(rng.uniform(0.6, 1.3))
    frame, glass = _grey(rng), tone((70, 90, 110), float(rng.uniform(0.3, 2.0)))
    _box(pen, wide, 0, tall, frame)
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    for column in range(columns):
        for row in range(rows):
            x = wide * ((2 * column + 1) / columns - 1)
            shade = tone(glass, float(rng.uniform(0.7, 1.3)))
            low, high = (row + 0.08) * tall / rows, (row + 0.92) * tall / rows
            _box(pen, 0.86 * wide / columns, low, high, shade, x)


def _door(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall, face = float(rng.uniform(0.2, 0.3)), float(rng.uniform(1.05, 1.35)), cloth(rng)
    _box(pen, wide + 0.03, 0, tall + 0.03, _grey(rng))
    _box(pen, wide, 0, tall, face)
    for low in (0.12, 0.65):
        _box(pen, 0.7 * wide, low, low + 0.42, tone(face, float(rng.uniform(0.7, 1.2))))
    pen.ellipse(0.8 * wide, 0.55, 0.02, 0.02, (200, 190, 150))


def _parasol(pen: Pen, rng: np.random.Generator) -> None:
    colour = cloth(rng)
    pen.limb((0, 0), (0, 1.35), 0.02, 0.015, (180, 180, 178))
    if rng.random() < 0.5:
        pen.dome(0, 1.15, 0.6, 0.32, colour)
    else:
        pen.polygon([(-0.07, 0.55), (0.07, 0.55), (0.03, 1.4), (-0.03, 1.4)], colour)


def _lights(pen: Pen, rng: np.random.Generator) -> None:
    low = float(rng.uniform(0.9, 1.5))
    pen.limb((0, 0), (0, low + 0.35), 0.03, 0.03, _grey(rng))
    _box(pen, 0.08, low, low + 0.4, (35, 38, 38))
    lit = int(rng.integers(3))
    for place, colour in enumerate(((60, 200, 110), (230, 180, 50), (220, 50, 45))):
        shade = colour if place == lit else tone(colour, 0.3)
        pen.ellipse(0, low + 0.08 + 0.12 * place, 0.045, 0.045, shade)


def _barrier(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall, frame = float(rng.uniform(0.4, 0.9)), float(rng.uniform(0.5, 0.65)), _grey(rng)
    for x in np.linspace(-wide, wide, int(rng.integers(2, 14))).tolist():
        pen.limb((x, 0.04), (x, tall), 0.014, 0.014, frame)
    for y in (0.1, tall):
        pen.limb((-wide, y), (wide, y), 0.018, 0.018, frame)


def _cabinet(pen: Pen, rng: np.random.Generator) -> None:
    wide, tall, face = float(rng.uniform(0.15, 0.35)), float(rng.uniform(0.5, 1.1)), cloth(rng)
    _box(pen, wide, 0, tall, face)
    _box(pen, 0.25 * wide, 0, tall, tone(face, 0.7), -0.75 * wide)
    _box(pen, 0.5 * wide, 0.55 * tall, 0.75 * tall, tone(face, float(rng.choice((0.4, 1.6)))))
    if rng.random() < 0.5:
        pen.dome(0, tall, wide, 0.1, tone(face, 0.85))


FURNITURE = {
    "pole": _Shape(0.15, 3.0, _pole, 0.06),
    "cone": _Shape(0.2, 0.5, _cone),
    "column": _Shape(0.45, 1.9, _column, 0.3),
    "board": _Shape(0.7, 1.5, _board, 0.4),
    "plant": _Shape(0.75, 1.5, _plant),
    "rack": _Shape(0.7, 1.6, _rack, 0.5),
    "clothes": _Shape(0.8, 1.2, _clothes, 0.5),
    "dummy": _Shape(0.25, 1.0, _dummy),
    "window": _Shape(0.5, 1.4, _window, 0.0),
    "door": _Shape(0.4, 1.5, _door, 0.0),
    "parasol": _Shape(0.7, 1.6, _parasol, 0.1),
    "lights": _Shape(0.2, 2.0, _lights, 0.06),
    "barrier": _Shape(1.0, 0.75, _barrier, 0.8),
    "cabinet": _Shape(0.45, 1.3, _cabinet, 0.25),
}
"""What else stands in streets, shops and halls and is upright, as people are."""
