"""One view of a composed scene while it is filled with people and things."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.boxes import box_area
from models.datasets.cutouts import Person, as_sprite, soft_outline
from models.datasets.drawing import Sprite, extent, paste
from models.datasets.scene import UNLABELED
from models.datasets.synthetic import cast_shadows
from models.datasets.things import FURNITURE, PROPS, draw_furniture, draw_prop, draw_thing

# Things that are drawn: how many of a known kind, and heights of the others beside a person's.
KNOWN_SHARE, THING_HEIGHTS = 0.6, (0.2, 1.4)
# Of somebody already there, a newcomer hides at most so much.
MOST_HIDDEN = 0.45
# Shares of people who cast a shadow, who stand beside the one before, and who are as bright as
# their surroundings.
SHADOWED, GROUPED, LIT = 0.7, 0.35, 0.8
# How dark shadows are.
DEPTHS = (0.3, 1.0)
# Nobody is shown smaller, in pixels: not even a silhouette would be left.
LEAST_HEIGHT = 24


@dataclass(frozen=True)
class Seen:
    """Somebody in a composed scene.

    Attributes:
        person: place in `Material.people`; UNLABELED for somebody of a pedestrian scene.
        box: x1 y1 x2 y2 in pixels, within the scene.
        visible: share of them, in [0, 1]; of somebody labelled as ignored about 0.
    """

    person: int
    box: tuple[float, float, float, float]
    visible: float


class Stage:
    """One view while it is filled: a background with a ground that people stand on."""

    def __init__(
        self,
        picture: Image.Image,
        *,
        horizon: float,
        slope: float,
        far: float,
        near: float,
        tilt: float,
        there: Sequence[tuple[NDArray[np.float64], float]] = (),
        coarse: float = 1.0,
    ) -> None:
        """Set it up.

        Args:
            picture: the background; it is drawn on.
            horizon, slope, far, near, tilt: as of `Camera`: rows of the picture, heights of a
                person per row below the horizon, radians.
            there: people of the background: x1 y1 x2 y2 in pixels of the picture, and the share
                that is visible, in [0, 1].
            coarse: how many pixels of the picture are one of what it was made of, 1 or more.
        """
        self.picture = picture
        self.coarse = coarse
        self._horizon, self._slope, self._far, self._near = horizon, slope, far, near
        self._tilt = tilt
        self._owner = np.full((picture.height, picture.width), -1, np.int16)
        self._ids: list[int] = []
        self._boxes: list[NDArray[np.float64]] = []
        self._areas: list[float] = []
        for box, visible in there:
            x1, y1, x2, y2 = np.round(box).astype(int)
            self._owner[max(0, y1) : y2, max(0, x1) : x2] = len(self._ids)
            self._ids.append(UNLABELED)
            self._boxes.append(box)
            self._areas.append(float(box_area(box[None])[0]) / max(visible, 0.01))

    @property
    def tallest(self) -> float:
        """Height in pixels of somebody who stands nearest."""
        return self._slope * (self._near - self._horizon)

    def put_people(
        self, people: Sequence[tuple[int, Person, int]], rng: np.random.Generator
    ) -> None:
        """Let people stand on the ground, the farthest first; whoever finds no room is left out.

        Args:
            people: of each the number that `people` tells, who it is, and which view of them.

        Raises:
            DatasetError: a crop cannot be read.
        """
        rows = self._far + (self._near - self._far) * rng.random(len(people)) ** 1.2
        for number in np.flatnonzero(rng.random(len(people)) < GROUPED).tolist():
            if number:
                rows[number] = rows[number - 1] + rng.uniform(-0.02, 0.02) * self.picture.height
        rows = np.sort(rows)
        last: tuple[float, float] | None = None
        for (person, who, view), row in zip(people, rows.tolist(), strict=True):
            height = self._slope * (row - self._horizon) * float(rng.uniform(0.9, 1.08))
            if height < LEAST_HEIGHT:
                continue
            sprite = who.seen(view, height, self._tilt, rng)
            beside = None
            if last is not None and abs(row - last[0]) < 0.03 * self.picture.height:
                beside = last[1] + float(rng.choice((-1, 1)) * rng.uniform(0.25, 0.6)) * height
            column = self._free_column(sprite, row, rng, beside)
            if column is not None:
                if rng.random() < LIT:
                    sprite = self._as_bright(sprite, column, row, rng)
                depth = float(rng.uniform(*DEPTHS))
                if rng.random() < SHADOWED:
                    self._shade(column, row, height, sprite.foot, depth)
                self._put(person, sprite, column, row)
                last = row, column

    def put_alone(self, person: Person, view: int, rng: np.random.Generator) -> Image.Image:
        """Let somebody fill the view for the most part.

        Returns:
            A part of the picture: them, and up to a tenth of their height around.

        Raises:
            DatasetError: a crop cannot be read.
        """
        width, height = self.picture.size
        sprite = person.seen(view, 0.8 * height, self._tilt, rng)
        row, column = 0.95 * height, width / 2
        covered = paste(self.picture, sprite, round(column), round(row))
        sides = np.array(extent(covered))
        apart = rng.uniform(-0.02, 0.1, 4) * (sides[3] - sides[1]) * [0.6, 1, 0.6, 1]
        box = np.clip(sides + apart * [-1, -1, 1, 1], 0, [width, height, width, height])
        return self.picture.crop(tuple(box.round().astype(int).tolist()))

    def patch_size(self, rng: np.random.Generator) -> tuple[float, tuple[int, int]]:
        """A row to stand on, and width and height in pixels of a patch shaped as a person is."""
        row = float(rng.uniform(self._far, self._near))
        height = max(8, round(self._slope * (row - self._horizon)))
        return row, (max(4, round(height * float(rng.uniform(0.3, 0.65)))), height)

    def put_patch(self, patch: Image.Image, row: float, rng: np.random.Generator) -> None:
        """Paste a picture that shows nobody as people are pasted, if there is room for it."""
        sprite = as_sprite(patch, soft_outline(patch.width, patch.height, rng))
        column = self._free_column(sprite, row, rng)
        if column is not None:
            self._owner[paste(self.picture, sprite, round(column), round(row))] = -1

    def put_thing(self, rng: np.random.Generator) -> None:
        """Draw an object that stands on the ground, if there is room for it."""
        row = float(rng.uniform(self._far, self._near))
        unit = max(8.0, self._slope * (row - self._horizon))
        if rng.random() < KNOWN_SHARE:
            kind = int(rng.integers(len(PROPS) + len(FURNITURE)))
            if kind < len(PROPS):
                sprite = draw_prop(PROPS[kind], unit, rng)
            else:
                sprite = draw_furniture(sorted(FURNITURE)[kind - len(PROPS)], unit, rng)
        else:
            sprite = draw_thing(unit * float(rng.uniform(*THING_HEIGHTS)), rng)
        column = self._free_column(sprite, row, rng)
        if column is not None:
            self._shade(column, row, unit, sprite.foot, float(rng.uniform(*DEPTHS)))
            self._owner[paste(self.picture, sprite, round(column), round(row))] = -1

    def people(self) -> list[Seen]:
        """Who is in it and 4 pixels or more in width and height, as far as within the view."""
        found = []
        for index, (person, box, area) in enumerate(
            zip(self._ids, self._boxes, self._areas, strict=True)
        ):
            inside = np.clip(box, 0, [*self.picture.size, *self.picture.size])
            if (inside[2:] - inside[:2]).min() < 4:
                continue
            visible = min(1.0, float(np.count_nonzero(self._owner == index)) / area)
            x1, y1, x2, y2 = inside.tolist()
            found.append(Seen(person, (x1, y1, x2, y2), visible))
        return found

    def _put(self, person: int, sprite: Sprite, column: float, row: float) -> None:
        covered = paste(self.picture, sprite, round(column), round(row))
        if not covered.any():
            return
        self._owner[covered] = len(self._ids)
        box = _box(sprite, column, row)
        if not sprite.whole:
            box = _whole_extent(sprite, column, row)
        self._ids.append(person)
        self._boxes.append(box)
        self._areas.append(float(np.count_nonzero(np.asarray(sprite.mask) > 127)))

    def _shade(self, column: float, row: float, unit: float, foot: float, depth: float) -> None:
        """Cast a shadow, darkest at depth 1, on the part of the picture that it falls on."""
        reach = 1.5 * foot * unit + 20
        left, top = max(0, int(column - reach)), max(0, int(row - 0.1 * unit - 20))
        right = min(self.picture.width, int(column + reach) + 1)
        bottom = min(self.picture.height, int(row + 0.1 * unit + 20) + 1)
        if left < right and top < bottom:
            part = self.picture.crop((left, top, right, bottom))
            shaded = part.copy()
            cast_shadows(shaded, [(row - top, column - left, unit, foot)])
            self.picture.paste(Image.blend(part, shaded, depth), (left, top))

    def _as_bright(
        self, sprite: Sprite, column: float, row: float, rng: np.random.Generator
    ) -> Sprite:
        """The same in the light of where it stands, about."""
        box = np.clip(_box(sprite, column, row), 0, [*self.picture.size, *self.picture.size])
        x1, y1, x2, y2 = box.astype(int).tolist()
        if x2 <= x1 or y2 <= y1:
            return sprite
        around = np.asarray(self.picture.crop((x1, y1, x2, y2)).resize((8, 8)), np.float32)
        light = np.clip(0.5 + float(around.mean()) / 200, 0.55, 1.25) * rng.uniform(0.8, 1.2)
        tint = 1 + 0.3 * (around.mean(axis=(0, 1)) / max(1.0, float(around.mean())) - 1)
        table = np.arange(256)[:, None] * (light * tint).clip(0.3, 1.6)
        colour = sprite.colour.point(table.T.clip(0, 255).round().astype(int).ravel().tolist())
        return replace(sprite, colour=colour)

    def _free_column(
        self, sprite: Sprite, row: float, rng: np.random.Generator, beside: float | None = None
    ) -> float | None:
        """Where somebody can stand without hiding anybody for the most part; None if nowhere."""
        for attempt in range(12):
            column = float(rng.uniform(0.0, 1.0)) * self.picture.width
            if attempt == 0 and beside is not None and 0 <= beside < self.picture.width:
                column = beside
            box = _box(sprite, column, row)
            if most_hidden(np.array(self._boxes).reshape(-1, 4), box) < MOST_HIDDEN:
                return column
        return None


def _box(sprite: Sprite, column: float, row: float) -> NDArray[np.float64]:
    left, top = round(column) - sprite.x, round(row) - sprite.y
    return np.array([left, top, left + sprite.mask.width, top + sprite.mask.height], np.float64)


def _whole_extent(sprite: Sprite, column: float, row: float) -> NDArray[np.float64]:
    """The box of what the sprite covers, also where it reaches out of the picture."""
    left, top = round(column) - sprite.x, round(row) - sprite.y
    covered = np.array(extent(np.asarray(sprite.mask) > 127), np.float64)
    covered += [left, top, left, top]
    return covered


def most_hidden(boxes: NDArray[np.float64], by: NDArray[np.float64]) -> float:
    """The largest share of any of boxes [N, 4] that lies under another [4]; 0 without any."""
    sides = np.minimum(boxes[:, 2:], by[2:]) - np.maximum(boxes[:, :2], by[:2])
    shares = np.clip(sides, 0, None).prod(axis=1) / box_area(boxes)
    return float(shares.max(initial=0.0))
