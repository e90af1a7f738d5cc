"""Drawing stylised people, for the generated dataset.

Shapes are given in body units: a person is about 1 tall, x points right, y up, and the origin lies
on the ground between the feet. A body is a small 3-D skeleton, so that a look can be drawn from any
side and at any moment of a step.
"""

import colorsys
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SKIN = ((244, 205, 176), (224, 172, 138), (198, 134, 96), (150, 98, 66), (101, 67, 46))
HAIR = ((28, 22, 20), (60, 40, 28), (104, 70, 42), (176, 132, 72), (140, 140, 142), (120, 48, 28))
PATTERNS = ("plain", "plain", "hoops", "stripes", "logo", "halves", "jacket", "sash", "checks")
LOWERS = ("trousers", "trousers", "trousers", "shorts", "skirt", "dress", "coat")
HAIRSTYLES = ("short", "short", "long", "bun", "bald")
HATS = ("none", "none", "none", "cap", "beanie", "brim")
BAGS = ("none", "none", "backpack", "handbag", "shoulder")

FOLDS = Image.fromarray(
    np.random.default_rng(0).normal(128, 22, (60, 120)).clip(0, 255).astype(np.uint8)
).filter(ImageFilter.GaussianBlur(0.8))
"""Brightness of creased cloth, around 128; stretched over everything that is drawn."""


@dataclass(frozen=True)
class Look:
    """What makes a person recognisable. build and height are factors around 1."""

    skin: Colour
    hair: Colour
    top: Colour
    accent: Colour
    bottom: Colour
    shoes: Colour
    hat_colour: Colour
    bag_colour: Colour
    pattern: str
    lower: str
    hairstyle: str
    hat: str
    bag: str
    long_sleeves: bool
    build: float
    height: float


@dataclass(frozen=True)
class Sprite:
    """A drawn thing.

    Attributes:
        colour: RGB, times its coverage.
        mask: Coverage, 0 to 255.
        x, y: The pixel that it stands on.
        foot: Half the width of what touches the ground, in heights of a person.
        whole: Its box is the whole sheet, not only what the mask covers.
    """

    colour: Image.Image
    mask: Image.Image
    x: int
    y: int
    foot: float
    whole: bool = False


