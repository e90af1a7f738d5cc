"""The demo's picture: the person asked for at the left, the best answers at the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GROUND = (250, 250, 248)
INK = (28, 30, 34)
SOFT = (112, 116, 124)
CARD = (255, 255, 255)
EDGE = (222, 222, 218)
QUERY = (214, 96, 22)
HIT = (28, 108, 214)
SAME = (20, 140, 74)

MARGIN, GAP, HEADER = 40, 24, 112
QUERY_WIDTH, QUERY_HEIGHT = 360, 890
SCENE, CROP = (400, 300), (120, 300)
CAPTION = 84
PAD = 14


@dataclass(frozen=True)
class Panel:
    """A scene with one box; `same` when labels say that it is the person asked for."""

    pixels: NDArray[np.uint8]
    box: tuple[float, float, float, float]
    title: str
    name: str
    same: bool


def draw_result(query: Panel, answers: Sequence[Panel], about: str, out: Path) -> list[Path]:
    """Write result.jpg and result.png into a folder, and return their paths.

    Args:
        about: a line under the heading.
    """
    columns = 2
    rows = -(-len(answers) // columns)
    cell = SCENE[0] + CROP[0] + 3 * PAD, SCENE[1] + CAPTION + 2 * PAD
    width = 2 * MARGIN + QUERY_WIDTH + columns * (GAP + cell[0])
    height = max(HEADER + rows * (cell[1] + GAP) + MARGIN, HEADER + QUERY_HEIGHT + 2 * MARGIN + GAP)
    canvas = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, 28), "Person search", INK, _font(40))
    draw.text((MARGIN, 78), about, SOFT, _font(20))
    _query(canvas, query, (MARGIN, HEADER))
    for number, answer in enumerate(answers):
        x = MARGIN + QUERY_WIDTH + GAP + (number % columns) * (cell[0] + GAP)
        y = HEADER + (number // columns) * (cell[1] + GAP)
        _answer(canvas, answer, (x, y), cell)
    lines = ["score = detection score times similarity"]
    if any(answer.same for answer in answers):
        lines += ["green: the labels say it is the same person"]
    foot = (MARGIN, HEADER + QUERY_HEIGHT + GAP)
    draw.multiline_text(foot, "\n".join(lines), SOFT, _font(17), spacing=8)
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "result.jpg", out / "result.png"]
    canvas.save(paths[0], quality=92)
    canvas.save(paths[1])
    return paths


def _query(canvas: Image.Image, query: Panel, at: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(canvas)
    x, y = at
    draw.rounded_rectangle((x, y, x + QUERY_WIDTH, y + QUERY_HEIGHT), 16, CARD, EDGE, 2)
    draw.text((x + PAD, y + PAD), query.title, QUERY, _font(30))
    inner = QUERY_WIDTH - 2 * PAD
    crop = _fit(_crop(query), (inner, 460), enlarge=True)
    top = y + 64
    canvas.paste(crop, (x + (QUERY_WIDTH - crop.width) // 2, top))
    top += 460 + 24
    draw.text((x + PAD, top), "taken from", SOFT, _font(18))
    draw.text((x + PAD, top + 24), _short(query.name, 32), INK, _font(18))
    scene = _fit(_boxed(query, QUERY), (inner, 260))
    canvas.paste(scene, (x + PAD, top + 58))


def _answer(canvas: Image.Image, answer: Panel, at: tuple[int, int], size: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(canvas)
    x, y = at
    colour = SAME if answer.same else HIT
    draw.rounded_rectangle((x, y, x + size[0], y + size[1]), 16, CARD, EDGE, 2)
    scene = _fit(_boxed(answer, colour), SCENE)
    canvas.paste(
        scene, (x + PAD + (SCENE[0] - scene.width) // 2, y + PAD + (SCENE[1] - scene.height) // 2)
    )
    crop = _fit(_crop(answer), CROP, enlarge=True)
    left = x + 2 * PAD + SCENE[0]
    canvas.paste(crop, (left + (CROP[0] - crop.width) // 2, y + PAD + (CROP[1] - crop.height) // 2))
    top = y + PAD + SCENE[1] + 12
    draw.text((x + PAD, top), answer.title, colour, _font(28))
    if answer.same:
        draw.text((x + size[0] - PAD, top + 6), "same person", SAME, _font(20), anchor="ra")
    draw.text((x + PAD, top + 38), _short(answer.name, 48), SOFT, _font(18))


def _boxed(panel: Panel, colour: tuple[int, int, int]) -> Image.Image:
    """The scene with its box, drawn as wide as it takes to be seen when made small."""
    scene = Image.fromarray(panel.pixels)
    line = max(3, round(scene.width / 110))
    x1, y1, x2, y2 = panel.box
    outer = max(0, x1 - line), max(0, y1 - line), x2 + line, y2 + line
    ImageDraw.Draw(scene).rectangle(outer, outline=colour, width=line)
    return scene


def _crop(panel: Panel) -> Image.Image:
    x1, y1, x2, y2 = (round(side) for side in panel.box)
    return Image.fromarray(panel.pixels).crop((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))


def _fit(picture: Image.Image, size: tuple[int, int], *, enlarge: bool = False) -> Image.Image:
    """As large as fits."""
    scale = min(size[0] / picture.width, size[1] / picture.height)
    if not enlarge:
        scale = min(scale, 1)
    target = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(target, Image.Resampling.LANCZOS)


def _short(name: str, characters: int) -> str:
    return name if len(name) <= characters else "…" + name[1 - characters :]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
