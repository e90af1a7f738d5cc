"""Contact sheets: people cut out of their scenes, in rows, with a frame and a caption each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

GROUND: Colour = (250, 250, 248)
INK: Colour = (28, 30, 34)
SOFT: Colour = (100, 104, 112)
EMPTY: Colour = (232, 232, 228)
GREEN: Colour = (0, 150, 80)
RED: Colour = (214, 48, 40)
GREY: Colour = (150, 152, 158)
BLUE: Colour = (40, 120, 230)

MARGIN, GAP, BETWEEN = 24, 6, 26
TITLE_PX, TEXT_PX, CAPTION_PX = 28, 18, 15
FRAME = 4
MARK = 20


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        pixels: [H, W, 3]; None leaves the place empty.
        caption: a word or two.
        frame: its colour; GREEN and RED are also marked with a check and a cross.
    """

    pixels: NDArray[np.uint8] | None
    caption: str
    frame: Colour | None = None


def crop(pixels: NDArray[np.uint8], box: NDArray[np.floating]) -> NDArray[np.uint8]:
    """What is in a box [4] of a picture, a pixel at least."""
    height, width = pixels.shape[:2]
    x1, y1 = (max(0, int(np.floor(corner))) for corner in box[:2])
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    x2, y2 = max(x1 + 1, int(np.ceil(box[2]))), max(y1 + 1, int(np.ceil(box[3])))
    return pixels[y1:y2, x1:x2]


def in_context(
    pixels: NDArray[np.uint8],
    box: NDArray[np.floating],
    *,
    colour: Colour,
    others: NDArray[np.floating],
    size: tuple[int, int],
) -> NDArray[np.uint8]:
    """A box [4] drawn where it stands, with half its height around it: [size[1], size[0], 3].

    Args:
        others: [N, 4], boxes that are drawn thinly and in BLUE.
        size: width and height in pixels; what is beyond the picture's edge is empty.
    """
    aspect = size[0] / size[1]
    tall = max(2.0 * (box[3] - box[1]), 1.4 * (box[2] - box[0]) / aspect, 8.0)
    wide = tall * aspect
    left = _within((box[0] + box[2] - wide) / 2, wide, pixels.shape[1])
    top = _within((box[1] + box[3] - tall) / 2, tall, pixels.shape[0])
    view = left, top, left + wide, top + tall
    scale = size[1] / tall
    shown = Image.fromarray(pixels).transform(
        size, Image.Transform.EXTENT, view, Image.Resampling.BICUBIC, fillcolor=EMPTY
    )
    draw = ImageDraw.Draw(shown)
    for one, paint, line in [*((other, BLUE, 2) for other in others), (box, colour, 3)]:
        corners = (np.asarray(one).reshape(2, 2) - (left, top)) * scale
        draw.rectangle([tuple(corner) for corner in corners.tolist()], outline=paint, width=line)
    return np.asarray(shown)


def draw_sheet(
    path: Path,
    groups: Sequence[Sequence[Tile]],
    *,
    title: str,
    note: str,
    tile: tuple[int, int],
    per_row: int,
) -> None:
    """Write a sheet of groups of tiles, each group side by side.

    Args:
        groups: one at least.
        note: a line under the title.
        tile: width and height in pixels.
        per_row: groups in a row.
    """
    longest = max(len(group) for group in groups)
    cell = longest * (tile[0] + GAP) - GAP + BETWEEN, tile[1] + CAPTION_PX + BETWEEN
    columns = min(per_row, len(groups))
    rows = -(-len(groups) // columns)
    head = MARGIN + TITLE_PX + TEXT_PX + 30
    needed = max(_width(title, TITLE_PX), _width(note, TEXT_PX))
    width = 2 * MARGIN + max(columns * cell[0] - BETWEEN, needed)
    canvas = Image.new("RGB", (width, head + rows * cell[1] + MARGIN), GROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN, MARGIN), title, INK, _font(TITLE_PX))
    draw.text((MARGIN, MARGIN + TITLE_PX + 10), note, SOFT, _font(TEXT_PX))
    for number, group in enumerate(groups):
        x = MARGIN + (number % columns) * cell[0]
        y = head + (number // columns) * cell[1]
        for place, own in enumerate(group):
            _put(canvas, own, (x + place * (tile[0] + GAP), y), tile)
    canvas.save(path, compress_level=1)  # a third of the time for a tenth more bytes


def _within(start: float, length: float, whole: int) -> float:
    """The start of an interval after moving it inside the picture; centred if it is longer."""
    return min(max(start, 0.0), whole - length) if length <= whole else (whole - length) / 2


def _put(canvas: Image.Image, own: Tile, at: tuple[int, int], size: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(canvas)
    corners = (*at, at[0] + size[0] - 1, at[1] + size[1] - 1)
    draw.rectangle(corners, EMPTY)
    if own.pixels is not None:
        inner = size[0] - 2 * FRAME, size[1] - 2 * FRAME
        scale = min(inner[0] / own.pixels.shape[1], inner[1] / own.pixels.shape[0])
        fitted = [max(1, round(side * scale)) for side in own.pixels.shape[1::-1]]
        picture = Image.fromarray(own.pixels).resize(fitted, Image.Resampling.BICUBIC)
        left, top = ((size[side] - picture.size[side]) // 2 for side in (0, 1))
        canvas.paste(picture, (at[0] + left, at[1] + top))
    if own.frame is not None:
        draw.rectangle(corners, outline=own.frame, width=FRAME)
        _mark(draw, own.frame, corners[2:])
    middle = at[0] + size[0] // 2
    colour = own.frame if own.frame in (GREEN, RED) else INK
    draw.text((middle, at[1] + size[1] + 4), own.caption, colour, _font(CAPTION_PX), anchor="ma")


def _mark(draw: ImageDraw.ImageDraw, frame: Colour, corner: tuple[int, int]) -> None:
    """A check or a cross in the lower right corner: red and green are not told apart by all."""
    if frame not in (GREEN, RED):
        return
    x, y = corner[0] - MARK, corner[1] - MARK
    draw.rectangle((x, y, *corner), frame)
    if frame == GREEN:
        draw.line([(x + 5, y + 11), (x + 9, y + 15), (x + 16, y + 5)], "white", 3)
    else:
        draw.line([(x + 5, y + 5), (x + 15, y + 15)], "white", 3)
        draw.line([(x + 15, y + 5), (x + 5, y + 15)], "white", 3)


def _width(text: str, size: int) -> int:
    return int(_font(size).getlength(text)) + 1


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