def random_look(rng: np.random.Generator) -> Look:
    def one_of(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    def jitter(colour: Colour) -> Colour:
        return tone(colour, float(rng.uniform(0.88, 1.1)))

    top = cloth(rng)
    return Look(
        skin=jitter(SKIN[rng.integers(len(SKIN))]),
        hair=jitter(HAIR[rng.integers(len(HAIR))]),
        top=top,
        accent=contrasting(rng, top),
        bottom=cloth(rng, bright=0.35),
        shoes=cloth(rng, bright=0.3),
        hat_colour=cloth(rng),
        bag_colour=cloth(rng),
        pattern=one_of(PATTERNS),
        lower=one_of(LOWERS),
        hairstyle=one_of(HAIRSTYLES),
        hat=one_of(HATS),
        bag=one_of(BAGS),
        long_sleeves=bool(rng.random() < 0.6),
        build=float(rng.uniform(0.85, 1.25)),
        height=float(rng.uniform(0.9, 1.06)),
    )


def cloth(rng: np.random.Generator, bright: float = 0.6) -> Colour:
    """A colour people wear: with probability `bright` a hue, else black to white, or denim."""
    draw = rng.random()
    if draw < bright:
        hue, saturation = rng.random(), rng.uniform(0.3, 0.78)
        value = rng.uniform(0.3, 0.85)
    elif draw < bright + (1 - bright) * 0.3:
        hue, saturation, value = (
            rng.uniform(0.58, 0.64),
            rng.uniform(0.3, 0.6),
            rng.uniform(0.3, 0.6),
        )
    else:
        hue, saturation, value = (
            rng.random(),
            rng.uniform(0, 0.12),
            rng.choice((0.12, 0.3, 0.55, 0.92)),
        )
    red, green, blue = colorsys.hsv_to_rgb(float(hue), float(saturation), float(value))
    return int(red * 255), int(green * 255), int(blue * 255)


def contrasting(rng: np.random.Generator, colour: Colour) -> Colour:
    """Another colour of cloth, far enough from the given one to be seen upon it."""
    candidates = [cloth(rng) for _ in range(6)]
    return max(
        candidates, key=lambda other: sum(abs(a - b) for a, b in zip(other, colour, strict=True))
    )


def tone(colour: Colour, factor: float) -> Colour:
    red, green, blue = (max(0, min(255, round(value * factor))) for value in colour)
    return red, green, blue


class Pen:
    """Draws shapes given in body units on a transparent sheet, `scale` pixels per unit."""

    def __init__(self, *, left: float, right: float, up: float, down: float, scale: float) -> None:
        self.scale, self.left, self.up = scale, left, up
        size = math.ceil((left + right) * scale), math.ceil((up + down) * scale)
        self.colour = Image.new("RGB", size)
        self.mask = Image.new("L", size)
        self._paint = ImageDraw.Draw(self.colour)
        self._cover = ImageDraw.Draw(self.mask)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        return [((x + self.left) * self.scale, (self.up - y) * self.scale) for x, y in points]

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        pixels = self._pixels(points)
        self._paint.polygon(pixels, fill=colour)
        self._cover.polygon(pixels, fill=255)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        corners = self._pixels([(x - rx, y + ry), (x + rx, y - ry)])
        self._paint.ellipse(corners, fill=colour)
        self._cover.ellipse(corners, fill=255)

    def dome(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        """The upper half of an ellipse."""
        corners = self._pixels([(x - rx, y + ry), (x + rx, y - ry)])
        self._paint.pieslice(corners, 180, 360, fill=colour)
        self._cover.pieslice(corners, 180, 360, fill=255)

    def limb(self, start: Point, end: Point, r_start: float, r_end: float, colour: Colour) -> None:
        """A tapered, rounded stroke, darker at its rims and lit from the upper left."""
        length = math.hypot(end[0] - start[0], end[1] - start[1]) or 1e-6
        nx, ny = -(end[1] - start[1]) / length, (end[0] - start[0]) / length
        for factor, width, shift in ((0.72, 1.0, 0.0), (0.9, 0.84, 0.1), (1.06, 0.5, 0.26)):
            (ax, ay), (bx, by) = (
                (x - shift * r, y + shift * r * 0.4)
                for (x, y), r in ((start, r_start), (end, r_end))
            )
            ra, rb = r_start * width, r_end * width
            shade = tone(colour, factor)
            self.ellipse(ax, ay, ra, ra, shade)
            self.ellipse(bx, by, rb, rb, shade)
            self.polygon(
                [
                    (ax + nx * ra, ay + ny * ra),
                    (bx + nx * rb, by + ny * rb),
                    (bx - nx * rb, by - ny * rb),
                    (ax - nx * ra, ay - ny * ra),
                ],
                shade,
            )

    def sprite(self, shrink: int, foot: float = 0.2) -> Sprite:
        """The sheet, anti-aliased to 1/shrink of its size, with round shading and some texture."""
        colour, mask = self.colour.reduce(shrink), self.mask.reduce(shrink)
        unit = self.scale / shrink
        soft = mask.filter(ImageFilter.GaussianBlur(max(0.8, 0.018 * unit)))
        step = max(1, round(0.015 * unit))
        lit = ImageChops.subtract(
            ImageChops.offset(soft, -step, -step), ImageChops.offset(soft, step, step), 2, 128
        )
        folds = FOLDS.resize(
            mask.size, Image.Resampling.BILINEAR, (0, 0, min(120, mask.width / unit * 40), 60)
        )
        shade = np.asarray(lit, dtype=np.float32) / 128 * 0.55 + 0.45
        shade = (shade * (np.asarray(folds, dtype=np.float32) / 128))[..., None]
        shaded = np.minimum(np.asarray(colour) * shade, np.asarray(mask)[..., None])
        return Sprite(
            Image.fromarray(shaded.astype(np.uint8)),
            mask,
            round(self.left * unit),
            round(self.up * unit),
            foot,
        )


def draw_person(
    look: Look, height: float, *, facing: float, phase: float, tilt: float = 0.12
) -> Sprite:
    """A walking person.

    Args:
        height: Pixels from sole to crown of somebody whose look.height is 1.
        facing: Radians; 0 towards the viewer, π/2 to the right, π away.
        phase: Radians; where in the step.
        tilt: Radians the camera looks down.
    """
    shrink = 3 if height < 150 else 2
    pen = Pen(left=0.45, right=0.45, up=1.2, down=0.12, scale=height * shrink)
    body = _Body(pen, look, facing, phase, tilt)
    parts = sorted(body.parts(), key=lambda part: part[0])
    for _, draw in parts:
        draw()
    return pen.sprite(shrink)


class _Body:
    """Joints and parts of one pose. Sides are −1 (the person's right) and +1."""

    def __init__(self, pen: Pen, look: Look, facing: float, phase: float, tilt: float) -> None:
        self.pen, self.look, self.tilt = pen, look, tilt
        self.cos, self.sin = math.cos(facing), math.sin(facing)
        self.wide = look.build
        swing = 0.42 * math.sin(phase)
        self.legs = {side: self._leg(side, side * swing) for side in (-1, 1)}
        self.arms = {side: self._arm(side, -side * swing) for side in (-1, 1)}
        self.ground = min(toe[1] for leg in self.legs.values() for toe in leg[2:])

    def _leg(self, side: int, angle: float) -> list[tuple[float, float, float]]:
        bend = 0.08 + (0.75 * -angle if angle < 0 else 0.0)
        hip = (side * 0.052 * self.wide, 0.5, 0.0)
        knee = (hip[0], hip[1] - 0.235 * math.cos(angle), 0.235 * math.sin(angle))
        low = angle - bend
        ankle = (hip[0], knee[1] - 0.225 * math.cos(low), knee[2] + 0.225 * math.sin(low))
        toe = (hip[0] * 1.3, ankle[1] - 0.02, ankle[2] + 0.075)
        return [hip, knee, ankle, toe]

    def _arm(self, side: int, angle: float) -> list[tuple[float, float, float]]:
        shoulder = (side * 0.106 * self.wide, 0.782, 0.0)
        out = side * 0.03
        elbow = (shoulder[0] + out, 0.782 - 0.165 * math.cos(angle), 0.165 * math.sin(angle))
        low = angle + 0.35
        wrist = (
            elbow[0] - out * 0.3,
            elbow[1] - 0.15 * math.cos(low),
            elbow[2] + 0.15 * math.sin(low),
        )
        return [shoulder, elbow, wrist]

    def at(self, x: float, y: float, z: float) -> Point:
        """A point of the body (x to its left, y up, z to its front) on the sheet."""
        depth = -x * self.sin + z * self.cos
        up = (y - self.ground - 0.02) * self.look.height
        return x * self.cos + z * self.sin, up - depth * self.tilt

    def across(self, width: float, depth: float) -> float:
        """Half the breadth on the sheet of an ellipse seen from this side."""
        return math.hypot(width * self.cos, depth * self.sin)

    def parts(self) -> list[tuple[float, Callable[[], None]]]:
        """(depth, how to draw it), to be drawn by rising depth."""
        parts: list[tuple[float, Callable[[], None]]] = [(0.0, self.torso), (0.2, self.head)]
        for side in (-1, 1):
            near = -side * self.sin
            parts.append((-0.5 + 0.1 * near, partial(self.leg, side)))
            parts.append((0.05 + 0.1 * near if near > -0.3 else -0.1, partial(self.arm, side)))
        if self.look.bag == "backpack":
            parts.append((0.1 if self.cos < -0.2 else -0.2, self.backpack))
        elif self.look.bag != "none":
            parts.append((0.3 if self.sin < 0.4 else -0.2, self.handbag))
        if self.look.hairstyle == "long":
            parts.append((0.19 if self.cos < 0.1 else -0.3, self.long_hair))
        return parts

    def leg(self, side: int) -> None:
        look, pen, thick = self.look, self.pen, 0.5 + 0.5 * self.wide
        hip, knee, ankle, toe = (self.at(*joint) for joint in self.legs[side])
        covered = look.lower in ("trousers", "coat")
        shin = look.bottom if covered else look.skin
        thigh = look.bottom if covered or look.lower == "shorts" else look.skin
        pen.limb(ankle, toe, 0.024, 0.022, look.shoes)
        pen.limb(knee, ankle, 0.041 * thick, (0.032 if covered else 0.024) * thick, shin)
        pen.limb(hip, knee, 0.062 * thick, 0.044 * thick, thigh)
        if look.lower == "shorts":
            end = (hip[0] * 0.1 + knee[0] * 0.9, hip[1] * 0.1 + knee[1] * 0.9)
            pen.limb(hip, end, 0.064 * thick, 0.056 * thick, thigh)

    def arm(self, side: int) -> None:
        look, pen, thick = self.look, self.pen, 0.55 + 0.45 * self.wide
        shoulder, elbow, wrist = (self.at(*joint) for joint in self.arms[side])
        sleeve = look.accent if look.pattern == "halves" else look.top
        lower = sleeve if look.long_sleeves or look.lower == "coat" else look.skin
        hand = (wrist[0] * 1.12 - elbow[0] * 0.12, wrist[1] * 1.12 - elbow[1] * 0.12)
        pen.ellipse(*hand, 0.021, 0.025, look.skin)
        pen.limb(elbow, wrist, 0.032 * thick, 0.024 * thick, lower)
        pen.limb(shoulder, elbow, 0.038 * thick, 0.033 * thick, sleeve)

    def torso(self) -> None:
        look, wide = self.look, self.wide
        hem = {"coat": 0.27, "dress": 0.3, "skirt": 0.47}.get(look.lower, 0.45)
        stride = 0.35 * abs(self.legs[1][1][2] - self.legs[-1][1][2]) * abs(self.sin)
        heights = [0.84, 0.815, 0.785, 0.64, 0.5, hem]
        half = [
            self.across(0.05, 0.045),
            self.across(0.1 * wide, 0.06 * wide),
            self.across(0.128 * wide, 0.07 * wide),
            self.across(0.108 * wide, 0.076 * wide),
            self.across(0.112 * wide, 0.088 * wide),
            self.across(0.115 * wide, 0.09 * wide) + (stride + 0.02 if hem < 0.4 else 0.0),
        ]

        def point(u: float, y: float) -> Point:
            breadth = float(np.interp(-y, [-h for h in heights], half))
            return u * breadth, self.at(0, y, 0)[1]

        def patch(u0: float, u1: float, y0: float, y1: float, colour: Colour) -> None:
            inner = [h for h in heights if min(y0, y1) < h < max(y0, y1)]
            column = [max(y0, y1), *inner, min(y0, y1)]
            left = [point(u0, y) for y in column]
            self.pen.polygon(left + [point(u1, y) for y in reversed(column)], colour)

        if look.lower == "skirt":
            low = half[5] + stride + 0.03
            self.pen.polygon(
                [
                    point(-0.95, 0.5),
                    point(0.95, 0.5),
                    (low, self.at(0, 0.3, 0)[1]),
                    (-low, self.at(0, 0.3, 0)[1]),
                ],
                look.bottom,
            )
        neck = self.at(0, 0.85, 0)
        self.pen.limb((neck[0], neck[1] - 0.03), neck, 0.036, 0.033, tone(look.skin, 0.85))
        patch(-1, 1, 0.835, hem, look.top)
        self._pattern(patch, hem)
        for u in (-1.0, 0.72):
            shade = tone(look.accent if look.pattern == "halves" else look.top, 0.72)
            patch(u, u + 0.28, 0.79, hem, shade)

    def _pattern(
        self, patch: Callable[[float, float, float, float, Colour], None], hem: float
    ) -> None:
        look, front = self.look, self.cos > 0
        turn = self.sin * 0.9
        if look.pattern == "hoops":
            for y in np.arange(0.78, hem + 0.03, -0.075):
                patch(-1, 1, float(y), float(y) - 0.035, look.accent)
        elif look.pattern == "stripes":
            for u in np.arange(-0.9, 0.9, 0.4):
                patch(float(u), float(u) + 0.18, 0.81, hem, look.accent)
        elif look.pattern == "checks":
            for row, y in enumerate(np.arange(0.8, hem + 0.05, -0.06)):
                for u in np.arange(-1.0 + 0.33 * (row % 2), 0.95, 0.66):
                    patch(
                        float(u), min(1.0, float(u) + 0.33), float(y), float(y) - 0.06, look.accent
                    )
        elif look.pattern == "halves":
            patch(-1, 1, 0.835, 0.68, look.accent)
        elif look.pattern == "sash":
            patch(-1, 1, 0.66, 0.58, look.accent)
        elif look.pattern == "logo" and abs(turn) < 0.75:
            patch(turn - 0.4, turn + 0.4, 0.75, 0.63, look.accent)
        elif look.pattern == "jacket" and front and abs(turn) < 0.8:
            patch(max(-1, turn - 0.3), min(1, turn + 0.3), 0.83, hem, look.accent)

    def head(self) -> None:
        look, pen = self.look, self.pen
        x, y = self.at(0, 0.925, 0.012)
        hair = tone(look.skin, 0.97) if look.hairstyle == "bald" else look.hair
        pen.ellipse(x - 0.008 * self.sin, y + 0.006, 0.057, 0.074, tone(hair, 0.8))
        pen.ellipse(x - 0.012 * self.sin, y + 0.01, 0.05, 0.066, hair)
        if look.hairstyle == "bun":
            bun = self.at(0, 0.995, -0.035)
            pen.ellipse(*bun, 0.028, 0.028, tone(hair, 0.9))
        if self.cos > -0.35:
            shift = 0.03 * self.sin
            rx = 0.045 - 0.012 * abs(self.sin)
            pen.ellipse(x + shift, y - 0.012, rx, 0.058, tone(look.skin, 0.86))
            pen.ellipse(x + shift - 0.004, y - 0.01, rx * 0.86, 0.052, look.skin)
            pen.dome(x + shift * 0.6, y + 0.018, rx * 1.05, 0.04, hair)
            for eye in (-0.018, 0.018):
                ex = eye * self.cos + 0.044 * self.sin
                if abs(ex) < 0.05:
                    pen.ellipse(x + ex, y - 0.004, 0.006, 0.005, (40, 30, 28))
            pen.ellipse(
                x + 0.048 * self.sin,
                y - 0.042,
                0.013 * max(0.4, self.cos),
                0.004,
                tone(look.skin, 0.6),
            )
        if look.hat != "none":
            pen.dome(x, y + 0.02, 0.06, 0.068, look.hat_colour)
            pen.dome(x - 0.01, y + 0.028, 0.04, 0.052, tone(look.hat_colour, 1.15))
        if look.hat == "cap":
            pen.ellipse(x + 0.06 * self.sin, y + 0.022, 0.045, 0.012, tone(look.hat_colour, 0.75))
        elif look.hat == "brim":
            pen.ellipse(x, y + 0.02, 0.098, 0.018, tone(look.hat_colour, 0.75))

    def long_hair(self) -> None:
        x, y = self.at(0, 0.9, -0.02)
        self.pen.limb((x, y), (x - 0.015 * self.sin, y - 0.11), 0.058, 0.05, self.look.hair)

    def backpack(self) -> None:
        low, high = self.at(0, 0.6, -0.12), self.at(0, 0.74, -0.11)
        half = self.across(0.085, 0.055)
        self.pen.limb(high, low, half, half * 1.1, self.look.bag_colour)
        if self.cos < -0.2:
            pocket = tone(self.look.bag_colour, 0.7)
            self.pen.limb(
                (low[0] - half * 0.5, low[1] - 0.02),
                (low[0] + half * 0.5, low[1] - 0.02),
                0.028,
                0.028,
                pocket,
            )

    def handbag(self) -> None:
        y = 0.4 if self.look.bag == "handbag" else 0.5
        x, up = self.at(0.165 * self.wide, y, 0.0)
        half = self.across(0.03, 0.07)
        if self.look.bag == "shoulder":
            strap = self.at(-0.07, 0.82, 0.0)
            self.pen.limb(strap, (x, up + 0.05), 0.009, 0.009, tone(self.look.bag_colour, 0.7))
        self.pen.limb((x, up + 0.04), (x, up - 0.03), half, half * 1.15, self.look.bag_colour)


def extent(covered: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x1 y1 x2 y2 of what is covered [H, W], which is something."""
    x, y = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
    return int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1


def paste(canvas: Image.Image, sprite: Sprite, x: int, y: int) -> NDArray[np.bool_]:
    """Put a sprite's standing point at (x, y); says which pixels [H, W] it now covers."""
    left, top = x - sprite.x, y - sprite.y
    box = (
        max(0, left),
        max(0, top),
        min(canvas.width, left + sprite.mask.width),
        min(canvas.height, top + sprite.mask.height),
    )
    covered = np.zeros((canvas.height, canvas.width), dtype=np.bool_)
    if box[0] >= box[2] or box[1] >= box[3]:
        return covered
    inside = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    mask = sprite.mask.crop(inside)
    behind = ImageChops.multiply(
        canvas.crop(box), Image.merge("RGB", [ImageChops.invert(mask)] * 3)
    )
    canvas.paste(ImageChops.add(behind, sprite.colour.crop(inside)), box[:2])
    covered[box[1] : box[3], box[0] : box[2]] = np.asarray(mask) > 127
    return covered
